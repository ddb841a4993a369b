package kernel

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

// choosing: who carries the traffic on a kernel with ESP, and what is said of it.
func choosing(t *testing.T) {
	const (
		because = `notice: the kernel has ESP, so it carries the traffic`
		ours    = `userspace`
		noMTU   = `warning: the kernel carries the traffic, and knows nothing of these Data-plane-options: mtu\n`
		noMark  = `warning: our own stack carries the traffic, and knows nothing of these Data-plane-options: mark\n`
	)
	for _, c := range []struct {
		tag, flag string
		want      string // patterns
		never     string
	}{
		{"auto", "", because + `(?s:.*)` + noMTU + `(?s:.*)data plane: kernel, Linux `, ours},
		{"kernel", "", noMTU + `(?s:.*)data plane: kernel, Linux `, because},
		{"ipsecd", "", noMark + `(?s:.*)data plane: ipsecd, process at \S+ userspace, TUN`, because},
		{"isakmpd", "", noMark + `(?s:.*)data plane: userspace, TUN`, because},
		{"kernel", "--data-plane=ipsecd", noMark + `(?s:.*)data plane: ipsecd, process at \S+ userspace, TUN`, because},
		{"isakmpd", "--data-plane=kernel", noMTU + `(?s:.*)data plane: kernel, Linux `, because},
	} {
		t.Run(strings.TrimSpace(c.tag+" "+c.flag), func(t *testing.T) {
			s := newSite(t, lab.HowToOptions{}, false)
			tun, _ := ends(s.V4, quickest)
			tun.Plane = c.tag
			var flags []string
			if c.flag != "" {
				flags = []string{c.flag}
			}
			g := s.gateway(t, s.Ragweed, general("Data-plane-options= mtu=1400, mark=7")(tun.IsakmpdConf()), flags...)
			g.waits(t, `data plane: `)
			if log := g.d.Log.String(); !regexp.MustCompile(c.want).MatchString(log) || regexp.MustCompile(c.never).MatchString(log) {
				t.Errorf("expected %q and not %q in\n%s", c.want, c.never, log)
			}
			g.ends(t)
		})
	}
}

// joining: an ipsecd that runs already is taken as it is, and stays; one of another
// kind than the configuration asks for is an error that says what to do.
func joining(t *testing.T) {
	s := newSite(t, lab.HowToOptions{}, false)
	prog, err := lab.Build("oakley/cmd/ipsecd")
	must(t, err)
	tun, _ := ends(s.V4, quickest)
	for _, c := range []struct{ plane, tag, want string }{
		{"kernel", "auto", `data plane: kernel, Linux .*keyed by the process at `},
		{"user", "auto", `data plane: ipsecd, process at \S+ userspace, TUN`},
		{"user", "kernel", `the data plane is to be kernel, and the ipsecd that listens at \S+ has our own stack: .*--plane kernel`},
		{"kernel", "ipsecd", `the data plane is to be ipsecd, and the ipsecd that listens at \S+ has the kernel: .*--plane user`},
	} {
		service, err := s.Ragweed.Start(lab.Command{Path: prog, Args: []string{"--plane", c.plane}, Private: []string{lab.RunDir()}})
		must(t, err)
		_, err = service.Log.Wait("ipsecd is ready", 20*time.Second)
		must(t, err)
		before, err := s.Ragweed.State()
		must(t, err)
		tun.Plane = c.tag
		d, err := interop.StartIsakmpd(s.Ragweed, t.TempDir(), tun.IsakmpdConf())
		said := fmt.Sprint(err)
		if err == nil {
			_, err = d.Log.Wait("data plane: ", 10*time.Second)
			must(t, err)
			said = d.Log.String()
			must(t, d.End())
		}
		if !regexp.MustCompile(c.want).MatchString(said) {
			t.Errorf("Data-plane= %s, and ipsecd --plane %s runs: expected %q in\n%s", c.tag, c.plane, c.want, said)
		}
		after, err := s.Ragweed.State()
		must(t, err)
		if d := before.Diff(after); d != "" || !service.Running() {
			t.Errorf("Data-plane= %s, and ipsecd --plane %s ran: running %t\n%s", c.tag, c.plane, service.Running(), d)
		}
		must(t, service.Stop(10*time.Second))
	}
}

// missing: this machine's kernel has no Blowfish. A connection that has nothing
// else is an error that names the module; one that has another suite does without.
// With a stack of our own both are served.
func missing(t *testing.T) {
	const blowfish, aes = "QM-ESP-BLF-SHA-SUITE", "QM-ESP-AESGCM-128-SUITE"
	lacks := regexp.QuoteMeta(fmt.Sprintf("suite %s needs ", blowfish)) + `.*` + left
	file := func(tun interop.Tunnel, suites string) string {
		return strings.Replace(tun.IsakmpdConf(), "Suites= "+aes, "Suites= "+suites, 1)
	}
	s := newSite(t, lab.HowToOptions{}, false)
	east, west := ends(s.V4, quickest)
	east.Plane, west.Plane = "kernel", "ipsecd"

	d, err := interop.StartIsakmpd(s.Ragweed, t.TempDir(), file(east, blowfish))
	if err == nil {
		t.Errorf("it has started\n%s", d.Log)
		must(t, d.End())
	} else if !regexp.MustCompile(`connection tunnel cannot be served: ` + lacks).MatchString(err.Error()) {
		t.Errorf("it does not say which module is missing: %v", err)
	}

	right := s.gateway(t, s.Slippery, file(west, blowfish+","+aes))
	east.Initiate = true
	left := s.gateway(t, s.Ragweed, file(east, blowfish+","+aes))
	left.waits(t, `warning: connection tunnel has fewer suites: `+lacks)
	left.waits(t, phase2Done+`.*AES \(GCM\)`)
	there, back := s.pings(t, s.V4, quickest, every)
	(&row{}).count(t, there, back)
	s.saw(t, lab.ESP, 80)
	left.ends(t)

	east.Plane = "ipsecd"
	left = s.gateway(t, s.Ragweed, file(east, blowfish))
	left.waits(t, phase2Done+`.*(?i:blowfish)`)
	left.ends(t)
	right.ends(t)
}
