package archtest

import (
	"go/ast"
	"os"
	"path/filepath"
	"testing"
)

// TestTheReaderSeesWhatItIsToSee: rules that see nothing never fail.
func TestTheReaderSeesWhatItIsToSee(t *testing.T) {
	dir := t.TempDir()
	for name, src := range map[string]string{
		"internal/ike/a.go":        "// Package ike x.\npackage ike\n\nimport clock \"time\"\n\nvar _ = clock.Now\n",
		"internal/ike/a_test.go":   "package ike_test\n",
		"testdata/no.go":           "this is not Go",
		"tools/go.mod":             "module x\n",
		"tools/x.go":               "nor this",
		"internal/ike/testdata/no": "nothing",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fs, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(fs) != 2 || fs[0].path != "internal/ike/a.go" || fs[0].short() != "ike" || fs[0].test || !fs[1].test || fs[0].lines != 6 {
		t.Fatalf("loaded %+v", fs)
	}
	var seen []string
	fs[0].calls(func(_ ast.Node, what string) { seen = append(seen, what) })
	if len(seen) != 1 || seen[0] != "time.Now" {
		t.Errorf("a renamed import hides its calls: saw %v", seen)
	}
	if p, ok := ours("oakley/internal/dataplane/userspace"); !ok || wing(p) != "traffic" {
		t.Errorf("oakley/internal/dataplane/userspace is %q of wing %q", p, wing(p))
	}
}
