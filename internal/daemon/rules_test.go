package daemon

import (
	"crypto/rand"
	"crypto/sha1"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"oakley/internal/keynote"
	"oakley/internal/keynote/key"
	"oakley/internal/netio"
)

const (
	policyPath = "/etc/isakmpd/isakmpd.policy"
	passphrase = "8e5c39d30b4d4e2f" // of the tests' configurations
)

// underPolicy starts a daemon by a policy.
func underPolicy(t *testing.T, hub *netio.Hub, s side, policy string) *node {
	h := newFakeHost(hub, s.own)
	h.put(policyPath, policy)
	return run(t, h, s.conf(), func(o *Options) { o.NoPolicy = false })
}

// withKey is a policy for whoever has the passphrase.
func withKey(conditions string) string {
	return "Authorizer: \"POLICY\"\nLicensees: \"passphrase:" + passphrase + "\"\nConditions: app_domain == \"IPsec policy\" && " + conditions + " -> \"true\";\n"
}

const aesAlone = `esp_present == "yes" && esp_enc_alg == "aes" && esp_key_length == "128" && pfs == "yes" && remote_filter == "010.002.000.000-010.002.000.255"`

func TestThePolicyLetsTheTunnelIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := netio.NewHub()
		b := run(t, newFakeHost(hub, west.own), west.conf())
		a := underPolicy(t, hub, east, withKey(aesAlone))
		for _, n := range []*node{a, b} {
			n.log.await(t, "phase 2 (quick mode) done for connection tunnel", 1)
		}
		a.end(t)
		b.end(t)
	})
}

// Each refusal says which condition of which assertion it was, and no passphrase.
func TestThePolicyRefusesAndSaysWhy(t *testing.T) {
	for name, c := range map[string]struct{ policy, want string }{
		"algorithm":    {withKey(`esp_enc_alg == "3des"`), `line 3: esp_enc_alg == "3des" is false: esp_enc_alg is "aes"`},
		"network":      {withKey(`remote_filter == "010.099.000.000-010.099.000.255"`), "010.002.000.000-010.002.000.255"},
		"passphrase":   {strings.Replace(withKey(aesAlone), passphrase, "somebody else's", 1), "passphrase:"},
		"nobody's":     {"Authorizer: \"POLICY\"\nLicensees: \"nobody\"\n", "among its licensees"},
		"without a PF": {withKey(`pfs == "no"`), `pfs == "no"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := netio.NewHub()
				passive := east
				passive.list = "Passive-connections"
				a := underPolicy(t, hub, passive, c.policy)
				active := west
				active.list = "Connections"
				b := run(t, newFakeHost(hub, west.own), active.conf())
				a.log.await(t, "the policy refuses", 1)
				b.log.await(t, "NO-PROPOSAL-CHOSEN", 1)
				if text := a.log.String(); !strings.Contains(text, c.want) || strings.Contains(text, passphrase) || strings.Contains(text, "somebody else's") {
					t.Errorf("%s", text)
				}
				if n := len(a.plane.state(t).SAs); n != 0 {
					t.Errorf("%d SAs", n)
				}
				b.end(t)
				a.end(t)
			})
		})
	}
}

// What no connection lists is the policy's to allow; without a policy it is
// refused.
func TestThePolicyAloneDecidesAboutOtherNetworks(t *testing.T) {
	for _, c := range []struct {
		policy string
		in     bool
	}{
		{withKey(`remote_filter == "010.003.000.000-010.003.000.255"`), true},
		{withKey(`remote_filter == "010.002.000.000-010.002.000.255"`), false},
		{"", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			hub := netio.NewHub()
			passive := east
			passive.list, passive.general = "Passive-connections", "Default-phase-2-suites= QM-ESP-AES-SHA2-256-PFS-GRP31-SUITE"
			var a *node
			if c.policy == "" {
				a = run(t, newFakeHost(hub, east.own), passive.conf())
			} else {
				a = underPolicy(t, hub, passive, c.policy)
			}
			active := west
			active.list, active.net = "Connections", "10.3.0.0"
			b := run(t, newFakeHost(hub, west.own), active.conf())
			if c.in {
				a.log.await(t, "phase 2 (quick mode) done for connection by-policy@192.0.2.2", 1)
			} else {
				a.log.await(t, "phase 2 (quick mode) failed", 1)
			}
			flows := 0
			for _, f := range a.plane.state(t).Flows {
				if f.Selector.Src.String() == "10.3.0.0/24" || f.Selector.Dst.String() == "10.3.0.0/24" {
					flows++
				}
			}
			if (flows == 2) != c.in {
				t.Errorf("%t: %d flows for it", c.in, flows)
			}
			b.end(t)
			a.end(t)
		})
	}
}

// A connection that the policy would allow has the suites of [General], and the
// refusal of others says so.
func TestOtherNetworksHaveTheDefaultSuites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := netio.NewHub()
		passive := east
		passive.list, passive.general = "Passive-connections", "Default-phase-2-suites= QM-ESP-3DES-SHA2-256-PFS-GRP31-SUITE"
		a := underPolicy(t, hub, passive, withKey(`esp_present == "yes"`))
		active := west
		active.list, active.net = "Connections", "10.3.0.0"
		b := run(t, newFakeHost(hub, west.own), active.conf())
		a.log.await(t, "no proposal of the peer's is one of ours", 1)
		a.log.await(t, "those of Default-phase-2-suites= in [General]", 1)
		b.end(t)
		a.end(t)
	})
}

func TestABrokenPolicyKeepsTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := netio.NewHub()
		a := underPolicy(t, hub, east, withKey(aesAlone))
		a.host.put(policyPath, "Authorizer: \"POLICY\n")
		a.Reload()
		a.log.await(t, "was not read again, the old one stays", 1)
		a.log.await(t, policyPath, 1)
		b := run(t, newFakeHost(hub, west.own), west.conf())
		a.log.await(t, "phase 2 (quick mode) done for connection tunnel", 1)
		// A new policy is for new SAs: what is up stays up.
		a.host.put(policyPath, withKey(`esp_enc_alg == "3des"`))
		a.Reload()
		a.log.await(t, "and policy "+policyPath+" read again", 1)
		if n := len(a.plane.state(t).SAs); n != 2 {
			t.Errorf("%d SAs", n)
		}
		<-time.After(2 * time.Hour)
		a.log.await(t, `the policy lets us offer none of our own suites`, 1)
		b.end(t)
		a.end(t)
	})
}

// A policy is read on HUP alone: one that is being written does not keep the daemon
// from finding its addresses, and is not in force.
func TestThePolicyIsNotReadByTheWay(t *testing.T) {
	for _, unfinished := range []string{"Authorizer: \"POLICY", "Authorizer: \"POLICY\"\nLicensees: \"nobody\"\n"} {
		synctest.Test(t, func(t *testing.T) {
			hub := netio.NewHub()
			h := newFakeHost(hub, east.own)
			h.setRoute(false)
			h.put(policyPath, withKey(aesAlone))
			everywhere := strings.Replace(east.conf(), "Listen-on= 192.0.2.1", "", 1)
			a := run(t, h, everywhere, func(o *Options) { o.NoPolicy = false })
			a.log.await(t, "our address towards peer far is not known", 1)
			h.put(policyPath, unfinished)
			b := run(t, newFakeHost(hub, west.own), west.conf())
			h.setRoute(true)
			a.log.await(t, "phase 2 (quick mode) done for connection tunnel", 1)
			b.end(t)
			a.end(t)
		})
	}
}

// Warnings of the policy come with those of the configuration; credentials of the
// directory count when their signatures hold.
func TestWhatIsOddAboutThePolicyIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := netio.NewHub()
		h := newFakeHost(hub, east.own)
		h.put(policyPath, strings.Replace(withKey(aesAlone), "Authorizer", "Authoriser", 1))
		h.put("/etc/isakmpd/keynote/192.0.2.2/credentials", "Authorizer: \"rsa-hex:abcd\"\nLicensees: \"x\"\nSignature: \"sig-rsa-sha1-hex:00\"\n")
		a := run(t, h, east.conf(), func(o *Options) { o.NoPolicy = false })
		a.log.await(t, "Authoriser", 1)
		a.log.await(t, "/etc/isakmpd/keynote/192.0.2.2/credentials:3", 1)
		a.end(t)
	})
}

// A connection for one port is put to the policy with that port.
func TestThePolicySeesPorts(t *testing.T) {
	ports := func(s side, local, remote string) string {
		return strings.NewReplacer("[here]\n", "[here]\nProtocol= tcp\n"+local, "[there]\n", "[there]\nProtocol= tcp\n"+remote).Replace(s.conf())
	}
	for port, in := range map[string]bool{"9100": true, "80": false} {
		synctest.Test(t, func(t *testing.T) {
			hub := netio.NewHub()
			h := newFakeHost(hub, east.own)
			h.put(policyPath, withKey(`local_filter_proto == "tcp" && local_filter_port == "`+port+`" && remote_filter_port == "0"`))
			passive := east
			passive.list = "Passive-connections"
			a := run(t, h, ports(passive, "Port= 9100\n", ""), func(o *Options) { o.NoPolicy = false })
			active := west
			active.list = "Connections"
			b := run(t, newFakeHost(hub, west.own), ports(active, "", "Port= 9100\n"))
			if in {
				a.log.await(t, "phase 2 (quick mode) done for connection tunnel", 1)
			} else {
				a.log.await(t, `local_filter_port == "80" is false: local_filter_port is "9100"`, 1)
			}
			b.end(t)
			a.end(t)
		})
	}
}

// What a peer says as an address is one to the policy, and no network of one.
func TestThePolicySeesHosts(t *testing.T) {
	const asNetwork = "ID-type= IPV4_ADDR_SUBNET\nNetwork= 10.2.0.0\nNetmask= 255.255.255.0\n"
	for text, host := range map[string]string{
		withKey(`remote_filter_type == "IPv4 address" && remote_filter == "010.002.000.007"`):           "ID-type= IPV4_ADDR\nAddress= 10.2.0.7\n",
		withKey(`remote_filter == "010.002.000.007-010.002.000.007" && local_filter_type ~= "subnet$"`): "ID-type= IPV4_ADDR_SUBNET\nNetwork= 10.2.0.7\nNetmask= 255.255.255.255\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			conf := func(s side) string { return strings.Replace(s.conf(), asNetwork, host, 1) }
			hub := netio.NewHub()
			h := newFakeHost(hub, east.own)
			h.put(policyPath, text)
			passive := east
			passive.list = "Passive-connections"
			a := run(t, h, conf(passive), func(o *Options) { o.NoPolicy = false })
			active := west
			active.list = "Connections"
			b := run(t, newFakeHost(hub, west.own), conf(active))
			a.log.await(t, "phase 2 (quick mode) done for connection tunnel", 1)
			b.end(t)
			a.end(t)
		})
	}
}

// Both sides tell their policies the same of one proposal.
func TestThePolicySeesKeysOfTheCiphers(t *testing.T) {
	for suite, conditions := range map[string]string{
		"QM-ESP-3DES-SHA2-256-PFS-GRP31-SUITE":    `esp_enc_alg == "3des" && esp_key_length == "0"`,
		"QM-ESP-AES-256-SHA2-256-PFS-GRP31-SUITE": `esp_enc_alg == "aes" && esp_key_length == "256"`,
	} {
		synctest.Test(t, func(t *testing.T) {
			hub := netio.NewHub()
			passive, active := east, west
			passive.list, active.list = "Passive-connections", "Connections"
			var nodes []*node
			for _, s := range []side{passive, active} {
				h := newFakeHost(hub, s.own)
				h.put(policyPath, withKey(conditions))
				conf := strings.Replace(s.conf(), "QM-ESP-AES-SHA2-256-PFS-GRP31-SUITE", suite, 1)
				nodes = append(nodes, run(t, h, conf, func(o *Options) { o.NoPolicy = false }))
			}
			for _, n := range nodes {
				n.log.await(t, "phase 2 (quick mode) done for connection tunnel", 1)
			}
			for _, n := range nodes {
				n.end(t)
			}
		})
	}
}

// signed is a credential with the signature of a new key.
func signed(t *testing.T, licensee string) (authorizer, text string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	private, err := key.Generate(rand.Reader, "rsa-hex", 2048)
	must(err)
	authorizer, err = key.Public(private)
	must(err)
	text = "Authorizer: \"" + authorizer + "\"\nLicensees: \"" + licensee + "\"\nConditions: esp_enc_alg == \"aes\" -> \"true\";\n"
	const alg = "sig-rsa-sha256-hex:"
	m, err := keynote.Message([]byte(text), alg)
	must(err)
	signature, err := key.Sign(rand.Reader, alg, private, m)
	must(err)
	return authorizer, text + "Signature: \"" + signature + "\"\n"
}

// The policy trusts an administrator's key; the peer shows what the administrator
// signed for it, and nothing else lets it in.
func TestAPeerShowsItsCredentials(t *testing.T) {
	sum := sha1.Sum([]byte(passphrase))
	admin, credential := signed(t, fmt.Sprintf("passphrase-sha1-hex:%x", sum))
	trusting := "Authorizer: \"POLICY\"\nLicensees: \"" + admin + "\"\nConditions: app_domain == \"IPsec policy\" -> \"true\";\n"
	for name, c := range map[string]struct{ shown, log string }{
		"shown":   {credential, "phase 2 (quick mode) done"},
		"nothing": {"", "the policy refuses"},
		"forged":  {strings.Replace(credential, `== "aes"`, `!= "des"`, 1), "the signature of this assertion does not hold"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := netio.NewHub()
				passive := east
				passive.list = "Passive-connections"
				a := underPolicy(t, hub, passive, trusting)
				active := west
				active.list = "Connections"
				h := newFakeHost(hub, west.own)
				h.put(policyPath, withKey(`esp_present == "yes"`))
				if c.shown != "" {
					h.put("/etc/isakmpd/keynote/"+west.own+"/credentials", c.shown)
				}
				b := run(t, h, active.conf(), func(o *Options) { o.NoPolicy = false })
				a.log.await(t, c.log, 1)
				if up := a.log.count("phase2-up"); (up > 0) != (name == "shown") {
					t.Errorf("%d tunnels", up)
				}
				b.end(t)
				a.end(t)
			})
		})
	}
}
