package lab

import (
	"bytes"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func howTo(t *testing.T, o HowToOptions) *HowTo {
	t.Helper()
	net, err := New(t).HowTo(o)
	must(t, err)
	return net
}

func TestClearTextPassesAndTheSpySeesIt(t *testing.T) {
	net := howTo(t, HowToOptions{})
	for _, a := range []Addrs{net.V4, net.V6} {
		var pcap bytes.Buffer
		spy, err := net.Spy(SpyOptions{Pcap: &pcap})
		must(t, err)
		c, err := net.Dandelion.Ping(a.Icy, 3, 5*time.Second)
		must(t, err)
		if c.Lost() != 0 || c.MinRTT <= 0 || c.MaxRTT < c.MinRTT {
			t.Errorf("ping without a tunnel: %v", c)
		}
		v := spy.Settle()
		if v.Leaked < 6 || v.Check() == nil || !strings.Contains(v.Check().Error(), a.Icy.String()) {
			t.Errorf("the spy let clear text pass: %v, %v", v, v.Check())
		}
		v = spy.Close()
		if pcap.Len() < 6*64 {
			t.Errorf("the recording has %d bytes", pcap.Len())
		}
	}
}

func TestTransfersAreComparedAndUDPIsCounted(t *testing.T) {
	net := howTo(t, HowToOptions{})
	printer := netip.AddrPortFrom(net.V4.Icy, 9100)
	j, err := net.Dandelion.Send(net.Icy, printer, 10<<20, 20*time.Second)
	must(t, err)
	if j.Bytes != 10<<20 || !j.Intact() || j.MbitPerSecond() <= 0 {
		t.Errorf("job: %+v", j)
	}
	echo, err := net.Icy.Echo(netip.AddrPortFrom(net.V6.Icy, 7))
	must(t, err)
	s, err := net.Dandelion.StartUDP(netip.AddrPortFrom(net.V6.Icy, 7), 1000, 5*time.Millisecond)
	must(t, err)
	must(t, s.AwaitAnswers(50, 5*time.Second))
	echo.Close()
	Eventually(t, 5*time.Second, "loss is counted when nobody answers", func() bool { return s.Counts().Lost() > 5 })
	c := s.Stop(100 * time.Millisecond)
	if c.Received < 50 || c.Lost() < 5 || len(s.Missing(3)) != 3 {
		t.Errorf("stream: %v, missing %v", c, s.Missing(3))
	}
}

func TestNATHidesRagweed(t *testing.T) {
	for _, newPorts := range []bool{false, true} {
		net := howTo(t, HowToOptions{NAT: true, NewPorts: newPorts})
		server, err := net.Slippery.ListenUDP(netip.AddrPortFrom(net.V4.Slippery, 500))
		must(t, err)
		defer server.Close()
		client, err := net.Ragweed.ListenUDP(netip.AddrPortFrom(net.V4.Ragweed, 500))
		must(t, err)
		defer client.Close()
		_, err = client.WriteToUDPAddrPort([]byte("hello"), netip.AddrPortFrom(net.V4.Slippery, 500))
		must(t, err)
		buf := make([]byte, 10)
		must(t, server.SetReadDeadline(time.Now().Add(5*time.Second)))
		_, from, err := server.ReadFromUDPAddrPort(buf)
		must(t, err)
		if from.Addr() != net.V4.RagweedSeen || from.Addr() == net.V4.Ragweed || (from.Port() != 500) != newPorts {
			t.Errorf("Slippery sees %v (new ports: %v)", from, newPorts)
		}
		_, err = server.WriteToUDPAddrPort([]byte("back"), from)
		must(t, err)
		must(t, client.SetReadDeadline(time.Now().Add(5*time.Second)))
		n, _, err := client.ReadFromUDPAddrPort(buf)
		must(t, err)
		if string(buf[:n]) != "back" {
			t.Errorf("the answer is %q", buf[:n])
		}
	}
}

func TestDroppedPortIsACutCable(t *testing.T) {
	net := howTo(t, HowToOptions{})
	to := netip.AddrPortFrom(net.V4.Slippery, 500)
	_, err := net.Slippery.Echo(to)
	must(t, err)
	s, err := net.Ragweed.StartUDP(to, 100, 5*time.Millisecond)
	must(t, err)
	must(t, s.AwaitAnswers(5, 5*time.Second))
	lift, err := net.Internet.DropUDP(500)
	must(t, err)
	Eventually(t, 5*time.Second, "datagrams are lost", func() bool { return s.Counts().Lost() > 5 })
	must(t, lift())
	must(t, s.AwaitAnswers(5, 5*time.Second))
	s.Stop(0)
}

func TestProgramsRunOnTheirHost(t *testing.T) {
	net := howTo(t, HowToOptions{})
	out, err := net.Icy.RunCommand(10*time.Second, Command{
		Path: "/bin/sh", Args: []string{"-c", "cat /proc/net/fib_trie; ls -A /var/run; echo x > /var/run/mine"}, Private: []string{RunDir()},
	})
	must(t, err)
	if !strings.Contains(out, "10.2.0.2") || strings.Contains(out, "10.1.0.2") {
		t.Errorf("not Icy's routes:\n%s", out)
	}
	if _, err := os.Stat("/var/run/mine"); err == nil {
		t.Error("the private /var/run is not private")
	}
	if _, err := net.Icy.Run(10*time.Second, "/bin/sh", "-c", "echo oh no; exit 3"); err == nil || !strings.Contains(err.Error(), "oh no") {
		t.Errorf("a failed program gives %v", err)
	}

	p, err := net.Icy.Start(Command{Path: "/bin/sh", Args: []string{"-c", "trap 'echo bye; exit 4' TERM; echo mine > /var/run/x; echo ready; while :; do read x; done"}, Stdin: neverEnds(t), Private: []string{RunDir()}})
	must(t, err)
	_, err = p.Log.Wait("^ready$", 5*time.Second)
	must(t, err)
	if b, err := p.ReadFile(RunDir() + "/x"); err != nil || string(b) != "mine\n" {
		t.Errorf("its own file: %q %v", b, err)
	}
	_, err = p.Log.Wait("^never$", 10*time.Millisecond)
	if err == nil {
		t.Error("a line that never comes was found")
	}
	if p.ExitCode() != -1 || !p.Running() {
		t.Error("it should run")
	}
	must(t, p.Signal(syscall.SIGTERM))
	<-p.Done()
	if p.ExitCode() != 4 || p.Log.Count("bye") != 1 {
		t.Errorf("status %d, log %q", p.ExitCode(), p.Log)
	}
}

// neverEnds is an input on which nothing comes.
func neverEnds(t *testing.T) *os.File {
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return r
}

func TestStateTellsWhatWasLeftBehind(t *testing.T) {
	net := howTo(t, HowToOptions{})
	before, err := net.Ragweed.State()
	must(t, err)
	again, err := net.Ragweed.State()
	must(t, err)
	if d := before.Diff(again); d != "" {
		t.Errorf("nothing changed, and yet:\n%s", d)
	}
	must(t, net.Ragweed.Route("203.0.113.0/24", net.V4.routerEast.String()))
	lift, err := net.Ragweed.DropUDP(9)
	must(t, err)
	c, err := net.Ragweed.ListenUDP(netip.AddrPortFrom(net.V4.Ragweed, 4500))
	must(t, err)
	now, err := net.Ragweed.State()
	must(t, err)
	d := before.Diff(now)
	for _, want := range []string{"+ route table 254 203.0.113.0/24", "+ nft table lab-drop-9", "+ socket udp 020200C0:1194"} {
		if !strings.Contains(d, want) {
			t.Errorf("the difference lacks %q:\n%s", want, d)
		}
	}
	must(t, lift())
	must(t, c.Close())
	now, err = net.Ragweed.State()
	must(t, err)
	if d := before.Diff(now); strings.Count(d, "\n") != 1 || !strings.HasPrefix(d, "+ route") {
		t.Errorf("only the route is left, but:\n%s", d)
	}
	files, err := OpenFiles()
	must(t, err)
	if len(files) < 3 || !slices.IsSorted(files) {
		t.Errorf("open files: %v", files)
	}
}
