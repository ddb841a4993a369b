package conf_test

import (
	"strings"
	"testing"

	"oakley/internal/conf"
	"oakley/internal/diag"
)

// TestMistakes makes one mistake after the other in a sound file. Each is the
// only thing that is said, points at the right place and has the right advice.
func TestMistakes(t *testing.T) {
	const (
		e = diag.Error
		w = diag.Warning
	)
	for _, m := range []struct {
		name     string
		edit     []string
		severity diag.Severity
		at       string // what is underlined
		summary  string
		hint     string
	}{
		{"a connection's section is missing", []string{"= east-west", "= north-south"}, e, "north-south", "no section [north-south]", "write a section"},
		{"a connection's section has a blank for a dash", []string{"[east-west]", "[east west]"}, e, "east-west", "no section [east-west]", "[east west] in line 21"},
		{"a peer is misspelled", []string{"ISAKMP-peer= west", "ISAKMP-peer= wset"}, e, "wset", "no section [wset]", "[west] in line 10"},
		{"a transform is misspelled", []string{"AES-128-SHA2-256-GRP14\n", "AES-128-SHA-256-GRP14\n"}, e, "AES-128-SHA-256-GRP14", "no section", "AES-128-SHA2-256-GRP14"},
		{"a suite without its ending", []string{"GRP14-SUITE", "GRP14"}, e, "QM-ESP-AES-128-SHA2-256-PFS-GRP14", "no section", "did you mean QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE?"},
		{"GCM with a hash", []string{"QM-ESP-AES-128-SHA2-256-", "QM-ESP-AESGCM-128-SHA2-256-"}, e, "QM-ESP-AESGCM-128-SHA2-256-PFS-GRP14-SUITE", "no section", "did you mean"},
		{"a connection that is a peer", []string{"Connections= east-west", "Connections= east-west, west"}, e, "west", "is an ISAKMP peer already", "two sections"},
		{"a section that is a root", []string{"Local-ID= net-east", "Local-ID= General"}, e, "General", "cannot be an IPsec ID", "of its own"},
		{"Phase is missing", []string{"Phase= 2\n", ""}, e, "east-west", "has no Phase", "write Phase=2"},
		{"Phase is the other one", []string{"Phase= 1\n", "Phase= 2\n"}, e, "2", "has Phase=2", "write Phase=1"},
		{"the configuration is missing", []string{"Configuration= quick-mode\n", ""}, e, "east-west", "has no Configuration", "write Configuration="},
		{"the peer is missing", []string{"ISAKMP-peer= west\n", ""}, e, "east-west", "has no ISAKMP-peer", "write ISAKMP-peer="},
		{"a peer that is listed elsewhere", []string{"192.0.2.2= west", "192.0.2.2= west\n192.0.2.3= other", "[west]", "[other]\nPhase= 1\nAddress= 192.0.2.2\nLocal-address= 192.0.2.1\nAuthentication= long enough to pass\n[west]"}, e, "192.0.2.3", "listed here for 192.0.2.3", "Address= is in line"},
		{"two peers at one address", []string{"[quick-mode]", "[twin]\nPhase= 1\nAddress= 192.0.2.2\nLocal-address= 192.0.2.1\nAuthentication= long enough to pass\n[quick-mode]", "= east-west", "= east-west, two", "[net-west]", "[two]\nPhase= 2\nISAKMP-peer= twin\nConfiguration= quick-mode\n[net-west]"}, e, "twin", "same address 192.0.2.2", "one section for both"},
		{"an address that is listed twice", []string{"192.0.2.2= west", "::ffff:192.0.2.2= west\n192.0.2.2= west"}, w, "192.0.2.2", "listed twice", "remove one"},
		{"a peer that is not listed", []string{"192.0.2.2= west", "", "[Phase 1]", "[Phase 1]"}, w, "west", "not listed in [Phase 1]", "192.0.2.2=west"},
		{"a peer without a key", []string{"Authentication= correct horse battery staple\n", ""}, e, "west", "no Authentication", "-RSA_SIG"},
		{"a key that RSA does not use", []string{"GRP14\n", "GRP14-RSA_SIG\n", "[main-mode]", "Remote-ID= it\n[it]\nID-type= ASN1_DN\n[main-mode]"}, w, "********", "is not used", "without -RSA_SIG"},
		{"a certificate peer that may be anyone", []string{"GRP14\n", "GRP14-RSA_SIG\n", "Authentication= correct horse battery staple\n", ""}, w, "west", "any certificate", "Remote-ID"},
		{"the peer's address has a host name", []string{"Address= 192.0.2.2", "Address= gw.example"}, e, "gw.example", "is no IP address", "names are not looked up"},
		{"the peer's address has a length", []string{"Address= 192.0.2.2", "Address= 192.0.2.2/32"}, e, "192.0.2.2/32", "is no IP address", "without a length"},
		{"an address with a zone", []string{"Address= 192.0.2.2", "Address= fe80::1%eth0"}, e, "fe80::1%eth0", "is no IP address", "zone"},
		{"the peer is this host", []string{"Address= 192.0.2.2", "Address= 192.0.2.1", "192.0.2.2= west", "192.0.2.1= west"}, e, "192.0.2.1", "same address on both sides", "the other side's"},
		{"local and remote address of two families", []string{"Local-address= 192.0.2.1", "Local-address= 2001:db8::1", "Listen-on= 192.0.2.1", "Listen-on= 192.0.2.1,2001:db8::1"}, e, "2001:db8::1", "cannot be reached", "two IPv4"},
		{"a local address that is not listened on", []string{"Listen-on= 192.0.2.1", "Listen-on= 192.0.2.9"}, w, "192.0.2.1", "does not listen", "line 2"},
		{"a port that is none", []string{"Phase= 1\n", "Phase= 1\nPort= 70000\n"}, e, "70000", "no UDP port", "from 1 to 65535"},
		{"another transport", []string{"Phase= 1\n", "Phase= 1\nTransport= tcp\n"}, e, "tcp", "transport", "Transport=udp"},
		{"an unknown flag", []string{"Phase= 1\n", "Phase= 1\nFlags= ikeconf\n"}, e, "ikeconf", "no flag of a peer", "ikecfg"},
		{"a bad hexadecimal key", []string{"correct horse battery staple", "0x123"}, e, "********", "not hexadecimal", "two digits"},
		{"a quoted key", []string{"correct horse battery staple", `"correct horse battery staple"`}, w, "********", "quotation marks", "remove"},
		{"a short key", []string{"correct horse battery staple", "goat"}, w, "********", "short", "rand"},
		{"a printed key", []string{"correct horse battery staple", "mekmitasdigoat"}, w, "********", "manual", "rand"},
		{"single DES", []string{"AES-128-SHA2-256-GRP14\n", "DES-SHA2-256-GRP14\n"}, w, "DES-SHA2-256-GRP14", "single DES", "AES"},
		{"a broken group", []string{"AES-128-SHA2-256-GRP14\n", "AES-128-SHA2-256-GRP1\n"}, w, "AES-128-SHA2-256-GRP1", "MODP_768", "GRP14"},
		{"an exchange type of the other phase", []string{"ID_PROT", "QUICK_MODE"}, e, "QUICK_MODE", "no EXCHANGE_TYPE of phase 1", "ID_PROT or AGGRESSIVE"},
		{"an exchange type of phase 1 in phase 2", []string{"QUICK_MODE", "ID_PROT"}, e, "ID_PROT", "no EXCHANGE_TYPE of phase 2", "QUICK_MODE"},
		{"no exchange type", []string{"EXCHANGE_TYPE= ID_PROT\n", ""}, e, "main-mode", "has no EXCHANGE_TYPE", "ID_PROT"},
		{"another DOI", []string{"EXCHANGE_TYPE= ID_PROT", "DOI= ISAKMP\nEXCHANGE_TYPE= ID_PROT"}, e, "ISAKMP", "no DOI", "DOI=IPSEC"},
		{"two groups in aggressive mode", []string{"ID_PROT", "AGGRESSIVE", "256-GRP14\n", "256-GRP14, AES-SHA-GRP15\n", "correct horse battery staple", "correct horse battery staple"}, e, "AES-SHA-GRP15", "MODP_3072", "take one group"},
		{"a transform named twice", []string{"256-GRP14\n", "256-GRP14, aes-128-sha2-256-grp14\n"}, w, "aes-128-sha2-256-grp14", "twice", "once"},
		{"an empty list", []string{"AES-128-SHA2-256-GRP14\n", ",\n"}, e, ",", "empty", "write Transforms="},
		{"two groups in one offer", []string{"GRP14-SUITE", "GRP14-SUITE,QM-ESP-AES-SHA-PFS-SUITE"}, e, "QM-ESP-AES-SHA-PFS-SUITE", "MODP_2048 and MODP_1024", "one group"},
		{"PFS and none in one offer", []string{"GRP14-SUITE", "GRP14-SUITE,QM-ESP-AES-SHA-SUITE"}, e, "QM-ESP-AES-SHA-SUITE", "without", "all have PFS"},
		{"ESP without authentication", []string{"QM-ESP-AES-128-SHA2-256-PFS", "QM-ESP-AES-128-PFS"}, w, "QM-ESP-AES-128-PFS-GRP14-SUITE", "without authentication", "hash"},
		{"a mask with holes", []string{"255.255.255.0", "255.0.255.0"}, e, "255.0.255.0", "holes", "ones first"},
		{"a mask that is a length", []string{"255.255.255.0", "24"}, e, "24", "no netmask", "255.255.255.0"},
		{"an IPv6 mask", []string{"255.255.255.0", "ffff::"}, e, "ffff::", "other address family", "255.255.255.0"},
		{"a network with host bits", []string{"10.2.0.0", "10.2.0.1"}, w, "10.2.0.1", "10.2.0.0/24", "Network=10.2.0.0"},
		{"a network with a length", []string{"10.2.0.0", "10.2.0.0/24"}, e, "10.2.0.0/24", "no length", "Network=10.2.0.0"},
		{"no mask", []string{"Network= 10.2.0.0\nNetmask= 255.255.255.0\n", "Network= 10.2.0.0\n"}, e, "net-west", "has no Netmask", "Netmask="},
		{"an address of the other family", []string{"Network= 10.2.0.0", "Network= fd00::"}, e, "fd00::", "no address for ID-type IPV4_ADDR_SUBNET", "IPV6_ADDR_SUBNET"},
		{"the ends of two families", []string{"[net-west]\nID-type= IPV4_ADDR_SUBNET\nNetwork= 10.2.0.0\nNetmask= 255.255.255.0", "[net-west]\nID-type= IPV6_ADDR_SUBNET\nNetwork= fd00::\nNetmask= ffff::"}, e, "net-west", "different families", "two IPv4"},
		{"both ends the same", []string{"Remote-ID= net-west", "Remote-ID= net-east", "\n[net-west]\nID-type= IPV4_ADDR_SUBNET\nNetwork= 10.2.0.0\nNetmask= 255.255.255.0\n", ""}, w, "net-east", "both ends", "behind the other side"},
		{"the remote network in the local one", []string{"Netmask= 255.255.255.0\n\n", "Netmask= 255.0.0.0\n\n", "10.1.0.0", "10.0.0.0"}, w, "net-west", "is part of the local one", "looked for"},
		{"the peer in the remote network", []string{"10.2.0.0", "192.0.2.0"}, w, "net-west", "holds the peer's address", "tunnel"},
		{"only one end", []string{"Local-ID= net-east\n", "", "[net-east]\nID-type= IPV4_ADDR_SUBNET\nNetwork= 10.1.0.0\nNetmask= 255.255.255.0\n", ""}, w, "east-west", "no Local-ID", "write Local-ID="},
		{"an ID type that connections do not have", []string{"ID-type= IPV4_ADDR_SUBNET", "ID-type= FQDN"}, e, "FQDN", "no ID-type of a connection", "IPV6_ADDR_SUBNET"},
		{"a port without a protocol", []string{"Network= 10.2.0.0", "Port= 80\nNetwork= 10.2.0.0"}, e, "80", "no Protocol", "Protocol=tcp"},
		{"a protocol without ports", []string{"Network= 10.2.0.0", "Protocol= icmp\nPort= 80\nNetwork= 10.2.0.0", "Network= 10.1.0.0", "Protocol= icmp\nNetwork= 10.1.0.0"}, e, "80", "no Protocol that has ports", "udp"},
		{"an unknown protocol", []string{"Network= 10.2.0.0", "Protocol= tpc\nNetwork= 10.2.0.0", "Network= 10.1.0.0", "Protocol= 0\nNetwork= 10.1.0.0"}, e, "tpc", "no protocol", "tcp"},
		{"different protocols", []string{"Network= 10.2.0.0", "Protocol= tcp\nNetwork= 10.2.0.0"}, w, "net-west", "any and tcp", "same Protocol"},
		{"a connection that is listed twice", []string{"= east-west", "= east-west\nPassive-connections= East-West"}, w, "East-West", "line 8 already", "once"},
		{"an active connection of any peer", []string{"192.0.2.2= west", "Default= west", "Address= 192.0.2.2\n", "", "correct horse battery staple", "correct horse battery staple"}, e, "west", "has no address", "Passive-connections"},
		{"a passive Active-only connection", []string{"Connections= east-west", "Passive-connections= east-west", "Phase= 2\n", "Phase= 2\nFlags= active-only\n"}, w, "active-only", "never used", "Connections="},
		{"an active connection with nothing to offer", []string{"[quick-mode]", "[AES-128-SHA2-256-GRP14]\nHASH_ALGORITHM= ANY\n[quick-mode]"}, e, "west", "nothing to offer", "at least one"},
		{"an unknown tag", []string{"Phase= 2", "Phase= 2\nLocalID= net-east"}, w, "LocalID", "has no tag", "did you mean Local-ID?"},
		{"an unknown tag in General", []string{"Listen-on", "Retransmit= 4\nListen-on"}, w, "Retransmit", "[General] has no tag", "Retransmits"},
		{"an unknown section", []string{"[quick-mode]", "[Phase 3]\nConnections= east-west\n[quick-mode]"}, w, "Phase 3", "nothing refers to", "remove it"},
		{"a connection that nobody lists", []string{"[quick-mode]", "[spare]\nPhase= 2\nISAKMP-peer= west\nConfiguration= quick-mode\n[quick-mode]"}, w, "spare", "[Phase 2] does not list it", "Connections="},
		{"a range upside down", []string{"Listen-on", "Default-phase-1-lifetime= 60,600:60\nListen-on"}, e, "60,600:60", "accepts nothing", "smaller"},
		{"a range without its offer", []string{"Listen-on", "Default-phase-1-lifetime= 30,60:600\nListen-on"}, w, "30,60:600", "not what it offers", "hold the offer"},
		{"a range with words", []string{"Listen-on", "Default-phase-2-lifetime= 1h\nListen-on"}, e, "1h", "no lifetime", "3600,60:86400"},
		{"no data plane", []string{"Listen-on", "Data-plane= kernell\nListen-on"}, e, "kernell", "no data plane", "ipsecd"},
		{"an unknown option of the data plane", []string{"Listen-on", "Data-plane-options= outter-mtu=1400\nListen-on"}, e, "outter-mtu", "no option of a data plane", "did you mean outer-mtu?"},
		{"an option without its value", []string{"Listen-on", "Data-plane-options= df\nListen-on"}, e, "df", "df needs a value", "df=copy"},
		{"an option with a value too many", []string{"Listen-on", "Data-plane-options= no-offload=yes\nListen-on"}, e, "no-offload=yes", "takes no value", "no-offload alone"},
		{"an option twice", []string{"Listen-on", "Data-plane-options= mtu=1400, MTU=1300\nListen-on"}, e, "MTU=1300", "mtu is there twice", "once"},
		{"an MTU that is none", []string{"Listen-on", "Data-plane-options= outer-mtu=100\nListen-on"}, e, "100", "no MTU in bytes", "from 576 to 65535"},
		{"a mark that is none", []string{"Listen-on", "Data-plane-options= df=cpoy\nListen-on"}, e, "cpoy", "don't-fragment mark", "did you mean copy?"},
		{"a packet mark outside its mask", []string{"Listen-on", "Data-plane-options= mark=0x100/0xff\nListen-on"}, e, "0x100/0xff", "no packet mark", "0x10/0xff"},
		{"prefix lengths that are none", []string{"Listen-on", "Data-plane-options= hash=24/33\nListen-on"}, e, "24/33", "no pair of prefix lengths", "24/24"},
		{"an interface that has no number", []string{"Phase= 2", "Phase= 2\nXFRM-interface= ipsec7"}, e, "ipsec7", "no if_id", "from 1 to"},
		{"a negative number", []string{"Listen-on", "Retransmits= -1\nListen-on"}, e, "-1", "no number of retransmissions", "from 0"},
		{"a switch turned off", []string{"Listen-on", "Acquire-Only= no\nListen-on"}, w, "no", "is on as soon as it is there", "remove the line"},
		{"a bad log level", []string{"Listen-on", "Loglevel= 11=5\nListen-on"}, e, "11=5", "no class=level", "-D"},
		{"the key length of 3DES", []string{"[quick-mode]", "[mine]\nENCRYPTION_ALGORITHM= 3DES_CBC\nKEY_LENGTH= 192\nHASH_ALGORITHM= SHA\nAUTHENTICATION_METHOD= PRE_SHARED\nGROUP_DESCRIPTION= GRP14\n[quick-mode]", "256-GRP14\n", "256-GRP14,mine\n"}, e, "192", "one length of key", "remove KEY_LENGTH"},
		{"an AES key of 160 bits", []string{"[quick-mode]", "[AES-128-SHA2-256-GRP14]\nKEY_LENGTH= 160,128:256\n[quick-mode]"}, e, "160,128:256", "no key of 160 bits", "128, 192 or 256"},
		{"a transform without a group", []string{"[quick-mode]", "[mine]\nENCRYPTION_ALGORITHM= 3DES_CBC\nHASH_ALGORITHM= SHA\nAUTHENTICATION_METHOD= PRE_SHARED\n[quick-mode]", "256-GRP14\n", "256-GRP14,mine\n"}, w, "mine", "names no group", "MODP_2048"},
		{"a PRF", []string{"[quick-mode]", "[AES-128-SHA2-256-GRP14]\nPRF= 3DES_CBC_MAC\n[quick-mode]"}, w, "3DES_CBC_MAC", "PRF is ignored", "RFC 2409"},
		{"a method that is not spoken", []string{"[quick-mode]", "[AES-128-SHA2-256-GRP14]\nAUTHENTICATION_METHOD= DSS\n[quick-mode]"}, e, "DSS", "no AUTHENTICATION_METHOD", "PRE_SHARED, RSA_SIG or ANY"},
		{"NULL without authentication", []string{"[quick-mode]", "[QM-ESP-AES-128-SHA2-256-PFS-GRP14-XF]\nTRANSFORM_ID= NULL\nKEY_LENGTH=\n[quick-mode]", "Suites= QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE", "Suites= bare", "[net-east]", "[bare]\nProtocols= bare-p\n[bare-p]\nPROTOCOL_ID= IPSEC_ESP\nTransforms= bare-x\n[bare-x]\nTRANSFORM_ID= NULL\n[net-east]"}, e, "NULL", "neither encrypts nor authenticates", "cipher"},
		{"GCM with an authentication", []string{"[quick-mode]", "[bare]\nProtocols= bare-p\n[bare-p]\nPROTOCOL_ID= IPSEC_ESP\nTransforms= bare-x\n[bare-x]\nTRANSFORM_ID= AES_GCM_16\nAUTHENTICATION_ALGORITHM= HMAC_SHA\n[quick-mode]", "Suites= QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE", "Suites= bare"}, e, "HMAC_SHA", "authenticates by itself", "remove"},
		{"AH with another hash", []string{"[quick-mode]", "[bare]\nProtocols= bare-p\n[bare-p]\nPROTOCOL_ID= IPSEC_AH\nTransforms= bare-x\n[bare-x]\nTRANSFORM_ID= SHA\nAUTHENTICATION_ALGORITHM= HMAC_MD5\n[quick-mode]", "Suites= QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE", "Suites= bare"}, e, "HMAC_MD5", "authenticates by HMAC_SHA", "HMAC_SHA"},
		{"ESP twice in a suite", []string{"[quick-mode]", "[bare]\nProtocols= QM-ESP-AES-SHA,QM-ESP-3DES-SHA\n[quick-mode]", "Suites= QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE", "Suites= bare"}, e, "QM-ESP-3DES-SHA", "has esp twice", "alternatives"},
		{"no replay window", []string{"[quick-mode]", "[QM-ESP-AES-128-SHA2-256-PFS-GRP14]\nReplayWindow= 0\n[quick-mode]"}, w, "0", "without a replay window", "64"},
		{"a lifetime of bytes", []string{"[quick-mode]", "[AES-128-SHA2-256-GRP14]\nLife= mine\n[mine]\nLIFE_TYPE= BYTES\nLIFE_DURATION= 5\n[quick-mode]"}, e, "BYTES", "no LIFE_TYPE", "SECONDS or KILOBYTES"},
		{"two lifetimes of one type", []string{"[quick-mode]", "[AES-128-SHA2-256-GRP14]\nLife= LIFE_MAIN_MODE, LIFE_QUICK_MODE\n[quick-mode]"}, w, "LIFE_QUICK_MODE", "second lifetime", "one lifetime of each"},
		{"a user's name without its @", []string{"[quick-mode]", "ID= me\n[quick-mode]", "Phase= 1", "Phase= 1\nID= me\n", "ID= me\n[quick-mode]", "[me]\nID-type= USER_FQDN\nName= me\n[quick-mode]"}, w, "me", "has no @", "user@domain"},
		{"a name without Name", []string{"Phase= 1", "Phase= 1\nID= me\n", "[quick-mode]", "[me]\nID-type= FQDN\n[quick-mode]"}, e, "me", "has no Name", "write Name="},
		{"one key for everybody", []string{"[Phase 1]", "[Phase 1]\nDefault= everybody", "[quick-mode]", "[everybody]\nPhase= 1\nConfiguration= main-mode\nAuthentication= long enough to pass\n[quick-mode]"}, w, "everybody", "one key for everybody", "for each peer"},
		{"a default with an address", []string{"[Phase 1]", "[Phase 1]\nDefault= west"}, w, "west", "default for all others", "leave Address="},
		{"two connections of the same networks", []string{"= east-west", "= east-west, again", "[quick-mode]", "[again]\nPhase= 2\nISAKMP-peer= west\nConfiguration= quick-mode\nLocal-ID= net-east\nRemote-ID= net-west\n[quick-mode]"}, w, "again", "join the same networks", "remove one"},
		{"a control character", []string{"10.2.0.0", "10.2.0.0\x07"}, e, "\x07", "control character (0x07)", "plain text"},
		{"blanks after a backslash", []string{"Phase= 2\n", "Phase= 2\nPF-Tag= a\\ \n"}, w, "\\", "does not continue", "blanks"},
		{"a mode-config section for no address", []string{"[quick-mode]", "[ipv4/10.0.0]\n[quick-mode]"}, e, "ipv4/10.0.0", "is no IP address", "192.0.2.1"},
		{"no [Phase 2]", []string{"[Phase 2]\nConnections= east-west\n", "", "[east-west]\nPhase= 2\nISAKMP-peer= west\nConfiguration= quick-mode\nLocal-ID= net-east\nRemote-ID= net-west\n", "", "[quick-mode]\nEXCHANGE_TYPE= QUICK_MODE\nSuites= QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE\n", "", "[net-east]\nID-type= IPV4_ADDR_SUBNET\nNetwork= 10.1.0.0\nNetmask= 255.255.255.0\n", "", "[net-west]\nID-type= IPV4_ADDR_SUBNET\nNetwork= 10.2.0.0\nNetmask= 255.255.255.0\n", ""}, w, "", "no section [Phase 2]", "Connections="},
	} {
		t.Run(m.name, func(t *testing.T) {
			c, list := conf.Load("test.conf", []byte(edit(t, m.edit...)), nil)
			if (c == nil) != list.HasErrors() {
				t.Errorf("a Config, and errors: %v", list.HasErrors())
			}
			for _, d := range list {
				if d.Severity == m.severity && strings.Contains(d.Summary, m.summary) && underlined(d) == m.at && strings.Contains(d.Hint, m.hint) {
					if m.severity == e && list.Count(e) > 1 {
						t.Errorf("one mistake, %d errors:\n%s", list.Count(e), list)
					}
					return
				}
			}
			t.Errorf("wanted a %s at %q that says %q and advises %q; there is:\n%s", m.severity, m.at, m.summary, m.hint, list)
		})
	}
}
