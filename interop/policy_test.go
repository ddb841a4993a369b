package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

// howToPolicy is the how-to's policy as it prints it, but for what it tells to
// delete and for the blanks before the line that goes on.
const howToPolicy = `KeyNote-Version: 2
Comment: This policy accepts ESP SAs from a remote that uses the right password
Authoriser: "POLICY"
Licensees: "mekmitasdigoat"
Conditions: app_domain == "IPSec policy" &&
            esp_present == "yes" -> "true";
`

// The FAQ's policies, of which the first lets in whoever phase 1 does.
const (
	faqEverybody = "KeyNote-Version: 2\nAuthorizer: \"POLICY\"\n"
	faqKey       = `KeyNote-Version: 2
Authorizer: "POLICY"
Licensees: "passphrase:mekmitasdigoat"
Conditions: app_domain == "IPsec policy" && esp_present == "yes" && esp_enc_alg != "null" -> "true";
`
	faqDelegated = `KeyNote-Version: 2
Authorizer: "POLICY"
Licensees: "subpolicy1" || "subpolicy2"
Conditions: app_domain == "IPsec policy" -> "true";

KeyNote-Version: 2
Comment: strong ciphers for whoever has the key
Authorizer: "subpolicy1"
Licensees: "passphrase:mekmitasdigoat"
Conditions: esp_enc_alg == "aes" -> "true";

KeyNote-Version: 2
Comment: old ciphers for one network alone
Authorizer: "subpolicy2"
Licensees: "passphrase:mekmitasdigoat"
Conditions: esp_enc_alg == "3des" && remote_filter == "010.099.000.000-010.099.255.255" -> "true";
`
)

// who is a policy for whoever has the how-to's key.
func who(conditions string) string {
	return "KeyNote-Version: 2\nAuthorizer: \"POLICY\"\nLicensees: \"passphrase:mekmitasdigoat\"\nConditions: app_domain == \"IPsec policy\" && " + conditions + " -> \"true\";\n"
}

type policyCase struct {
	name   string
	policy string
	in     *Mode  // what it lets in
	out    *Mode  // what it refuses; nil: nothing is refused by it
	change string // in out's place: the same with another policy
	why    string // in the log of the refusal
	six    bool   // the tunnel is of IPv6, in IPv6
}

var (
	aes  = &Mode{Name: "AES", Protocols: "QM-ESP-AES-SHA-PFS-GRP14"}
	des3 = &Mode{Name: "3DES", Protocols: "QM-ESP-3DES-SHA-PFS-GRP14"}
	null = &Mode{Name: "NULL", Protocols: "QM-ESP-NULL-SHA-PFS-GRP14"}
	ah   = &Mode{Name: "AH", Protocols: "QM-AH-SHA-PFS-GRP14"}
	two  = &Mode{Name: "3DES or AES", Protocols: "QM-ESP-AES-SHA-PFS-GRP14"} // see firstOffer
	bare = &Mode{Name: "no PFS", Protocols: "QM-ESP-AES-SHA"}
)

// firstOffer is a suite that is offered before the one of a mode.
var firstOffer = map[*Mode]string{two: "QM-ESP-3DES-SHA-PFS-GRP14-SUITE"}

// policyCases are policies, each with a tunnel that it lets in and one that it
// refuses. Dandelion's network is 10.1.0.0/24, as Slippery sees it.
func policyCases() []policyCase {
	const net6 = `remote_filter == "fd00:0001:0000:0000:0000:0000:0000:0000-fd00:0001:0000:0000:ffff:ffff:ffff:ffff" && ` +
		`remote_id_type == "IPv6 address" && remote_negotiation_address == "2001:0db8:000a:0000:0000:0000:0000:0002"`
	const net = `remote_filter == "010.001.000.000-010.001.000.255" && local_filter == "010.002.000.000-010.002.000.255"`
	return []policyCase{
		{name: "the how-to's", policy: howToPolicy, in: des3, out: ah, why: `esp_present`},
		{name: "everybody", policy: faqEverybody, in: ah},
		{name: "whoever has the key", policy: faqKey, in: aes, out: null, why: `esp_enc_alg`},
		{name: "another key", policy: faqKey, in: aes, change: strings.ReplaceAll(faqKey, "mekmitasdigoat", "somebody"), why: `passphrase`},
		{name: "subpolicies", policy: faqDelegated, in: aes, out: des3, why: `remote_filter`},
		{name: "networks", policy: who(net), in: aes, change: who(strings.Replace(net, "010.001.000.255", "010.001.000.127", 1)), why: `remote_filter`},
		{name: "networks of IPv6", policy: who(net6), in: aes, six: true, change: who(strings.Replace(net6, ":ffff:ffff:ffff:ffff\"", ":ffff:ffff:ffff:0fff\"", 1)), why: `remote_filter`},
		{name: "algorithms", policy: who(`esp_enc_alg == "aes" && esp_key_length == "128" && esp_auth_alg == "hmac-sha"`), in: aes, out: des3, why: `esp_enc_alg`},
		{name: "the second offer", policy: who(`esp_enc_alg == "aes"`), in: two, change: who(`esp_enc_alg == "blowfish"`), why: `ESP 3des cbc hmac-sha: `},
		{name: "PFS", policy: who(`pfs == "yes" && esp_group_desc == "14"`), in: aes, out: bare, why: `pfs`},
		{
			name: "times of day", policy: who(`GMTTimeOfDay >= "20200101000000" && LocalTimeOfDay < "29991231235959"`), in: aes,
			change: who(`LocalTimeOfDay < "20200101000000"`), why: `LocalTimeOfDay`,
		},
		{name: "who asks", policy: who(`initiator == "no" && phase_1 == "main" && remote_id_type == "IPv4 address"`), in: aes, change: who(`initiator == "yes"`), why: `initiator`},
	}
}

// TestPolicies: what a policy lets in has traffic, and what it refuses is refused
// with the reason in the responder's log, and without the passphrase.
func TestPolicies(t *testing.T) {
	for _, c := range policyCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lab.Need(t, "root", "tun")
			c.try(t, c.policy, c.in, "")
			switch {
			case c.out != nil:
				c.try(t, c.policy, c.out, c.why)
			case c.change != "":
				c.try(t, c.change, c.in, c.why)
			}
		})
	}
}

// try has Ragweed ask Slippery, which has a policy, for a tunnel; why is in the
// refusal, and empty when it is let in.
func (c *policyCase) try(t *testing.T, policy string, mode *Mode, why string) {
	t.Helper()
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	s := &site{HowTo: n}
	addrs := s.V4
	if c.six {
		addrs = s.V6
	}
	ragweed, slippery := ends(addrs, addrs, Tunnel{P1: Phase1s[5], Mode: mode, Initiate: true, Secret: "mekmitasdigoat"})
	slippery.Initiate = false
	conf := func(t Tunnel) string {
		return strings.Replace(t.IsakmpdConf(), "Suites= ", "Suites= "+strings.TrimPrefix(firstOffer[mode]+",", ","), 1)
	}
	file := filepath.Join(t.TempDir(), "isakmpd.policy")
	must(t, os.WriteFile(file, []byte(policy), 0o600))
	l, err := StartIsakmpd(s.Slippery, t.TempDir(), withPolicy(conf(slippery), file))
	must(t, err)
	r, err := StartIsakmpd(s.Ragweed, t.TempDir(), conf(ragweed))
	must(t, err)
	if why == "" {
		if _, err := r.Log.Wait(phase2Done, 15*time.Second); err != nil {
			t.Fatalf("%s is not let in: %v\n%s", mode.Name, err, l.Log)
		}
		_, err = s.Dandelion.Ping(addrs.Icy, 3, 10*time.Second)
		must(t, err)
	} else {
		line, err := l.Log.Wait(`the policy refuses`, 15*time.Second)
		if err != nil {
			t.Fatalf("%s is not refused: %v\n%s", mode.Name, err, l.Log)
		}
		text := strings.Join(after(l.Log, line), "\n")
		if !strings.Contains(text, why) {
			t.Errorf("%s: the refusal says nothing of %s:\n%s", mode.Name, why, text)
		}
		t.Logf("%s\n%s", policy, text)
		if _, err = r.Log.Wait(`NO-PROPOSAL-CHOSEN`, 15*time.Second); err != nil {
			t.Error(err)
		}
	}
	if strings.Contains(l.Log.String(), "mekmitasdigoat") {
		t.Errorf("the passphrase is in the log:\n%s", l.Log)
	}
	must(t, r.End())
	must(t, l.End())
}

// withPolicy has a configuration name a policy file.
func withPolicy(conf, file string) string {
	return strings.Replace(conf, "[General]\n", "[General]\nPolicy-file= "+file+"\n", 1)
}

// after is a line of a log and those that follow it, as long as they belong to it.
func after(log *lab.Log, first lab.Line) (text []string) {
	for _, l := range log.Lines() {
		if len(text) > 0 && !strings.HasPrefix(l.Text, "  ") {
			break
		}
		if len(text) > 0 || l == first {
			text = append(text, l.Text)
		}
	}
	return text
}
