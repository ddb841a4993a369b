package xfrm

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// TestTheJournalIsOurs: what others may have written is not believed, and nothing
// of theirs is written to.
func TestTheJournalIsOurs(t *testing.T) {
	lab.Need(t, "root")
	const nobody = 65534
	for _, c := range []struct {
		name, says string
		make       func(dir, path string) error
	}{
		{"a link", "symbolic link", func(dir, path string) error { return os.Symlink("/etc/hostname", path) }},
		{"a link to the second file", "symbolic link", func(dir, path string) error { return os.Symlink("/etc/hostname", path+".2") }},
		{"another's file", "user 65534", func(dir, path string) error {
			return errors.Join(os.WriteFile(path, []byte("{}\n"), 0o600), os.Chown(path, nobody, -1))
		}},
		{"a file that all may write", "mode 0666", func(dir, path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o666))
		}},
		{"a file of two names", "2 names", func(dir, path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Link(path, path+".x"))
		}},
		{"a pipe", "expected a file", func(dir, path string) error { return unix.Mkfifo(path, 0o600) }},
		{"a folder", "is a directory", func(dir, path string) error { return os.Mkdir(path, 0o700) }},
		{"another's folder", "choose one of root's", func(dir, path string) error { return os.Chown(dir, nobody, -1) }},
		{"a folder for all", "choose one of root's", func(dir, path string) error { return os.Chmod(dir, 0o777) }},
		{"a folder as /tmp", "", func(dir, path string) error { return os.Chmod(dir, 0o777|os.ModeSticky) }},
		{"no folder", "no such file", func(dir, path string) error { return os.Remove(dir) }},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "journal")
		must(t, c.make(dir, path))
		j, _, err := openJournal(path, slog.New(slog.DiscardHandler))
		if err == nil {
			j.close()
		}
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

// TestKilledOverTheJournal: wherever the writing of what is ended, the file that
// was whole before counts; and when it did end, the new one does.
func TestKilledOverTheJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	p, _ := keeping(t, newFake(), path)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	must(t, p.AddSA(ctx, espOut("c", 0x1001)))
	j := p.journal
	old, at := contents(t, j.name(j.at)), j.at
	j.rewrite(p.records())
	if j.at == at || contents(t, j.name(at)) != "" {
		t.Fatal("the other file does not count")
	}
	whole, next := contents(t, j.name(j.at)), j.name(j.at)
	p.Close()
	for n := range len(whole) + 1 {
		must(t, os.WriteFile(j.name(at), []byte(old), 0o600))
		must(t, os.WriteFile(next, []byte(whole[:n]), 0o600))
		j, k, err := openJournal(path, slog.New(slog.DiscardHandler))
		must(t, err)
		if len(k.sas) != 1 || len(k.flows) != 2 {
			t.Fatalf("killed after %d bytes of %d: %d SAs, %d flows", n, len(whole), len(k.sas), len(k.flows))
		}
		if counts := j.at != at; counts != (n >= len(whole)-1) { // the end of the line is of no account
			t.Fatalf("killed after %d bytes of %d: the new file counts is %t", n, len(whole), counts)
		}
		j.close()
	}
}

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}
