package conf_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oakley/internal/conf"
)

// hostile are texts of n bytes or so that would be slow to read for a parser
// that looks at everything again and again.
var hostile = map[string]func(n int) string{
	"sections": func(n int) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "[%x]\n", i)
		}
		return b.String()
	},
	"references to nothing": func(n int) string {
		var b strings.Builder
		b.WriteString("[Phase 2]\nConnections= ")
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "%x-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,", i)
		}
		return b.String()
	},
	"names that are nearly the same": func(n int) string {
		var list, sections strings.Builder
		long := strings.Repeat("abcdefgh", 6)
		for i := 0; list.Len()+sections.Len() < n; i++ {
			fmt.Fprintf(&list, "%s%xxxxxxxx,", long, i)
			fmt.Fprintf(&sections, "[%s%xyyyyyyy]\nPhase= 2\n", long, i)
		}
		return "[Phase 2]\nConnections= " + list.String() + "\n" + sections.String()
	},
	"tags": func(n int) string {
		var b strings.Builder
		b.WriteString("[General]\n")
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "Retransmit%x= 1\n", i)
		}
		return b.String()
	},
	"continued lines": func(n int) string { return "[General]\nListen-on= " + strings.Repeat("\\\n", n/2) },
	"one line":        func(n int) string { return "[Phase 2]\nConnections= " + strings.Repeat("a,", n/2) },
	"one name":        func(n int) string { return "[" + strings.Repeat("x", n) + "]" },
	"brackets":        func(n int) string { return strings.Repeat("[\n", n/2) },
	"zeros":           func(n int) string { return strings.Repeat("\x00", n) },
	"repeated tag":    func(n int) string { return "[General]\n" + strings.Repeat("a=b\n", n/4) },
	"peers": func(n int) string {
		var list, sections strings.Builder
		for i := 0; list.Len()+sections.Len() < n; i++ {
			fmt.Fprintf(&list, "10.%d.%d.%d= p%d\n", i>>16, i>>8&255, i&255, i)
			fmt.Fprintf(&sections, "[p%d]\nPhase= 1\nAuthentication= goat\n", i)
		}
		return "[Phase 1]\n" + list.String() + sections.String()
	},
	"connections": func(n int) string {
		var list, sections strings.Builder
		for i := 0; list.Len()+sections.Len() < n; i++ {
			fmt.Fprintf(&list, "c%d,", i)
			fmt.Fprintf(&sections, "[c%d]\nPhase= 2\nConfiguration= q\n", i)
		}
		return "[q]\nEXCHANGE_TYPE= QUICK_MODE\nSuites= QM-ESP-AES-SHA-SUITE\n[Phase 2]\nConnections= " + list.String() + "\n" + sections.String()
	},
	"suites of protocols of transforms": func(int) string {
		var b strings.Builder
		suites, transforms := []string{}, []string{}
		for i := range 255 {
			suites = append(suites, fmt.Sprintf("s%d", i))
			transforms = append(transforms, fmt.Sprintf("x%d", i))
			fmt.Fprintf(&b, "[s%d]\nProtocols= p\n[x%d]\nTRANSFORM_ID= AES\nAUTHENTICATION_ALGORITHM= HMAC_SHA\n", i, i)
		}
		fmt.Fprintf(&b, "[p]\nPROTOCOL_ID= IPSEC_ESP\nTransforms= %s\n", strings.Join(transforms, ","))
		fmt.Fprintf(&b, "[q]\nEXCHANGE_TYPE= QUICK_MODE\nSuites= %s\n[Phase 2]\nConnections= ", strings.Join(suites, ","))
		for i := range 5000 {
			fmt.Fprintf(&b, "c%d,", i)
		}
		for i := range 5000 {
			fmt.Fprintf(&b, "\n[c%d]\nPhase= 2\nConfiguration= q\n", i)
		}
		return b.String()
	},
}

// TestHostileFilesTakeNoLongerThanTheyAreLong: a megabyte of anything is read in
// seconds even under the race detector. What takes a square of time would take
// hours, which no test is given.
func TestHostileFilesTakeNoLongerThanTheyAreLong(t *testing.T) {
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			src := text(conf.MaxSize - 100)
			if len(src) > conf.MaxSize {
				src = src[:conf.MaxSize]
			}
			_, list := conf.Load("hostile.conf", []byte(src), nil)
			said := list.String()
			if len(list) > 600 || len(said) > 1<<20 {
				t.Errorf("%d remarks of %d bytes", len(list), len(said))
			}
		})
	}
}

func TestAFileThatIsTooLargeIsRefused(t *testing.T) {
	c, list := conf.Load("huge.conf", make([]byte, conf.MaxSize+1), nil)
	if c != nil || len(list) == 0 || !strings.Contains(list.String(), "at most 1048576 are read") {
		t.Errorf("%s", list)
	}
}

// FuzzLoad: no text makes the parser fall over, and what is resolved can be
// described and compared.
func FuzzLoad(f *testing.F) {
	f.Add(sound)
	files, _ := filepath.Glob("testdata/golden/*.txtar")
	more, _ := filepath.Glob("testdata/howto/*.conf")
	samples, _ := filepath.Glob("../../samples/*.conf")
	for _, name := range append(append(files, more...), samples...) {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		_, parts := sections(string(b))
		for _, p := range parts {
			f.Add(p.data)
		}
		f.Add(string(b))
	}
	for _, text := range hostile {
		f.Add(text(300)[:300])
	}
	f.Fuzz(func(t *testing.T, src string) {
		for _, r := range []conf.Resolver{nil, machine{}} {
			c, list := conf.Load("fuzz.conf", []byte(src), r)
			if (c == nil) != list.HasErrors() {
				t.Fatalf("a Config: %v, errors: %v", c != nil, list.HasErrors())
			}
			for _, d := range list {
				if d.Range.Line > strings.Count(src, "\n")+1 || d.Range.Line > 0 && d.Range.Col < 1 {
					t.Fatalf("%v is outside the file", d.Range)
				}
			}
			if s := list.String(); strings.ContainsAny(s, "\x1b\x00\x07\r") {
				t.Fatalf("control characters: %q", s)
			}
			if c == nil {
				continue
			}
			for _, n := range c.Connections {
				n.Needs()
				if len(n.Suites) == 0 || n.Peer == nil {
					t.Fatalf("connection %+v has nothing", n)
				}
			}
			for _, p := range c.Peers {
				if !p.Address.IsValid() || len(p.Transforms) == 0 || p.Mode == 0 {
					t.Fatalf("peer %+v", p)
				}
			}
			if len(src) < 5000 {
				_ = c.String()
			}
		}
	})
}
