package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"oakley/internal/lab"
)

// Lines of isakmpd -v that the demonstration waits for.
const (
	lineListens = `listening on `
	linePhase1  = `phase 1 \(main mode\) done`
	linePhase2  = `phase 2 \(quick mode\) done`
	lineReport  = `report written`
)

// daemon is isakmpd on one gateway.
type daemon struct {
	*lab.Process
	gateway
	host   *lab.Host
	before lab.State
}

// demo is a demonstration under way.
type demo struct {
	*screen
	o       options
	ctx     context.Context
	net     *lab.HowTo
	dir     string
	spy     *lab.Spy
	daemons []*daemon
	started time.Time // of the daemons
	ping    *lab.Stream
	spare   func() bool // takes back that an interrupt ends the network
	stayed  bool
	first   time.Duration // from there to the first answered ping
	job     lab.Job
}

// demonstrate runs all steps; the error is that of the step that failed.
func demonstrate(ctx context.Context, s *screen, o options) (err error) {
	if !o.stay {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	d := &demo{screen: s, o: o, ctx: ctx}
	if d.o.isakmpd, err = lab.Program(o.isakmpd); err != nil {
		return fmt.Errorf("%w: build it with make build, or name it with --isakmpd", err)
	}
	if d.o.isakmpd, err = filepath.Abs(d.o.isakmpd); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "vpnlab"); err != nil {
		return err
	}
	defer os.RemoveAll(d.dir)
	net := lab.Open()
	defer net.Close()
	// An interrupt ends waiting steps by taking the network away under them.
	d.spare = context.AfterFunc(ctx, net.Close)
	defer d.spare()

	for _, step := range []func(*lab.Net) error{
		d.makeNetwork, d.showClearText, d.writeFiles, d.startDaemons, d.awaitPhases,
		d.pingIcy, d.printJob, d.showSpy, d.showSAs, d.stayIfAsked, d.stopDaemons,
	} {
		if err = step(net); err != nil {
			break
		}
	}
	switch cause := ctx.Err(); {
	case err == nil:
	case errors.Is(cause, context.Canceled) && !d.stayed:
		return errors.New("interrupted")
	case errors.Is(cause, context.DeadlineExceeded):
		err = errors.Join(fmt.Errorf("not done after %v", limit), err)
	}
	if err != nil {
		d.bad("%v", err)
		d.showLogs()
		return errors.New("the demonstration failed")
	}
	d.step("Done in %.1f s", time.Since(s.start).Seconds())
	d.say("first ping %s after the daemons' start · %.0f Mbit/s through the tunnel · nothing leaked", ms(d.first), d.job.MbitPerSecond())
	return nil
}

func (d *demo) makeNetwork(n *lab.Net) (err error) {
	d.step("A network of namespaces")
	if d.net, err = n.HowTo(lab.HowToOptions{NAT: d.o.nat}); err != nil {
		return err
	}
	v4 := d.net.V4
	middle := "internet"
	if d.o.nat {
		middle = "NAT " + v4.RagweedSeen.String() + " ══ internet"
	}
	d.say("%s", d.paint(cyan, fmt.Sprintf("Dandelion ── Ragweed ══ %s ══ Slippery ── Icy", middle)))
	d.say("Badplants.com: Dandelion %s behind Ragweed %s", v4.Dandelion, v4.Ragweed)
	d.say("Carefull.com:  Icy %s, a printer server, behind Slippery %s", v4.Icy, v4.Slippery)
	return nil
}

// showClearText is the reason for the whole thing.
func (d *demo) showClearText(*lab.Net) error {
	d.step("Without a tunnel")
	spy, err := d.net.Spy(lab.SpyOptions{})
	if err != nil {
		return err
	}
	defer spy.Close()
	if _, err := d.net.Dandelion.Ping(d.net.V4.Icy, 1, 5*time.Second); err != nil {
		return fmt.Errorf("the network itself does not work: %w", err)
	}
	if v := spy.Settle(); v.Leaked == 0 {
		return errors.New("a spy on the internet did not see a ping in clear: it would see no leak either")
	}
	d.say("Dandelion's ping reaches Icy, and %s", d.paint(yellow, "a spy on the internet reads all of it"))
	return nil
}

func (d *demo) writeFiles(*lab.Net) error {
	d.step("The how-to's files, with these addresses, and its policy")
	hosts := []struct {
		g gateway
		h *lab.Host
	}{{ragweed(d.net), d.net.Ragweed}, {slippery(d.net), d.net.Slippery}}
	for _, x := range hosts {
		policyFile := filepath.Join(d.dir, x.g.name+".policy")
		if err := errors.Join(os.WriteFile(d.confOf(x.g), []byte(x.g.conf(policyFile)), 0o600), os.WriteFile(policyFile, []byte(policy), 0o600)); err != nil {
			return err
		}
		before, err := x.h.State()
		if err != nil {
			return err
		}
		d.daemons = append(d.daemons, &daemon{gateway: x.g, host: x.h, before: before})
	}
	r := hosts[0].g
	d.say("%s", d.paint(dim, excerpt(r.conf(""), r.peer, r.connection, "Default-quick-mode")))
	d.say("(one slip of the print is mended: its [Ragweed Slippery] is [Ragweed-Slippery])")
	d.say("%s", d.paint(dim, strings.TrimRight(policy, "\n")))
	return nil
}

func (d *demo) confOf(g gateway) string { return filepath.Join(d.dir, g.name+".conf") }

func (d *demo) startDaemons(*lab.Net) (err error) {
	d.step("isakmpd on Ragweed and on Slippery; both start the tunnel by themselves")
	o := lab.SpyOptions{}
	if d.o.pcap != "" {
		f, err := os.Create(d.o.pcap)
		if err != nil {
			return err
		}
		o.Pcap = f // closed by the end of the program: the spy writes until then
	}
	if d.spy, err = d.net.Spy(o); err != nil {
		return err
	}
	d.started = time.Now()
	for i, x := range d.daemons {
		args := []string{"-d", "-v", "-c", d.confOf(x.gateway)}
		if d.o.plane != "" {
			args = append(args, "--data-plane", d.o.plane)
		}
		var tee io.Writer
		if d.o.verbose {
			tee = logWriter{d.screen, fmt.Sprintf("%-9s", x.name), []string{cyan, yellow}[i%2]}
		}
		if x.Process, err = x.host.Start(lab.Command{Path: d.o.isakmpd, Args: args, Private: []string{lab.RunDir()}, Tee: tee}); err != nil {
			return err
		}
	}
	for _, x := range d.daemons {
		line, err := x.await(lineListens, 10*time.Second)
		if err != nil {
			return err
		}
		d.say("%-9s %s", x.name, message(line.Text))
	}
	// From here on what is for the other network is held until the tunnel is there.
	d.ping, err = d.net.Dandelion.StartPing(d.net.V4.Icy, 10*time.Millisecond)
	return err
}

// await waits for a line, and not longer than the daemon runs.
func (x *daemon) await(pattern string, timeout time.Duration) (lab.Line, error) {
	type found struct {
		line lab.Line
		err  error
	}
	res := make(chan found, 1)
	go func() {
		line, err := x.Log.Wait(pattern, timeout)
		res <- found{line, err}
	}()
	select {
	case f := <-res:
		if f.err != nil {
			return f.line, fmt.Errorf("isakmpd on %s: %w", x.name, f.err)
		}
		return f.line, nil
	case <-x.Done():
		return lab.Line{}, fmt.Errorf("isakmpd on %s ended with status %d", x.name, x.ExitCode())
	}
}

func (d *demo) awaitPhases(*lab.Net) error {
	for phase, pattern := range []string{linePhase1, linePhase2} {
		for _, x := range d.daemons {
			line, err := x.await(pattern, 20*time.Second)
			if err != nil {
				return fmt.Errorf("phase %d: %w", phase+1, err)
			}
			d.good("%s", d.paint(bold, fmt.Sprintf("%-9s phase %d after %s", x.name, phase+1, ms(line.Time.Sub(d.started)))))
			d.say("%s", d.paint(dim, wrap(message(line.Text), 96)))
		}
	}
	return nil
}

func (d *demo) pingIcy(*lab.Net) error {
	d.step("Ping: Dandelion to Icy")
	if err := d.ping.AwaitAnswers(20, 15*time.Second); err != nil {
		return err
	}
	n := d.ping.Stop(2 * time.Second)
	// The stream began when both daemons listened.
	d.first = n.First + d.ping.Began().Sub(d.started)
	d.good("first answer %s after the daemons' start", ms(d.first))
	d.say("%s; fastest %s", n, ms(n.MinRTT))
	back, err := d.net.Icy.Ping(d.net.V4.Dandelion, 3, 5*time.Second)
	if err != nil {
		return err
	}
	d.good("and Icy to Dandelion: %s", back)
	return nil
}

func (d *demo) printJob(*lab.Net) (err error) {
	printer := netip.AddrPortFrom(d.net.V4.Icy, 9100)
	d.step("A print job of %.0f MB: Dandelion to Icy's port %d", float64(d.o.jobSize)/(1<<20), printer.Port())
	if d.job, err = d.net.Dandelion.Send(d.net.Icy, printer, d.o.jobSize, 30*time.Second); err != nil {
		return err
	}
	d.say("sent    sha256 %x", d.job.SentSum)
	d.say("printed sha256 %x", d.job.GotSum)
	d.good("the same; %s in %.2f s: %s", bytes(d.job.Bytes), d.job.Took.Seconds(), d.paint(bold, fmt.Sprintf("%.0f Mbit/s", d.job.MbitPerSecond())))
	return nil
}

func (d *demo) showSpy(*lab.Net) error {
	d.step("What the spy on the internet saw of it")
	v := d.spy.Settle()
	for c, n := range v.Packets {
		if n > 0 {
			d.say("%8d %-20s %10s", n, lab.Class(c), bytes(int64(v.Bytes[c])))
		}
	}
	if err := v.Check(); err != nil {
		return err
	}
	if v.Packets[lab.IKE] == 0 || v.Protected() == 0 {
		return errors.New("but neither IKE nor ESP can be missing")
	}
	d.good("IKE and IPsec alone: no inner address, no byte of a ping in clear")
	return nil
}

// showSAs asks each daemon for its report, as a user would, and shows the SAs.
func (d *demo) showSAs(*lab.Net) error {
	d.step("The SAs, from the daemons' reports (SIGUSR1)")
	for _, x := range d.daemons {
		if err := x.Signal(syscall.SIGUSR1); err != nil {
			return err
		}
		if _, err := x.await(lineReport, 5*time.Second); err != nil {
			return err
		}
		// The daemon's /var/run is its own.
		text, err := x.ReadFile(lab.RunDir() + "/isakmpd.report")
		if err != nil {
			return err
		}
		sas := section(string(text), "SAs: ")
		if sas == "" {
			return fmt.Errorf("%s's report has no SAs:\n%s", x.name, text)
		}
		d.say("%s", d.paint(bold, x.name))
		d.say("%s", sas)
	}
	return nil
}

// section is the part of a report from a line that starts so to an empty one.
func section(report, start string) string {
	i := strings.Index("\n"+report, "\n"+start)
	if i < 0 {
		return ""
	}
	text, _, _ := strings.Cut(report[i:], "\n\n")
	return strings.TrimSpace(text)
}

func (d *demo) stayIfAsked(*lab.Net) error {
	if !d.o.stay {
		return nil
	}
	d.step("The network stays until Ctrl-C; to be on a host:")
	for _, h := range []*lab.Host{d.net.Dandelion, d.net.Ragweed, d.net.Internet, d.net.Slippery, d.net.Icy} {
		d.say("%-9s %s", h.Name, h.Enter())
	}
	d.stayed = d.spare()
	<-d.ctx.Done()
	return nil
}

func (d *demo) stopDaemons(*lab.Net) error {
	d.step("TERM: deletes to the peer, SAs, routes and filters away")
	d.spy.Close() // what TCP says from now on is in clear again
	for _, x := range d.daemons {
		if err := x.Stop(10 * time.Second); err != nil {
			return fmt.Errorf("isakmpd on %s did not end well: %w", x.name, err)
		}
		after, err := x.host.State()
		if err != nil {
			return err
		}
		if diff := x.before.Diff(after); diff != "" {
			return fmt.Errorf("%s is not as it was:\n%s", x.name, diff)
		}
		d.good("%s is as it was before", x.name)
	}
	return nil
}

// showLogs is for a demonstration that failed.
func (d *demo) showLogs() {
	for _, x := range d.daemons {
		if x.Process == nil {
			continue
		}
		d.step("Log of isakmpd on %s", x.name)
		d.say("%s", x.Log)
	}
}
