package vmtest

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"oakley/internal/lab"
)

// The guest's kernel carries a ping through ESP between two hosts, and says how
// many packets its SAs have seen.
func TestKernelCarriesESP(t *testing.T) {
	t.Parallel()
	Run(t, Machine{Modules: IPsec}, func(t *testing.T) {
		for _, c := range []struct {
			name string
			set  func(s *netlink.XfrmState)
		}{
			{"AES-CBC and HMAC-SHA1", func(s *netlink.XfrmState) {
				s.Crypt = &netlink.XfrmStateAlgo{Name: "cbc(aes)", Key: bytes.Repeat([]byte{1}, 16)}
				s.Auth = &netlink.XfrmStateAlgo{Name: "hmac(sha1)", Key: bytes.Repeat([]byte{2}, 20), TruncateLen: 96}
			}},
			{"AES-GCM", func(s *netlink.XfrmState) {
				s.Aead = &netlink.XfrmStateAlgo{Name: "rfc4106(gcm(aes))", Key: bytes.Repeat([]byte{3}, 20), ICVLen: 128}
			}},
		} {
			t.Run(c.name, func(t *testing.T) { pingThroughESP(t, c.set) })
		}
	})
}

func pingThroughESP(t *testing.T, set func(*netlink.XfrmState)) {
	n := lab.New(t)
	outer := [2]string{"192.0.2.2", "198.51.100.2"}
	gate := [2]string{"192.0.2.1", "198.51.100.1"}
	const inner = "10.2.0.1" // behind the right one
	addrs := [2][]string{{outer[0] + "/24"}, {outer[1] + "/24", inner + "/32"}}
	// A spy on an end of a tunnel would see the packets that its kernel has
	// opened, too. So somebody stands between.
	internet, err := n.Host("internet")
	must(t, err)
	must(t, internet.Forward())
	var hosts [2]*lab.Host
	for i, name := range []string{"left", "right"} {
		h, err := n.Host(name)
		must(t, err)
		hosts[i] = h
		must(t, n.Connect(lab.End{Host: h, If: "wan", Addrs: addrs[i]}, lab.End{Host: internet, If: name, Addrs: []string{gate[i] + "/24"}}))
		must(t, h.Route("default", gate[i]))
		must(t, h.Do(func() error { return protect(i, outer, inner, set) }))
	}
	spy, err := internet.Spy("right", lab.SpyOptions{Inner: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Marks: [][]byte{lab.PingMark()}})
	must(t, err)
	counts, err := hosts[0].Ping(netip.MustParseAddr(inner), 5, 10*time.Second)
	must(t, err)
	if counts.Lost() > 0 {
		t.Fatalf("ping: %v", counts)
	}
	sight := spy.Settle()
	if err := sight.Check(); err != nil {
		t.Error(err)
	}
	if got := sight.Packets[lab.ESP]; got < 10 {
		t.Errorf("%d packets of ESP on the cable for 5 pings, 10 expected: %v", got, sight)
	}
	for _, h := range hosts {
		var states []netlink.XfrmState
		must(t, h.Do(func() (err error) { states, err = netlink.XfrmStateList(netlink.FAMILY_V4); return err }))
		if len(states) != 2 {
			t.Errorf("%s has %d SAs, 2 expected", h, len(states))
		}
		for _, s := range states {
			if s.Statistics.Packets != 5 || s.Statistics.Failed != 0 {
				t.Errorf("%s, SPI %#x: %d packets and %d that failed, 5 and 0 expected", h, s.Spi, s.Statistics.Packets, s.Statistics.Failed)
			}
		}
	}
}

// protect gives this thread's namespace, of host i, its two SAs and the policies
// for what goes between the left one and the inner address.
func protect(i int, outer [2]string, inner string, set func(*netlink.XfrmState)) error {
	ends := [2]string{outer[0], inner}
	for from := range 2 {
		to := 1 - from
		s := netlink.XfrmState{
			Src: net.ParseIP(outer[from]), Dst: net.ParseIP(outer[to]), Proto: netlink.XFRM_PROTO_ESP,
			Mode: netlink.XFRM_MODE_TUNNEL, Spi: 0x1000 + from, Reqid: 1, ReplayWindow: 64,
		}
		set(&s)
		if err := netlink.XfrmStateAdd(&s); err != nil {
			return err
		}
		dir := netlink.XFRM_DIR_IN
		if from == i {
			dir = netlink.XFRM_DIR_OUT
		}
		err := netlink.XfrmPolicyAdd(&netlink.XfrmPolicy{
			Src: host32(ends[from]), Dst: host32(ends[to]), Dir: dir,
			Tmpls: []netlink.XfrmPolicyTmpl{{Src: s.Src, Dst: s.Dst, Proto: s.Proto, Mode: s.Mode, Reqid: s.Reqid}},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func host32(addr string) *net.IPNet {
	return &net.IPNet{IP: net.ParseIP(addr).To4(), Mask: net.CIDRMask(32, 32)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
