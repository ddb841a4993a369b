package archtest

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

var source = sync.OnceValues(func() ([]*file, error) { return load("../..") })

func files(t *testing.T) []*file {
	t.Helper()
	fs, err := source()
	if err != nil {
		t.Fatal(err)
	}
	if len(fs) < 10 {
		t.Fatalf("only %d files were found: is this the module's root?", len(fs))
	}
	return fs
}

// pure is protocol code: bytes and values in, bytes and values out.
var pure = []string{"isakmp", "doi", "dh", "oakley", "replay", "ipsec", "esp", "ah", "ipcomp", "icv", "inet", "cast128", "skipjack", "keynote", "keynote/key", "show", "ike"}

// pureMayNotImport, with everything below them, but for net/netip.
var pureMayNotImport = []string{"os", "net", "log", "syscall", "io/ioutil", "math/rand", "crypto/rand", "golang.org/x/sys"}

// pureMayNotCall: the clock belongs to the caller.
var pureMayNotCall = []string{
	"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc",
	"time.NewTimer", "time.NewTicker", "time.Tick",
}

func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func TestProtocolCodeTouchesNoMachine(t *testing.T) {
	for _, f := range files(t) {
		if f.test || !slices.Contains(pure, f.short()) {
			continue
		}
		for _, i := range f.imports {
			for _, no := range pureMayNotImport {
				if under(i, no) && i != "net/netip" {
					t.Errorf("%s imports %s: protocol code has neither files, sockets, logs nor a source of randomness of its own", f.path, i)
				}
			}
		}
		f.calls(func(n ast.Node, what string) {
			if slices.Contains(pureMayNotCall, what) {
				t.Errorf("%s: %s in protocol code: time is an argument", f.at(n), what)
			}
		})
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: protocol code starts no goroutine", f.at(g))
			}
			return true
		})
	}
}

// onlyImports lists for a package all of ours that it may import.
var onlyImports = map[string][]string{
	"doi":       {},
	"diag":      {},
	"replay":    {},
	"cast128":   {},
	"skipjack":  {},
	"icv":       {"ipsec"},
	"ah":        {"icv", "ipsec"},
	"inet":      {"ipsec"},
	"ipcomp":    {"ipsec"},
	"isakmp":    {"doi"},
	"ipsec":     {"doi"},
	"oakley":    {"doi", "dh", "isakmp", "cast128"},
	"ike":       {"isakmp", "doi", "dh", "oakley", "ipsec"},
	"conf":      {"diag", "doi", "ipsec"},
	"ipsecconf": {"diag", "doi", "ipsec"},
	"keynote":   {"diag"},
	"ipsecadm":  {"dataplane", "diag", "ipsec", "show"},
	"show":      {"dataplane", "ipsec"},

	"dataplane/hostnet": {"ipsec"},
	"keynote/key":       {},
}

func TestPackagesImportOnlyWhatTheyMay(t *testing.T) {
	for _, f := range files(t) {
		allowed, ruled := onlyImports[f.short()]
		if f.test || !ruled {
			continue
		}
		for _, i := range f.imports {
			if p, ok := ours(i); ok && !slices.Contains(allowed, p) {
				t.Errorf("%s imports %s; of ours %s may import %v alone", f.path, i, f.short(), allowed)
			}
		}
	}
}

// wings do not know each other. They meet in ipsec and doi, the vocabulary they
// share, and in daemon, which translates.
var wings = map[string][]string{
	"negotiation":   {"ike", "isakmp", "oakley", "dh"},
	"configuration": {"conf", "diag", "ipsecconf", "keynote", "policy", "pki"},
	"traffic":       {"dataplane", "netio", "tun", "esp", "ah", "ipcomp", "inet", "icv", "skipjack", "replay"},
}

func wing(short string) string {
	for name, dirs := range wings {
		for _, d := range dirs {
			if under(short, d) {
				return name
			}
		}
	}
	return ""
}

func TestWingsDoNotImportEachOther(t *testing.T) {
	for _, f := range files(t) {
		own := wing(f.short())
		if f.test || own == "" {
			continue
		}
		for _, i := range f.imports {
			p, ok := ours(i)
			if other := wing(p); ok && other != "" && other != own {
				t.Errorf("%s (%s) imports %s (%s): they meet in ipsec, and daemon translates", f.path, own, i, other)
			}
		}
	}
}

func TestEngineAndDataPlaneNeverMeet(t *testing.T) {
	for _, f := range files(t) { // tests too: they meet in daemon's tests
		for _, i := range f.imports {
			p, _ := ours(i)
			if under(f.short(), "ike") && under(p, "dataplane") || under(f.short(), "dataplane") && under(p, "ike") {
				t.Errorf("%s imports %s: ike and the data planes meet in ipsec alone", f.path, i)
			}
		}
	}
}

func TestOnlyProgramsImportDaemon(t *testing.T) {
	for _, f := range files(t) {
		if strings.HasPrefix(f.pkg, "cmd/") || under(f.short(), "daemon") {
			continue
		}
		if slices.Contains(f.imports, module+"/internal/daemon") {
			t.Errorf("%s imports daemon: only programs do", f.path)
		}
	}
}

// testSupport is code for tests, for the demonstration and for measuring.
var testSupport = []string{"lab", "vmtest", "archtest", "ike/iketest", "dataplane/planetest"}

func TestProductDoesNotImportTestSupport(t *testing.T) {
	for _, f := range files(t) {
		if f.test || f.pkg == "cmd/vpnlab" || f.pkg == "cmd/vpnbench" || under(f.pkg, "interop") || slices.ContainsFunc(testSupport, func(s string) bool { return under(f.short(), s) }) {
			continue
		}
		for _, i := range f.imports {
			p, ok := ours(i)
			if ok && slices.ContainsFunc(testSupport, func(s string) bool { return under(p, s) }) || i == "testing" {
				t.Errorf("%s imports %s, which is for tests", f.path, i)
			}
		}
	}
}

func TestFolderNameIsPackageName(t *testing.T) {
	for _, f := range files(t) {
		want := path.Base(f.pkg)
		if strings.HasPrefix(f.pkg, "cmd/") {
			want = "main"
		}
		if name := f.name; f.pkg != "." && name != want && !(f.test && name == want+"_test") {
			t.Errorf("%s: package %s in folder %s", f.path, name, f.pkg)
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	docs := map[string][]string{}
	for _, f := range files(t) {
		if f.pkg == "." || f.test && strings.HasSuffix(f.name, "_test") {
			continue
		}
		if _, ok := docs[f.pkg]; !ok {
			docs[f.pkg] = nil
		}
		if f.ast.Doc != nil && !f.test {
			docs[f.pkg] = append(docs[f.pkg], f.path)
			want := "Package " + f.name + " "
			if text := f.ast.Doc.Text(); f.name != "main" && !strings.HasPrefix(text, want) {
				t.Errorf("%s: the package comment starts with %q", f.path, want)
			}
		}
	}
	for pkg, where := range docs {
		switch {
		case len(where) == 0 && !onlyTests(t, pkg):
			t.Errorf("%s has no package comment", pkg)
		case len(where) > 1:
			t.Errorf("%s has %d package comments: %v", pkg, len(where), where)
		}
	}
}

func onlyTests(t *testing.T, pkg string) bool {
	return !slices.ContainsFunc(files(t), func(f *file) bool { return f.pkg == pkg && !f.test })
}

const maxLines = 600

func TestFilesAreShort(t *testing.T) {
	for _, f := range files(t) {
		if f.lines > maxLines {
			t.Errorf("%s has %d lines; %d are enough for one idea", f.path, f.lines, maxLines)
		}
	}
}

func TestNoTestSleeps(t *testing.T) {
	for _, f := range files(t) {
		if !f.test && !slices.ContainsFunc(testSupport, func(s string) bool { return under(f.short(), s) }) && !under(f.pkg, "interop") {
			continue
		}
		f.calls(func(n ast.Node, what string) {
			if what == "time.Sleep" {
				t.Errorf("%s: time.Sleep in a test: wait for the condition (lab.Eventually) or own the clock", f.at(n))
			}
		})
	}
}

// TestSkipsGoThroughNeed keeps tests from going missing where CI=true.
func TestSkipsGoThroughNeed(t *testing.T) {
	for _, f := range files(t) {
		if under(f.short(), "lab") || under(f.short(), "vmtest") && !f.test { // vmtest has a Need too, and repeats skips
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				return true
			}
			if id, ok := sel.X.(*ast.Ident); ok && slices.Contains([]string{"t", "b", "f", "tb"}, id.Name) && !inFuzz(f, call) {
				t.Errorf("%s: %s.%s: use lab.Need, which fails where CI=true", f.at(call), id.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

// inFuzz says whether a call is within a fuzz target, where a skip means "this
// input says nothing".
func inFuzz(f *file, call ast.Node) bool {
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Fuzz") && fn.Pos() <= call.Pos() && call.End() <= fn.End() {
			return true
		}
	}
	return false
}
