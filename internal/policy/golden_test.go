package policy_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oakley/internal/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// matches compares with a golden file, or writes it.
func matches(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got (go test ./internal/policy -update accepts it)\n%s", name, diff)
	}
}

const fileMark, saidMark = "-- isakmpd.policy --\n", "-- said --\n"

// TestLint loads the policy in each file and compares what is said about it with
// the rest of the file.
func TestLint(t *testing.T) {
	names, err := filepath.Glob("testdata/lint/*.txt")
	if err != nil || len(names) < 5 {
		t.Fatalf("%v %v", names, err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			about, rest, ok := strings.Cut(string(b), fileMark)
			if !ok {
				t.Fatal("there is no policy in it")
			}
			text, _, _ := strings.Cut(rest, saidMark)
			p, l := policy.Load("isakmpd.policy", []byte(text))
			if (p == nil) != l.HasErrors() {
				t.Errorf("a policy with errors is not used, any other is: %v\n%s", p, l)
			}
			for _, d := range l {
				if d.Range.Line == 0 && !strings.Contains(d.Summary, "POLICY") || d.Hint == "" {
					t.Errorf("no place or no hint: %v", d)
				}
			}
			if said := l.String(); strings.Contains(said, "secret") || strings.Contains(said, "mekmitasdigoat") || strings.Contains(said, "otherpassword") {
				t.Errorf("a passphrase is shown:\n%s", said)
			}
			matches(t, name, about+fileMark+text+saidMark+l.String())
		})
	}
}
