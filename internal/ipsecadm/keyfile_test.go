package ipsecadm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return path
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		if got, err := ReadKeyFile(write("good", "0011\n", mode)); err != nil || string(got) != "0011\n" {
			t.Errorf("%v: %q, %v", mode, got, err)
		}
		if err := os.Remove(filepath.Join(dir, "good")); err != nil {
			t.Fatal(err)
		}
	}
	for i, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666} {
		path := write(string(rune('a'+i)), "0011", mode)
		if _, err := ReadKeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("%v: %v", mode, err)
		}
	}
	if _, err := ReadKeyFile(write("long", strings.Repeat("00", 4000), 0o600)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%v", err)
	}
	if _, err := ReadKeyFile(dir); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("%v", err)
	}
	_, err := ReadKeyFile(filepath.Join(dir, "none"))
	if err == nil || strings.Count(err.Error(), dir) != 1 || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v", err)
	}
}
