package iketest

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a section of a txtar file in testdata.
func golden(t *testing.T, file, section, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	b, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	all := parseTxtar(string(b))
	if !strings.HasSuffix(got, "\n") {
		got += "\n"
	}
	at := slices.IndexFunc(all, func(s txtarFile) bool { return s.name == section })
	if *update {
		if at < 0 {
			at = len(all)
			all = append(all, txtarFile{name: section})
		}
		all[at].data = got
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(formatTxtar(all)), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := ""
	if at >= 0 {
		want = all[at].data
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s, section %s (-update writes it anew): %s", path, section, d)
	}
}

// txtarFile is a file in a txtar archive: a line "-- name --", then its text.
type txtarFile struct{ name, data string }

func parseTxtar(s string) (all []txtarFile) {
	for _, line := range strings.SplitAfter(s, "\n") {
		name, ok := strings.CutPrefix(strings.TrimSuffix(line, " --\n"), "-- ")
		switch {
		case ok && strings.HasSuffix(line, " --\n"):
			all = append(all, txtarFile{name: name})
		case len(all) > 0:
			all[len(all)-1].data += line
		}
	}
	return all
}

func formatTxtar(all []txtarFile) string {
	var b strings.Builder
	for _, f := range all {
		b.WriteString("-- " + f.name + " --\n" + f.data)
	}
	return b.String()
}
