package interop

import (
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

// TestIKEScanSeesAProperResponder probes isakmpd from its peer's address, one
// transform at a time: encryption, hash, method, group (RFC 2409 appendix A).
func TestIKEScanSeesAProperResponder(t *testing.T) {
	lab.Need(t, "root", "tun", "ike-scan")
	net, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	s := &site{HowTo: net}
	ours, err := StartIsakmpd(s.Slippery, t.TempDir(), s.west(Tunnel{P1: Phase1s[2], P2: Phase2s[2]}).IsakmpdConf())
	must(t, err)
	prog, err := lab.Program("ike-scan")
	must(t, err)
	for _, c := range []struct {
		name, trans string
		want        []string
	}{
		{"the configured one", "7/128,2,1,14", []string{
			"Main Mode Handshake returned", "Enc=AES", "KeyLength=128", "Hash=SHA1", "Auth=PSK", "Group=14:modp2048",
			"1 returned handshake; 0 returned notify",
		}},
		{"attributes in another order", "(4=14,3=1,14=128,2=2,1=7)", []string{"Main Mode Handshake returned", "1 returned handshake"}},
		{"another cipher", "5,2,1,14", []string{"NO-PROPOSAL-CHOSEN", "0 returned handshake; 1 returned notify"}},
		{"another group", "7/128,2,1,2", []string{"NO-PROPOSAL-CHOSEN"}},
		{"another method", "7/128,2,3,14", []string{"NO-PROPOSAL-CHOSEN"}},
		{"a group that nobody knows", "7/128,2,1,999", []string{"NO-PROPOSAL-CHOSEN"}},
	} {
		out, err := s.Ragweed.Run(20*time.Second, prog, "--sport=0", "--retry=1", "--timeout=3000", "--trans="+c.trans, s.V4.Slippery.String())
		must(t, err)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: ike-scan does not say %q:\n%s", c.name, want, out)
			}
		}
	}
	must(t, ours.End())
}
