package kernel

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"oakley/internal/lab"
)

// tables are what a kernel has of IPsec, without counters and times.
type tables struct{ states, policies []string }

// tables reads those of the gateway. The policies of sockets are not among them.
func (g *gateway) tables(t *testing.T) tables {
	t.Helper()
	v, err := readTables(g.host)
	must(t, err)
	return v
}

func readTables(h *lab.Host) (v tables, err error) {
	err = h.Do(func() error {
		states, err := netlink.XfrmStateList(netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, s := range states {
			s.Statistics = netlink.XfrmStateStats{}
			v.states = append(v.states, fmt.Sprintf("%s > %s %v spi %08x reqid %d mode %v replay %d mark %v if_id %d encap %v: %v %v %v",
				s.Src, s.Dst, s.Proto, s.Spi, s.Reqid, s.Mode, s.ReplayWindow, s.Mark, s.Ifid, s.Encap, s.Auth, s.Crypt, s.Aead))
		}
		policies, err := netlink.XfrmPolicyList(netlink.FAMILY_ALL)
		for _, p := range policies {
			if p.Dir == netlink.XFRM_DIR_IN || p.Dir == netlink.XFRM_DIR_OUT || p.Dir == netlink.XFRM_DIR_FWD {
				v.policies = append(v.policies, fmt.Sprintf("%v > %v dir %v priority %d index %d action %v mark %v if_id %d: %v", p.Src, p.Dst, p.Dir, p.Priority, p.Index, p.Action, p.Mark, p.Ifid, p.Tmpls))
			}
		}
		return err
	})
	slices.Sort(v.states)
	slices.Sort(v.policies)
	return v, err
}

// foreign puts an SA and a policy of somebody else's into a host's tables, and
// returns a check that they are as they were.
func foreign(t *testing.T, h *lab.Host) (untouched func(t *testing.T, when string)) {
	t.Helper()
	const to = "203.0.113.9"
	must(t, h.Do(func() error {
		s := &netlink.XfrmState{
			Src: net.ParseIP("192.0.2.2"), Dst: net.ParseIP(to), Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL,
			Spi: 0xabcdef01, Reqid: 77, ReplayWindow: 32,
			Auth:  &netlink.XfrmStateAlgo{Name: "hmac(sha1)", Key: []byte(strings.Repeat("k", 20))},
			Crypt: &netlink.XfrmStateAlgo{Name: "cbc(aes)", Key: []byte(strings.Repeat("c", 16))},
		}
		if err := netlink.XfrmStateAdd(s); err != nil {
			return err
		}
		_, dst, err := net.ParseCIDR("203.0.113.0/24")
		if err != nil {
			return err
		}
		_, src, err := net.ParseCIDR("10.1.0.0/24")
		if err != nil {
			return err
		}
		return netlink.XfrmPolicyAdd(&netlink.XfrmPolicy{
			Src: src, Dst: dst, Dir: netlink.XFRM_DIR_OUT, Priority: 1000,
			Tmpls: []netlink.XfrmPolicyTmpl{{Src: s.Src, Dst: s.Dst, Proto: s.Proto, Mode: s.Mode, Reqid: s.Reqid}},
		})
	}))
	theirs := func() (tables, error) {
		v, err := readTables(h)
		other := func(l string) bool { return !strings.Contains(l, "203.0.113.") }
		return tables{slices.DeleteFunc(v.states, other), slices.DeleteFunc(v.policies, other)}, err
	}
	before, err := theirs()
	must(t, err)
	if len(before.states) != 1 || len(before.policies) != 1 {
		t.Fatalf("somebody else's are not there: %q", before)
	}
	return func(t *testing.T, when string) {
		t.Helper()
		now, err := theirs()
		must(t, err)
		if !slices.Equal(now.states, before.states) || !slices.Equal(now.policies, before.policies) {
			t.Errorf("%s: what is somebody else's is\n%q, and was\n%q", when, now, before)
		}
	}
}
