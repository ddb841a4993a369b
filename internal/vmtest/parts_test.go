package vmtest

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oakley/internal/lab"
)

func TestSelection(t *testing.T) {
	for _, c := range []struct{ pattern, test, want string }{
		{"", "TestA", "^TestA$"},
		{"TestA", "TestA", "^TestA$"},
		{"A", "TestA/b.c", `^TestA$/^b\.c$`},
		{"TestA/esp", "TestA", "^TestA$/esp"},
		{"TestA/esp/gcm", "TestA/esp_tunnel", "^TestA$/^esp_tunnel$/gcm"},
		{"TestA/esp tunnel/gcm", "TestA/esp_tunnel", "^TestA$/^esp_tunnel$/gcm"},
		{"TestB/x|TestA/y|Test(A|B)/z", "TestA", "^TestA$/y|^TestA$/z"},
		{"TestB/x|Test[A/]", "TestA", "^TestA$"},
		{"TestA/[/|]b/(c|d)", "TestA", "^TestA$/[/|]b/(c|d)"},
		{`TestA/a\/b`, "TestA", `^TestA$/a\/b`},
		{"TestA/x|.", "TestA", "^TestA$"},
	} {
		if got := selection(c.pattern, c.test); got != c.want {
			t.Errorf("-run %q within %s: %q, want %q", c.pattern, c.test, got, c.want)
		}
	}
}

func TestStream(t *testing.T) {
	const in = "before all\n\x16=== RUN   TestA\nhalf a line\x16=== RUN   TestA/b c\n    x_test.go:1: --- FAIL: TestA (of course not)\n" +
		"\x16=== PAUSE TestA/b c\n\x16=== NAME  TestA\nof A\n\x16=== CONT  TestA/b c\nof b\n    \x16--- SKIP: TestA/b c (0.01s)\nof A again\n" +
		"\x16--- FAIL: TestA (1.00s)\n\x16FAIL\nlast words"
	want := []event{
		{wrote, "", "before all\n"},
		{started, "TestA", ""},
		{wrote, "TestA", "half a line\n"},
		{started, "TestA/b c", ""},
		{wrote, "TestA/b c", "    x_test.go:1: --- FAIL: TestA (of course not)\n"},
		{paused, "TestA/b c", ""},
		{wrote, "TestA", "of A\n"},
		{wrote, "TestA/b c", "of b\n"},
		{skipped, "TestA/b c", ""},
		{wrote, "TestA", "of A again\n"},
		{failed, "TestA", ""},
		{wrote, "", "last words\n"},
	}
	for _, step := range []int{1, 7, len(in)} { // however it is cut on the way
		var got []event
		s := &stream{}
		for rest := in; rest != ""; {
			n := min(step, len(rest))
			s.write(rest[:n], func(e event) { got = append(got, e) })
			rest = rest[n:]
		}
		s.end(func(e event) { got = append(got, e) })
		if d := cmp.Diff(want, got, cmp.AllowUnexported(event{})); d != "" {
			t.Errorf("in steps of %d bytes:\n%s", step, d)
		}
	}
}

// What we write is what other people's cpio unpacks.
func TestArchiveUnpacks(t *testing.T) {
	lab.Need(t, "cpio")
	var b bytes.Buffer
	a := newArchive(&b)
	a.file("/lib/x/odd", 0o640, []byte("odd"))
	a.file("/usr/lib/x/odd", 0o640, []byte("the same place again"))
	a.file("/etc/empty", 0o644, nil)
	a.dir("/tmp")
	a.link("/var/run", "/run")
	must(t, a.close())
	if b.Len()%4 != 0 {
		t.Errorf("%d bytes; entries are padded to four", b.Len())
	}
	list := exec.Command("cpio", "-itv", "--quiet")
	list.Stdin = bytes.NewReader(b.Bytes())
	out, err := list.CombinedOutput()
	must(t, err)
	for _, want := range []string{"lib -> usr/lib", "-rw-r-----   1 root     root            3", "usr/lib/x/odd", "drwxrwxrwt", "var/run -> /run", "etc/empty"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("cpio does not list %q:\n%s", want, out)
		}
	}
	dir := t.TempDir()
	unpack := exec.Command("cpio", "-i", "--quiet", "--no-preserve-owner")
	unpack.Dir, unpack.Stdin = dir, bytes.NewReader(b.Bytes())
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "usr/lib/x/odd")); err != nil || string(got) != "odd" {
		t.Errorf("unpacked: %q, %v", got, err)
	}
}

func TestModulesInOrder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	write("modules.dep", "k/low.ko:\nk/mid-dle.ko.gz: k/low.ko\nk/top.ko.xz: k/mid-dle.ko.gz k/low.ko\nk/other.ko:\n")
	write("modules.builtin", "kernel/fixed.ko\n")
	tree, err := readModuleTree(dir)
	must(t, err)
	got, err := tree.inOrder([]string{"top", "fixed", "mid-dle", "other"})
	must(t, err)
	if want := []string{"k/low.ko", "k/mid-dle.ko.gz", "k/top.ko.xz", "k/other.ko"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if _, err := tree.inOrder([]string{"nothing"}); err == nil || !strings.Contains(err.Error(), "no module nothing") {
		t.Errorf("a module that is not there: %v", err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err = z.Write([]byte("a module"))
	must(t, err)
	must(t, z.Close())
	write("m.ko.gz", packed.String())
	if b, err := tree.plainModule("m.ko.gz"); err != nil || string(b) != "a module" {
		t.Errorf("gzip: %q, %v", b, err)
	}
	write("m.ko.xz", "this is no xz")
	if b, err := tree.plainModule("m.ko.xz"); err == nil {
		t.Errorf("what is not packed with xz gave %q", b)
	}
}

// A module loses its signature, and one that has none, or half of one, nothing.
func TestModulesWithoutSignature(t *testing.T) {
	const end = "\x00\x00\x00\x02\x03\x00\x00\x00\x00\x00\x00\x04" + signed
	for in, want := range map[string]string{
		"a module" + "ab" + "abc" + "abcd" + end: "a module",
		"a module":                               "a module",
		"half" + end:                             "half" + end,
		signed:                                   signed,
		"":                                       "",
	} {
		if got := string(unsigned([]byte(in))); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestModuleNames(t *testing.T) {
	for file, want := range map[string]string{
		"kernel/net/ipv4/esp4.ko": "esp4", "crypto/ghash-generic.ko.xz": "ghash_generic", "sha3-generic": "sha3_generic",
	} {
		if got := moduleName(file); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
}

func TestKernelIsTheNewestWithModules(t *testing.T) {
	boot, modules := t.TempDir(), t.TempDir()
	if _, err := findKernel(boot, modules); err == nil || !strings.Contains(err.Error(), "linux-image-cloud-amd64") {
		t.Errorf("without a kernel: %v; the package is to be named", err)
	}
	for i, release := range []string{"6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64", "6.1.0-8-cloud-amd64", "6.1.0-11-cloud-amd64"} {
		must(t, os.WriteFile(filepath.Join(boot, "vmlinuz-"+release), nil, 0o644))
		if i == 3 {
			continue // its modules were removed
		}
		must(t, os.MkdirAll(filepath.Join(modules, release), 0o755))
		dep := filepath.Join(modules, release, "modules.dep")
		must(t, os.WriteFile(dep, nil, 0o644))
		when := time.Unix(int64(1e9+[]int{100, 200, 50}[i]), 0)
		must(t, os.Chtimes(dep, when, when))
	}
	k, err := findKernel(boot, modules)
	must(t, err)
	if k.release != "6.1.0-10-cloud-amd64" || k.modules != filepath.Join(modules, k.release) {
		t.Errorf("found %+v", k)
	}
}
