package conf_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oakley/internal/conf"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden loads the file isakmpd.conf of each archive and compares what is
// said about it, and what is resolved, with the rest of the archive.
func TestGolden(t *testing.T) {
	archives, err := filepath.Glob("testdata/golden/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { golden(t, name) })
	}
}

// section is one file of an archive in the txtar format.
type section struct{ name, data string }

// sections splits an archive into its comment and its files.
func sections(archive string) (comment string, l []section) {
	for line := range strings.Lines(archive) {
		if name, ok := strings.CutPrefix(strings.TrimSuffix(line, " --\n"), "-- "); ok && strings.HasSuffix(line, " --\n") {
			l = append(l, section{name: name})
		} else if len(l) == 0 {
			comment += line
		} else {
			l[len(l)-1].data += line
		}
	}
	return comment, l
}

func golden(t *testing.T, name string) {
	archive, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	comment, files := sections(string(archive))
	src := files[0].data
	if ref, ok := strings.CutPrefix(src, "file "); ok {
		b, err := os.ReadFile(strings.TrimSpace(ref))
		if err != nil {
			t.Fatal(err)
		}
		src = string(b)
	}
	c, list := conf.Load("isakmpd.conf", []byte(src), nil)
	got := comment + "-- isakmpd.conf --\n" + files[0].data + "-- said --\n" + list.String()
	if c != nil {
		got += "-- resolved --\n" + c.String()
	}
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(string(archive), got); d != "" {
		t.Errorf("go test -run Golden -update writes it anew (- is expected, + is what came):\n%s", d)
	}
}
