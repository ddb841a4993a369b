package interop

import (
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

// TestStrongSwanAgreesOnWhatLibipsecLacks negotiates what charon knows and its
// user-space ESP cannot carry: both sides agree, and isakmpd, which here touches
// no IPsec stack, has it done as initiator. As responder it is the other side
// that says what was selected, before its ESP refuses it.
func TestStrongSwanAgreesOnWhatLibipsecLacks(t *testing.T) {
	gmac := espTransform("TRANSFORM_ID= AES_GMAC\nKEY_LENGTH= 256")
	for _, c := range []struct {
		mode     Mode
		swan     string
		selected string // by charon
		nat      bool   // with NAT-OA payloads
	}{
		{Mode{Name: "transport mode", Protocols: "QM-ESP-TRP-AES-128-SHA", Hosts: true}, "aes128-sha1", `ESP:AES_CBC_128/HMAC_SHA1_96/NO_EXT_SEQ`, true},
		{Mode{Name: "GMAC", Protocols: "esp", Sections: gmac}, "aes256gmac", `ESP:NULL_AES_GMAC_256/NO_EXT_SEQ`, false},
		{Mode{Name: "ESN", Protocols: "esp", Sections: espTransform("TRANSFORM_ID= AES\nKEY_LENGTH= 128\nAUTHENTICATION_ALGORITHM= HMAC_SHA" + esn)}, "aes128-sha1-esn", `ESP:AES_CBC_128/HMAC_SHA1_96/EXT_SEQ`, false},
	} {
		for _, weStart := range []bool{true, false} {
			name := c.mode.Name + ", strongSwan starts"
			if weStart {
				name = c.mode.Name + ", isakmpd starts"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, lab.HowToOptions{})
				tun := Tunnel{P1: Phase1s[5], P2: Phase2{Swan: c.swan}, Mode: &c.mode, Initiate: weStart}
				swan, err := StartStrongSwan(s.Slippery, t.TempDir(), s.west(tun))
				must(t, err)
				ours, err := StartIsakmpd(s.Ragweed, t.TempDir(), s.east(tun).IsakmpdConf(), "-n")
				must(t, err)
				if weStart {
					_, err = ours.Log.Wait(phase2Done, 10*time.Second)
					must(t, err)
				} else if err := swan.Initiate(5 * time.Second); err == nil {
					t.Error("charon has installed it: this test is about what it cannot")
				}
				_, err = swan.Log.Wait("selected proposal: "+c.selected, 5*time.Second)
				must(t, err)
				const ends = `parsed QUICK_MODE .* HASH SA No ID ID( NAT-OA NAT-OA)? \]`
				l, err := swan.Log.Wait(ends, 0)
				must(t, err)
				if strings.Contains(l.Text, "NAT-OA") != c.nat {
					t.Errorf("charon understood %s", l.Text)
				}
				must(t, ours.End())
			})
		}
	}
}
