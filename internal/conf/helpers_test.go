package conf_test

import (
	"os"
	"strings"
	"testing"

	"oakley/internal/conf"
	"oakley/internal/diag"
)

// sound is a configuration about which there is nothing to say; the tests change
// a line of it.
const sound = `[General]
Listen-on= 192.0.2.1

[Phase 1]
192.0.2.2= west

[Phase 2]
Connections= east-west

[west]
Phase= 1
Address= 192.0.2.2
Local-address= 192.0.2.1
Configuration= main-mode
Authentication= correct horse battery staple

[main-mode]
EXCHANGE_TYPE= ID_PROT
Transforms= AES-128-SHA2-256-GRP14

[east-west]
Phase= 2
ISAKMP-peer= west
Configuration= quick-mode
Local-ID= net-east
Remote-ID= net-west

[quick-mode]
EXCHANGE_TYPE= QUICK_MODE
Suites= QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE

[net-east]
ID-type= IPV4_ADDR_SUBNET
Network= 10.1.0.0
Netmask= 255.255.255.0

[net-west]
ID-type= IPV4_ADDR_SUBNET
Network= 10.2.0.0
Netmask= 255.255.255.0
`

// edit is sound with pairs of old and new text exchanged, each of which has to
// be there.
func edit(t *testing.T, pairs ...string) string {
	t.Helper()
	s := sound
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(s, pairs[i]) {
			t.Fatalf("the text has no %q", pairs[i])
		}
		s = strings.Replace(s, pairs[i], pairs[i+1], 1)
	}
	return s
}

// load wants a configuration without an error.
func load(t *testing.T, src string) *conf.Config {
	t.Helper()
	c, list := conf.Load("test.conf", []byte(src), nil)
	if c == nil {
		t.Fatalf("does not load:\n%s", list)
	}
	return c
}

func TestNothingIsSaidAboutASoundFile(t *testing.T) {
	if _, list := conf.Load("test.conf", []byte(sound), nil); len(list) != 0 {
		t.Errorf("said about a sound file:\n%s", list)
	}
}

func TestNothingIsSaidAboutTheSamples(t *testing.T) {
	files, err := os.ReadDir("../../samples")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".conf") {
			continue
		}
		n++
		src, err := os.ReadFile("../../samples/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		c, list := conf.Load(f.Name(), src, nil)
		if len(list) != 0 || c == nil || len(c.Connections) != 1 || len(c.Peers) != 1 {
			t.Errorf("%s: %d remarks:\n%s", f.Name(), len(list), list)
		}
	}
	if n < 4 {
		t.Errorf("%d samples, there are two gateways and two hosts at least", n)
	}
}

// underlined is the text that a remark points at.
func underlined(d *diag.Diagnostic) string {
	from := min(max(d.Range.Col-1, 0), len(d.Snippet))
	return d.Snippet[from:min(from+d.Range.Len, len(d.Snippet))]
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
