package tools

import (
	"regexp"
	"strings"
	"testing"

	"oakley/internal/lab"
	"oakley/interop"
)

// negotiated: what two isakmpd agree on and leave to the kernel is shown as what is
// keyed by hand, goes away and comes back as with our own stack.
func negotiated(t *testing.T) {
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	h, a := &host{Host: n.Ragweed, t: t}, n.V4
	before := h.state()
	east := interop.Tunnel{
		Name: "east-west", P1: interop.Phase1s[2], P2: interop.Phase2s[2], Plane: "kernel", Initiate: true,
		Local: a.Ragweed, Remote: a.Slippery, LocalNet: a.NetBadplants, RemoteNet: a.NetCarefull,
	}
	west := east
	west.Local, west.Remote, west.LocalNet, west.RemoteNet, west.Initiate = east.Remote, east.Local, east.RemoteNet, east.LocalNet, false

	// Who watches has an ipsecd started, which isakmpd finds.
	ctl, err := lab.Build("oakley/cmd/ipsecctl")
	must(t, err)
	watcher, err := h.Start(lab.Command{Path: ctl, Args: []string{"-m"}, Private: []string{lab.RunDir()}})
	must(t, err)
	lab.Eventually(t, inTime, "it watches", func() bool {
		h.adm("enable esp")
		return watcher.Log.Count("switch esp on") > 0
	})
	right, err := interop.StartIsakmpd(n.Slippery, t.TempDir(), west.IsakmpdConf())
	must(t, err)
	left, err := interop.StartIsakmpd(n.Ragweed, t.TempDir(), east.IsakmpdConf())
	must(t, err)
	pings := func() {
		t.Helper()
		if _, err := n.Dandelion.Ping(a.Icy, 2, inTime); err != nil {
			t.Fatalf("%v\n%s", err, h.ctl("-v -s all"))
		}
	}
	_, err = left.Log.Wait(`phase 2 \(quick mode\) done`, inTime)
	must(t, err)
	pings()
	spi := regexp.MustCompile(`spi 0x[0-9a-f]{8} `)
	if got, want := spi.ReplaceAllString(h.ctl("-s all"), ""), `FLOWS:
flow esp in from 10.2.0.0/24 to 10.1.0.0/24 peer 198.51.100.2 type require
flow esp out from 10.1.0.0/24 to 10.2.0.0/24 peer 198.51.100.2 type require

SAD:
esp tunnel from 198.51.100.2 to 192.0.2.2 auth hmac-sha1 enc aes
esp tunnel from 192.0.2.2 to 198.51.100.2 auth hmac-sha1 enc aes
`; got != want {
		t.Errorf("ipsecctl -s all prints\n%s\nwant\n%s", got, want)
	}
	verbose := h.ctl("-v -k -s sa")
	for _, want := range []string{
		"\tidentities:     srcid 192.0.2.2 dstid 198.51.100.2\n", "\tconnection:     east-west\n", "\tmade by:        isakmpd\n",
		"\thard lifetime:  30m0s", "\tsequence:       2 last sent, of 32 bits\n", "\tsequence:       2 highest received, of 32 bits\n", "\treplay window:  ", "\tenckey 0x",
	} {
		if !strings.Contains(verbose, want) {
			t.Errorf("no %q in\n%s", want, verbose)
		}
	}

	// An SA and then everything is taken away: isakmpd mends it.
	out := regexp.MustCompile(`from 192\.0\.2\.2 to 198\.51\.100\.2 spi 0x([0-9a-f]+)`).FindStringSubmatch(verbose)
	if out == nil {
		t.Fatalf("no outgoing SA in\n%s", verbose)
	}
	if said := h.adm("delspi -dst 198.51.100.2 -spi %s", out[1]); !strings.Contains(said, "the SA was isakmpd's (connection east-west)") {
		t.Errorf("ipsecadm says %q", said)
	}
	_, err = left.Log.Wait(out[1]+".* is gone from the data plane", inTime)
	must(t, err)
	pings()
	h.ctl("-F")
	_, err = left.Log.Wait("flows of east-west were not in the data plane any more", inTime)
	must(t, err)
	pings()

	must(t, left.End())
	if got := h.ctl("-s all"); got != "FLOWS:\nNo flows\n\nSAD:\nNo entries\n" {
		t.Errorf("after isakmpd there is\n%s", got)
	}
	must(t, right.End())
	for _, want := range []string{
		` getspi in esp to 192\.0\.2\.2 spi 0x[0-9a-f]{8} \(pid \d+\)$`,
		` add out esp tunnel from 192\.0\.2\.2 to 198\.51\.100\.2 spi 0x[0-9a-f]{8} auth hmac-sha1 enc aes \(pid \d+\)$`,
		` flush SAs and flows made by isakmpd \(pid \d+\)$`,
	} {
		if _, err := watcher.Log.Wait(want, inTime); err != nil {
			t.Errorf("%v\n%s", err, watcher.Log)
		}
	}
	must(t, watcher.Stop(inTime))
	h.unchanged(before)
}
