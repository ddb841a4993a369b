package xfrm

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
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
		j, _, err := openJournal(path, "", slog.New(slog.DiscardHandler))
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
		j, k, err := openJournal(path, "", slog.New(slog.DiscardHandler))
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

// TestAnotherEra: flows that a journal knows from before the machine started are
// nobody's, and so are those of another network namespace.
func TestAnotherEra(t *testing.T) {
	now := era()
	if now == "" {
		t.Fatal("it cannot be told which boot this is")
	}
	path := filepath.Join(t.TempDir(), "journal")
	p, _ := keeping(t, newFake(), path)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	must(t, p.AddSA(ctx, espOut("c", 0x1001)))
	must(t, p.Enable(ctx, ipsec.ProtoESP, false))
	name := p.journal.name(p.journal.at)
	p.Close()
	text := contents(t, name)
	for _, c := range []struct {
		era   string
		flows int
	}{{now, 2}, {"", 2}, {now + "0", 0}} { // without one it is of an earlier ipsecd's
		was := `"Era":"` + now + `"`
		if strings.Count(text, was) != 1 {
			t.Fatalf("not once %s in\n%s", was, text)
		}
		must(t, os.Remove(path))
		must(t, os.Remove(path+".2"))
		must(t, os.WriteFile(name, []byte(strings.Replace(text, was, `"Era":"`+c.era+`"`, 1)), 0o600))
		k := newFake()
		p, log := keeping(t, k, path)
		st, err := p.Dump(ctx, dataplane.Query{})
		must(t, err)
		if off := slices.Contains(st.Off, ipsec.ProtoESP); len(st.Flows) != c.flows || off != (c.flows > 0) {
			t.Errorf("era %q, and it is %q: %d flows, ESP is off %t", c.era, now, len(st.Flows), off)
		}
		if said := strings.Contains(log.String(), "before this machine's start"); said != (c.flows == 0) {
			t.Errorf("era %q, and it is %q: %s", c.era, now, log)
		}
		if _, n := k.count(); n != c.flows/2*3 {
			t.Errorf("era %q, and it is %q: %d policies", c.era, now, n)
		}
		p.Close()
		if s := contents(t, path) + contents(t, path+".2"); !strings.Contains(s, was) {
			t.Errorf("what is written is of another era: %s", s)
		}
	}
}

// TestADiskThatWasFull: what was not written while there was no room is there when
// there is room again, and half a line spoils no other.
func TestADiskThatWasFull(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "journal")
	p, log := keeping(t, k, path)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	defer full.Close()
	j := p.journal
	disk := j.files
	j.files = [2]*os.File{full, full}
	must(t, p.AddSA(ctx, espOut("c", 0x1001)))
	j.files = disk
	_, err = disk[j.at].WriteString(`{"SA":{"SA":{"ID`)
	must(t, err)
	must(t, p.AddSA(ctx, espOut("c", 0x1002)))
	read := func() int {
		t.Helper()
		_, err := disk[j.at].Seek(0, io.SeekStart)
		must(t, err)
		return len(j.read(j.at).sas)
	}
	if n := read(); n != 1 {
		t.Errorf("%d SAs in the file, want the one for which there was room", n)
	}
	for i := range tryAgain / 2 {
		sa := espOut("c", ipsec.SPI(0x2000+i))
		must(t, p.AddSA(ctx, sa))
		must(t, p.DeleteSA(ctx, sa.ID))
	}
	if n := read(); n != 2 || j.fails || !strings.Contains(log.String(), "is kept again") {
		t.Errorf("%d SAs in the file, want both; it fails: %t\n%s", n, j.fails, log)
	}
}

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}
