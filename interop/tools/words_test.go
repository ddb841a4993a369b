package tools

import (
	_ "embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"oakley/internal/lab"
)

// keyed is a bit of everything, on host a; %[1]s is its key file, %[2]s the one for
// authentication.
const keyed = `new esp -spi 1001 -src 192.0.2.1 -dst 192.0.3.1 -enc aes -keyfile %[1]s -auth sha2-256 -authkeyfile %[2]s -forcetunnel
new esp -spi 1002 -src 192.0.3.1 -dst 192.0.2.1 -enc aes -keyfile %[1]s -auth sha2-256 -authkeyfile %[2]s -forcetunnel
flow -dst 192.0.3.1 -src 192.0.2.1 -addr 10.1.0.0/16 10.2.0.0/16 -out
flow -dst 192.0.3.1 -src 192.0.2.1 -addr 10.2.0.0/16 10.1.0.0/16 -in
new esp -spi 2001 -src 2001:db8:2::1 -dst 2001:db8:3::1 -enc null -auth sha2-256 -authkeyfile %[2]s -srcid a.example -dstid b.example
new ah -spi 2002 -src 2001:db8:2::1 -dst 2001:db8:3::1 -auth sha2-256 -keyfile %[2]s
group -dst 2001:db8:3::1 -spi 2001 -dst2 2001:db8:3::1 -spi2 2002
flow -dst 2001:db8:3::1 -addr 2001:db8:2::1/128 2001:db8:3::1/128 -transport tcp -dport 9100 -use
new esp -spi 3001 -src 192.0.2.1 -dst 192.0.3.1 -enc aes -keyfile %[1]s -udpencap 4500
new esp -spi 3002 -src 192.0.3.1 -dst 192.0.2.1 -enc aes -keyfile %[1]s -auth sha2-256 -authkeyfile %[2]s -proxy 10.2.0.2
ipcomp -cpi 4001 -src 192.0.2.1 -dst 192.0.3.1
flow -deny -addr 10.1.0.0/16 10.7.0.0/16
flow -bypass -addr 10.1.0.0/16 10.8.0.0/16 -order 7
flow -dontacq -proto ah -dst 192.0.3.1 -addr 10.1.0.0/16 10.9.0.0/16
flow -acquire -dst 192.0.3.1 -addr 10.1.0.0/16 10.10.0.0/16
disable ipcomp`

//go:embed testdata/all.golden
var allGolden string

//go:embed testdata/encap.golden
var encapGolden string

// moments are times, and how long ago they were.
var moments = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( UTC)?(, \d+m?\d*s ago)?|never`)

// told are the differences that there may be, a line of ours and one of the
// kernel's.
var told = [][2]string{
	{"^\ttraffic:        0 packets, 0 bytes$", "^\ttraffic:        0 packets, 0 bytes, headers included$"},
	{"^\tsequence:       0 highest received, of 32 bits$", "^\tsequence:       not looked at: the kernel does so for a replay window alone$"},
	{"", "^the kernel counts: "},
	{"^ipip:$", "^ipip:$"},
	{"^\t0 (SAs|packets (received|sent) \\(0 bytes\\))$", ""},
	{"", "^\tthis kernel has no such SAs$"},
	{"^ip4 on$", "^ip4 not in this data plane$"},
	// A group is made of SAs that the kernel has already by making them anew.
	{"^\tsequence:       0 last sent, of 32 bits$", "^\tsequence:       1024 last sent, of 32 bits$"},
	// Our own stack sees what a host says to neighbours on every device.
	{"^\t+(1 packet|[0-9]+ packets) dropped: no flow$", "^\tnone dropped$"},
	{"^\t+(dropped: *[0-9]+ no flow| *came to the tunnel device)", ""},
	{"^packets of no SA$", "^packets of no SA \\(the kernel counts for the whole host\\)$"},
}

// sameWords: of the same SAs and flows tools say the same with the kernel and with
// our own stack, but for what the kernel does not know, and they say so.
func sameWords(t *testing.T) {
	enc, auth := keyFile(t, digits(16)), keyFile(t, digits(32))
	var says [2]map[string]string
	asked := []struct{ tool, line string }{
		{"ipsecctl", "-s all"},
		{"ipsecctl", "-s flow"},
		{"ipsecctl", "-s sa"},
		{"ipsecctl", "-s encap"},
		{"ipsecctl", "-s stats"},
		{"ipsecctl", "-v -s all"},
		{"ipsecctl", "-vv -k -s all"},
		{"ipsecadm", "show"},
		{"ipsecadm", "show -ah"},
		{"ipsecadm", "enable"},
	}
	for i := range says {
		p := newPair(t)
		if i == 0 {
			ours(t, p.a)
		}
		for line := range strings.Lines(fmt.Sprintf(keyed, enc, auth)) {
			if out, err := p.a.run("ipsecadm", "%s", line); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}
		says[i] = map[string]string{}
		for _, c := range asked {
			out, err := p.a.run(c.tool, "%s", c.line)
			must(t, err)
			says[i][c.tool+" "+c.line] = moments.ReplaceAllString(out, "then")
		}
		p.a.ctl("-F")
	}
	for _, c := range asked {
		what := c.tool + " " + c.line
		if d := differences(says[0][what], says[1][what]); d != nil {
			t.Errorf("%s:\n%s--- ours\n%s--- the kernel\n%s", what, strings.Join(d, ""), says[0][what], says[1][what])
		}
	}
	if got := says[1]["ipsecctl -s all"]; got != allGolden {
		t.Errorf("ipsecctl -s all prints\n%s\nwant\n%s", got, allGolden)
	}
	if got := says[1]["ipsecctl -s encap"]; got != encapGolden {
		t.Errorf("ipsecctl -s encap prints\n%s\nwant\n%s", got, encapGolden)
	}
}

// ours starts our own stack on a host, as a person does who wants it.
func ours(t *testing.T, h *host) *lab.Process {
	t.Helper()
	path, err := lab.Build("oakley/cmd/ipsecd")
	must(t, err)
	d, err := h.Start(lab.Command{Path: path, Args: []string{"--plane", "user"}, Private: []string{lab.RunDir()}})
	must(t, err)
	if _, err := d.Log.Wait("ipsecd is ready", inTime); err != nil {
		t.Fatalf("%v\n%s", err, d.Log)
	}
	return d
}

// differences are the lines that only one of two texts has and that are not told
// of.
func differences(ours, kernels string) (all []string) {
	count := map[string]int{}
	for line := range strings.Lines(ours) {
		count[line]++
	}
	for line := range strings.Lines(kernels) {
		count[line]--
	}
	for _, line := range slices.Sorted(maps.Keys(count)) {
		n := count[line]
		side, who := 0, "only ours says"
		if n < 0 {
			side, who = 1, "only the kernel's says"
		}
		known := n == 0
		for _, d := range told {
			known = known || d[side] != "" && regexp.MustCompile(d[side]).MatchString(strings.TrimSuffix(line, "\n"))
		}
		if !known {
			all = append(all, who+" "+line)
		}
	}
	return all
}

// watched: what happens is printed while it happens, without keys; who watches
// keeps the ipsecd that was started for it.
func watched(t *testing.T) {
	p := newPair(t)
	before := p.a.state()
	var watchers []*lab.Process
	for tool, line := range map[string]string{"ipsecctl": "-m", "ipsecadm": "monitor"} {
		path, err := lab.Build("oakley/cmd/" + tool)
		must(t, err)
		w, err := p.a.Start(lab.Command{Path: path, Args: []string{line}, Private: []string{lab.RunDir()}})
		must(t, err)
		watchers = append(watchers, w)
	}
	lab.Eventually(t, inTime, "both watch", func() bool {
		p.a.adm("enable esp")
		return watchers[0].Log.Count("switch esp on") > 0 && watchers[1].Log.Count("switch esp on") > 0
	})
	key := digits(32)
	ends := fmt.Sprintf("-src %s -dst %s", p.a.addr[0], p.b.addr[0])
	p.a.adm("new ah -spi c0de %s -auth sha2-256 -key %s", ends, key)
	p.a.adm("flow %s -addr 10.1.0.0/16 10.2.0.0/16 -proto ah -acquire", ends)
	p.a.adm("delspi -dst %s -spi c0de -proto ah", p.b.addr[0])
	if _, err := p.a.behind.Ping(p.b.inner[0], 1, inTime); err != nil { // asks for an SA, and passes
		t.Error(err)
	}
	if out, err := p.a.run("ipsecadm", "flow %s -addr 10.1.0.0/16 10.2.0.0/16 -proto ah", ends); err == nil {
		t.Errorf("the flow is there twice:\n%s", out)
	}
	p.a.adm("flush")
	for _, w := range watchers {
		for _, want := range []string{
			` add out ah transport from 192\.0\.2\.1 to 192\.0\.3\.1 spi 0x0000c0de auth hmac-sha2-256 \(pid \d+\)$`,
			` addflow flow ah out from 10\.1\.0\.0/16 to 10\.2\.0\.0/16 peer 192\.0\.3\.1 type acquire \(pid \d+\)$`,
			` delete out ah to 192\.0\.3\.1 spi 0x0000c0de \(pid \d+\)$`,
			` acquire for a packet proto icmp from 10\.1\.0\.2 to 10\.2\.0\.2: flow "manual out `,
			` addflow .*refused: .*there already`,
			` flush all SAs and flows \(pid \d+\)$`,
		} {
			if _, err := w.Log.Wait(want, inTime); err != nil {
				t.Errorf("%v\n%s", err, w.Log)
			}
		}
		if strings.Contains(w.Log.String(), key[:8]) {
			t.Errorf("keys are shown:\n%s", w.Log)
		}
	}
	// One was started for each; one of them stays.
	lab.Eventually(t, inTime, "there is one ipsecd while somebody watches", func() bool { return len(p.a.Find("ipsecd")) == 1 })
	for _, w := range watchers {
		must(t, w.Signal(unix.SIGINT))
		if err := w.Wait(inTime); err != nil {
			t.Errorf("interrupted: %v\n%s", err, w.Log)
		}
	}
	p.a.unchanged(before)
}
