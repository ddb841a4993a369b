package policy_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"oakley/internal/doi"
	"oakley/internal/keynote"
	sign "oakley/internal/keynote/key"
	"oakley/internal/policy"
)

// sources are the policies that there are in the repository.
func sources(t testing.TB) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"../../samples/policy/*.policy", "testdata/lint/*.txt"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) < 5 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text := string(b)
			if _, rest, ok := strings.Cut(text, fileMark); ok {
				text, _, _ = strings.Cut(rest, saidMark)
			}
			found[filepath.Base(name)] = text
		}
	}
	return found
}

// TestEveryPrefix: a file that was cut off within the conditions of an assertion is
// refused, or that assertion allows nothing. (One that was cut off before them has
// none, and that cannot be seen.)
func TestEveryPrefix(t *testing.T) {
	text := sources(t)["strong.policy"] + "\n" + sources(t)["networks.policy"]
	strong := query()
	weak := query()
	weak.Protocols[0].ID = uint8(doi.ESPNull)
	whole := 0
	for n := range len(text) {
		p, l := policy.Load("cut", []byte(text[:n]))
		if (p == nil) != l.HasErrors() {
			t.Fatalf("%d bytes: %v\n%s", n, p, l)
		}
		if p == nil {
			continue
		}
		whole++
		last := text[strings.LastIndex(text[:n], "\n\n")+1 : n]
		if p.Ask(weak).Allow && strings.Contains(last, "Conditions:") {
			t.Errorf("%d bytes allow ESP without encryption:\n...%s", n, text[max(0, n-100):n])
		}
		if n == len(text)-1 && !p.Ask(strong).Allow {
			t.Error("the whole file does not allow what it should")
		}
	}
	if whole == 0 || whole > len(text)/2 {
		t.Errorf("%d of %d prefixes could be used", whole, len(text))
	}
}

// TestOnePolicyForManyGoroutines is for the race detector.
func TestOnePolicyForManyGoroutines(t *testing.T) {
	p := load(t, sources(t)["networks.policy"])
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				d := p.Ask(query())
				if with, _ := p.With(nil); d.Allow || with.Ask(query()).Allow || len(d.Tree()) == 0 {
					t.Error("allowed")
				}
			}
		})
	}
	wg.Wait()
}

func TestCredentials(t *testing.T) {
	p := load(t, "Authorizer: \"POLICY\"\nLicensees: \"sub\"\n\nAuthorizer: \"other\"\nLicensees: \"passphrase:mekmitasdigoat\"\n")
	for text, from := range map[string]keynote.Source{
		"Authorizer: \"sub\"\nLicensees: \"passphrase:mekmitasdigoat\"\n":                                     keynote.Credential,
		"Authorizer: \"POLICY\"\nLicensees: \"passphrase:mekmitasdigoat\"\n":                                  keynote.Pseudo,
		"Authorizer: \"sub\"\nLicensees: \"passphrase:mekmitasdigoat\"\nSignature: \"sig-rsa-sha1-hex:00\"\n": keynote.Credential,
	} {
		as, remarks := keynote.Parse("from the peer", []byte(text), from)
		with, l := p.With(as)
		if with.Ask(query()).Allow || len(remarks)+len(l) == 0 {
			t.Errorf("a credential that nobody signed counts, or nothing is said: %s\n%s%s", text, remarks, l)
		}
	}
}

// TestTheMisspeltDomain is accepted in the file and in credentials, with a warning
// for the file.
func TestTheMisspeltDomain(t *testing.T) {
	p, l := policy.Load("f", []byte("Authorizer: \"POLICY\"\nLicensees: \"sub\"\nConditions: app_domain == \"IPSec policy\";\n"))
	if p == nil || l.Count(0) != 1 {
		t.Fatal(l)
	}
	as, _ := keynote.Parse("certificates", []byte("Authorizer: \"sub\"\nLicensees: \"passphrase:mekmitasdigoat\"\nConditions: app_domain == \"IPSec policy\";\n"), keynote.Pseudo)
	with, l := p.With(as)
	if d := with.Ask(query()); !d.Allow || len(l) > 0 {
		t.Errorf("%s\n%s", l, d.Tree())
	}
}

// TestStrangeRequesters: nobody can be POLICY, or have a NUL character in the name.
func TestStrangeRequesters(t *testing.T) {
	p := load(t, "Authorizer: \"POLICY\"\nLicensees: \"sub\"\n")
	for _, who := range [][]string{{"POLICY"}, {"\x00malformed rsa-hex:zz"}, {""}, {"sub\x00"}, nil} {
		if d := p.Ask(query(append(who, "x")...)); d.Allow || len(d.Brief()) < 2 {
			t.Errorf("%q: %s", who, d.Tree())
		}
	}
}

// FuzzLoad: no policy and no peer makes the daemon fall over, what is said is
// printable, and neither a remark nor a decision has the pre-shared key in it.
func FuzzLoad(f *testing.F) {
	for _, text := range sources(f) {
		f.Add([]byte(text), "gw.worksite.se")
	}
	const psk = "Xq7!unguessable"
	f.Add([]byte("Authorizer: \"POLICY\"\nLicensees: \"passphrase:"+psk+"\"\nConditions: remote_id == \"passphrase:"+psk+"\";\n"), psk)
	q := query(policy.Passphrase([]byte(psk))...)
	f.Fuzz(func(t *testing.T, src []byte, name string) {
		p, l := policy.Load("f", src)
		if (p == nil) != l.HasErrors() {
			t.Fatalf("%v %s", p, l)
		}
		said := l.String()
		if p != nil {
			q := *q
			q.Identity = policy.ID{Type: doi.IDFQDN, Data: []byte(name)}
			d := p.Ask(&q)
			tree := d.Tree()
			if strings.Contains(tree, psk) && !strings.Contains(tree, "Comment") && secretWhereItBelongs(src, psk) {
				t.Fatalf("the pre-shared key is shown:\n%s", tree)
			}
			said += tree + strings.Join(d.Brief(), "\n")
		}
		for _, r := range said {
			if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
				t.Fatalf("%U is printed:\n%q", r, said)
			}
		}
	})
}

// secretWhereItBelongs tells whether all of a policy that has the key in it is
// licensees: what stands in comments, names and conditions is not secret.
func secretWhereItBelongs(src []byte, psk string) bool {
	for line := range strings.Lines(string(src)) {
		if strings.Contains(line, psk) && !strings.HasPrefix(line, "Licensees: \"passphrase:"+psk+"\"") {
			return false
		}
	}
	return true
}

// BenchmarkAsk: the answer to one proposal by one of many peers, through a chain
// of five.
func BenchmarkAsk(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		var text strings.Builder
		for i := range 4 {
			fmt.Fprintf(&text, "Authorizer: %q\nLicensees: %q\nConditions: app_domain == \"IPsec policy\" -> \"true\";\n\n", []string{"POLICY", "a", "b", "c"}[i], []string{"a", "b", "c", "d"}[i])
		}
		for i := range n {
			fmt.Fprintf(&text, "Authorizer: \"d\"\nLicensees: \"passphrase:key %d\"\nConditions: app_domain == \"IPsec policy\" && esp_present == \"yes\" && esp_enc_alg != \"null\" && remote_filter == \"192.168.002.000-192.168.002.255\" -> \"true\";\n\n", i)
		}
		p := load(b, text.String())
		for what, key := range map[string]string{"allowed": fmt.Sprintf("key %d", n/2), "refused": "other"} {
			q := query(policy.Passphrase([]byte(key))...)
			b.Run(fmt.Sprintf("%d/%s", n, what), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if d := p.Ask(q); d.Allow != (what == "allowed") {
						b.Fatal(d.Tree())
					}
				}
			})
		}
	}
}

// TestTheMisspeltDomainIsSigned: what is read otherwise than it is spelt was signed
// as it is spelt.
func TestTheMisspeltDomainIsSigned(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	private, err := sign.Generate(rand.Reader, "rsa-hex", 2048)
	must(err)
	admin, err := sign.Public(private)
	must(err)
	const algorithm = "sig-rsa-sha256-hex:"
	text := "Authorizer: \"" + admin + "\"\nLicensees: \"passphrase:mekmitasdigoat\"\nConditions: app_domain == \"IPSec policy\";\n"
	m, err := keynote.Message([]byte(text), algorithm)
	must(err)
	signature, err := sign.Sign(rand.Reader, algorithm, private, m)
	must(err)
	as, l := keynote.Parse("credentials", []byte(text+"Signature: \""+signature+"\"\n"), keynote.Credential)
	if len(l) > 0 {
		t.Fatal(l)
	}
	with, l := load(t, "Authorizer: \"POLICY\"\nLicensees: \""+admin+"\"\n").With(as)
	if d := with.Ask(query()); !d.Allow || len(l) > 0 {
		t.Errorf("%s\n%s", l, d.Tree())
	}
}
