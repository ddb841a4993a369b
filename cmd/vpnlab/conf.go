package main

import (
	"fmt"
	"net/netip"
	"strings"

	"oakley/internal/lab"
)

// gateway is what the how-to calls one of the two machines.
type gateway struct {
	name, peer          string
	connection          string
	local, remote       netip.Addr
	localNet, remoteNet string // names of sections, as the connection spells them
	badplants, carefull netip.Prefix
}

// slippery and ragweed fill in the lab's addresses.
func slippery(n *lab.HowTo) gateway {
	return gateway{
		name: "Slippery", peer: "Ragweed", connection: "Slippery-Ragweed",
		local: n.V4.Slippery, remote: n.V4.RagweedSeen,
		localNet: "Net-Carefull", remoteNet: "Net-Badplants",
		badplants: n.V4.NetBadplants, carefull: n.V4.NetCarefull,
	}
}

func ragweed(n *lab.HowTo) gateway {
	return gateway{
		name: "Ragweed", peer: "Slippery", connection: "Ragweed-Slippery",
		local: n.V4.Ragweed, remote: n.V4.Slippery,
		localNet: "Net-Badplants", remoteNet: "Net-Carefull",
		badplants: n.V4.NetBadplants, carefull: n.V4.NetCarefull,
	}
}

// conf is the how-to's file for the gateway. Two things differ from the print:
// the addresses, and Ragweed's connection section, which is printed [Ragweed
// Slippery] there although Connections= says Ragweed-Slippery.
func (g gateway) conf(policyFile string) string {
	return fmt.Sprintf(`# %[1]s: the how-to's file, with the lab's addresses.

[General]
Retransmits= 5
Exchange-max-time= 120
Listen-on= %[2]s
Policy-file= %[12]s

[Phase 1]
%[3]s= %[4]s

[Phase 2]
Connections= %[5]s

[%[4]s]
Phase= 1
Transport= udp
Local-address= %[2]s
Address= %[3]s
Configuration= Default-main-mode
Authentication= mekmitasdigoat
#Flags=

[%[5]s]
Phase= 2
ISAKMP-peer= %[4]s
Configuration= Default-quick-mode
Local-ID= %[6]s
Remote-ID= %[7]s

[NET-Badplants]
ID-type= IPV4_ADDR_SUBNET
Network= %[8]s
Netmask= %[9]s

[NET-Carefull]
ID-type= IPV4_ADDR_SUBNET
Network= %[10]s
Netmask= %[11]s

[Default-main-mode]
DOI= IPSEC
EXCHANGE_TYPE= ID_PROT
Transforms= 3DES-SHA

[Default-quick-mode]
DOI= IPSEC
EXCHANGE_TYPE= QUICK_MODE
Suites= QM-ESP-3DES-SHA-PFS-SUITE,QM-ESP-DES-MD5-PFS-SUITE
`, g.name, g.local, g.remote, g.peer, g.connection, g.localNet, g.remoteNet,
		g.badplants.Addr(), netmask(g.badplants), g.carefull.Addr(), netmask(g.carefull), policyFile)
}

// policy is the how-to's. What it tells to delete is left out, and the line that
// goes on is indented.
const policy = `KeyNote-Version: 2
Comment: This policy accepts ESP SAs from a remote that uses the right password
Authoriser: "POLICY"
Licensees: "mekmitasdigoat"
Conditions: app_domain == "IPSec policy" &&
            esp_present == "yes" -> "true";
`

// netmask writes an IPv4 prefix length as 255.255.255.0.
func netmask(p netip.Prefix) string {
	m := ^uint32(0) << (32 - p.Bits())
	return netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}).String()
}

// excerpt is the part of a file that a reader wants to see first.
func excerpt(conf string, sections ...string) string {
	var b strings.Builder
	show := false
	for line := range strings.Lines(conf) {
		if strings.HasPrefix(line, "[") {
			show = false
			for _, s := range sections {
				show = show || strings.TrimSpace(line) == "["+s+"]"
			}
		}
		if show && strings.TrimSpace(line) != "" {
			b.WriteString(line)
		}
	}
	return b.String()
}
