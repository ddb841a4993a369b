package kernel

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"oakley/internal/lab"
	"oakley/interop"
)

// choosing: who carries the traffic on a kernel with ESP, and what is said of it.
func choosing(t *testing.T) {
	const because, ours = `notice: the kernel has ESP, so it carries the traffic`, `userspace`
	for _, c := range []struct {
		tag, flag string
		want      string // patterns
		never     string
	}{
		{"auto", "", because + `(?s:.*)data plane: kernel, Linux `, ours},
		{"kernel", "", `data plane: kernel, Linux `, because},
		{"ipsecd", "", `data plane: ipsecd, process at \S+ userspace, TUN`, because},
		{"isakmpd", "", `data plane: userspace, TUN`, because},
		{"kernel", "--data-plane=ipsecd", `data plane: ipsecd, process at \S+ userspace, TUN`, because},
		{"isakmpd", "--data-plane=kernel", `data plane: kernel, Linux `, because},
	} {
		t.Run(strings.TrimSpace(c.tag+" "+c.flag), func(t *testing.T) {
			s := newSite(t, lab.HowToOptions{}, false)
			tun, _ := ends(s.V4, quickest)
			tun.Plane = c.tag
			var flags []string
			if c.flag != "" {
				flags = []string{c.flag}
			}
			g := s.gateway(t, s.Ragweed, tun.IsakmpdConf(), flags...)
			g.waits(t, `data plane: `)
			if log := g.d.Log.String(); !regexp.MustCompile(c.want).MatchString(log) || regexp.MustCompile(c.never).MatchString(log) {
				t.Errorf("expected %q and not %q in\n%s", c.want, c.never, log)
			}
			g.ends(t)
		})
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
	left.waits(t, `warning: connection tunnel does without `+lacks)
	left.waits(t, phase2Done+`.*AES \(GCM\)`)
	there, back := s.pings(t, s.V4, quickest)
	(&row{}).count(t, there, back)
	s.saw(t, lab.ESP, 80)
	left.ends(t)

	east.Plane = "ipsecd"
	left = s.gateway(t, s.Ragweed, file(east, blowfish))
	left.waits(t, phase2Done+`.*(?i:blowfish)`)
	left.ends(t)
	right.ends(t)
}
