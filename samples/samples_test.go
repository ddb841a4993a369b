package samples

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBuilds()
	os.Exit(code)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// network is the how-to's, whose addresses are those of the samples, and a spy.
func network(t *testing.T) (*lab.HowTo, *lab.Spy) {
	t.Helper()
	lab.Need(t, "root", "tun")
	net, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	spy, err := net.Spy(lab.SpyOptions{})
	must(t, err)
	return net, spy
}

// own has our own stack carry the traffic, whatever this machine's kernel can do:
// a kernel has a test of its own.
const own = "--data-plane=ipsecd"

// start runs isakmpd with a sample as it is.
func start(t *testing.T, h *lab.Host, sample string) *interop.Isakmpd {
	t.Helper()
	text, err := os.ReadFile(sample)
	must(t, err)
	d, err := interop.StartIsakmpd(h, t.TempDir(), string(text), own)
	must(t, err)
	return d
}

// end stops both and looks at what the spy saw.
func end(t *testing.T, spy *lab.Spy, ds ...*interop.Isakmpd) {
	t.Helper()
	v := spy.Settle()
	if err := v.Check(); err != nil || v.Protected() == 0 {
		t.Errorf("the spy saw %v: %v", v, err)
	}
	for _, d := range ds {
		must(t, d.End())
		if n := d.Log.Count(" (warning|error): "); n != 0 {
			t.Errorf("a sample is to run without a warning:\n%s", d.Log)
		}
	}
}

func TestEastAndWestMakeATunnel(t *testing.T) {
	net, spy := network(t)
	west := start(t, net.Slippery, "west.conf")
	east := start(t, net.Ragweed, "east.conf")
	_, err := net.Dandelion.Ping(net.V4.Icy, 5, 15*time.Second)
	must(t, err)
	_, err = net.Icy.Ping(net.V4.Dandelion, 5, 15*time.Second)
	must(t, err)
	_, err = net.Dandelion.Send(net.Icy, netip.AddrPortFrom(net.V4.Icy, 9100), 1<<20, 20*time.Second)
	must(t, err)
	end(t, spy, east, west)
}

func TestWestStartsWhenTrafficWantsIt(t *testing.T) {
	net, spy := network(t)
	west := start(t, net.Slippery, "west.conf")
	text, err := os.ReadFile("east.conf")
	must(t, err)
	passive := strings.Replace(string(text), "\nConnections=", "\nPassive-connections=", 1)
	east, err := interop.StartIsakmpd(net.Ragweed, t.TempDir(), passive, own)
	must(t, err)
	n, err := net.Icy.Ping(net.V4.Dandelion, 5, 15*time.Second)
	must(t, err)
	if n.Lost() != 0 {
		t.Errorf("packets that came before the tunnel are delivered after it: %v", n)
	}
	end(t, spy, east, west)
}

func TestTwoHostsTalkThroughATunnel(t *testing.T) {
	net, spy := network(t)
	b := start(t, net.Slippery, "host-b.conf")
	a := start(t, net.Ragweed, "host-a.conf")
	_, err := net.Ragweed.Ping(net.V4.Slippery, 5, 15*time.Second)
	must(t, err)
	_, err = net.Slippery.Ping(net.V4.RagweedSeen, 5, 15*time.Second)
	must(t, err)
	_, err = net.Ragweed.Send(net.Slippery, netip.AddrPortFrom(net.V4.Slippery, 9100), 1<<20, 20*time.Second)
	must(t, err)
	end(t, spy, a, b)
}
