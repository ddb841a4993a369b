package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

// A person flushes the stack under two isakmpd while a host pings through their
// tunnel. isakmpd says so, puts its flows back, tells the peer and negotiates: the
// pings go on by themselves. So they do when one SA is deleted.
func TestIsakmpdMendsAFlush(t *testing.T) {
	lab.Need(t, "root", "tun")
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	on := func(h *lab.Host, program string, args ...string) string {
		t.Helper()
		out, err := h.RunCommand(patience, lab.Command{Path: program, Args: args, Private: []string{lab.RunDir()}})
		must(t, err)
		return out
	}
	adm, err := lab.Build("oakley/cmd/ipsecadm")
	must(t, err)
	start := func(h *lab.Host, sample string) *interop.Isakmpd {
		t.Helper()
		text, err := os.ReadFile("../../samples/" + sample + ".conf")
		must(t, err)
		d, err := interop.StartIsakmpd(h, t.TempDir(), string(text), "--data-plane=ipsecd")
		must(t, err)
		return d
	}
	west := start(n.Slippery, "west")
	east := start(n.Ragweed, "east")
	ping, err := n.Dandelion.StartPing(n.V4.Icy, 20*time.Millisecond)
	must(t, err)
	must(t, ping.AwaitAnswers(5, 20*time.Second))

	for i, side := range []struct {
		host *lab.Host
		d    *interop.Isakmpd
		conn string
	}{{n.Ragweed, east, "east-west"}, {n.Slippery, west, "west-east"}} {
		on(side.host, program(t), "-F")
		_, err = side.d.Log.Wait("flows of "+side.conn+" were not in the data plane any more", patience)
		must(t, err)
		was := ping.Counts().Received
		lab.Eventually(t, 20*time.Second, "pings go through again", func() bool { return ping.Counts().Received > was+20 })
		if got := on(side.host, program(t), "-s", "flow"); strings.Count(got, "type require") != 2 {
			t.Errorf("flows after flush %d:\n%s", i, got)
		}
	}

	spi := ""
	for _, l := range strings.Split(on(n.Ragweed, program(t), "-s", "sa"), "\n") {
		if _, after, ok := strings.Cut(l, "from 192.0.2.2 to 198.51.100.2 spi 0x"); ok {
			spi = strings.Fields(after)[0] // the newest is the last
		}
	}
	out := on(n.Ragweed, adm, "delspi", "-dst", "198.51.100.2", "-spi", spi)
	if !strings.Contains(out, "the SA was isakmpd's (connection east-west)") {
		t.Errorf("ipsecadm says %q", out)
	}
	_, err = east.Log.Wait(spi+".* is gone from the data plane", patience)
	must(t, err)
	was := ping.Counts().Received
	lab.Eventually(t, 20*time.Second, "pings go through again", func() bool { return ping.Counts().Received > was+20 })
	ping.Stop(0)
	must(t, east.End())
	must(t, west.End())
}
