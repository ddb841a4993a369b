package diag_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"oakley/internal/diag"
)

func at(line, col, n int) diag.Range {
	return diag.Range{Pos: diag.Pos{File: "isakmpd.conf", Line: line, Col: col}, Len: n}
}

func TestFormat(t *testing.T) {
	for _, x := range []struct {
		name string
		d    diag.Diagnostic
		want []string
	}{
		{
			"the line, the place and the hint",
			diag.Diagnostic{Severity: diag.Error, Summary: "no such section", Hint: "write one", Range: at(12, 14, 8), Snippet: "Connections= Ragweed"},
			[]string{"isakmpd.conf:12:14: error: no such section", "    12 | Connections= Ragweed", "       |              ^^^^^^^", "    hint: write one"},
		},
		{
			"tabs line up",
			diag.Diagnostic{Summary: "hm", Range: at(3, 7, 2), Snippet: "\tTag=\tab\tc"},
			[]string{"isakmpd.conf:3:7: warning: hm", "     3 | \tTag=\tab\tc", "       | \t    \t^^"},
		},
		{
			"letters of several bytes are one wide",
			diag.Diagnostic{Summary: "hm", Range: at(1, 7, 1), Snippet: "é=é= x"},
			[]string{"isakmpd.conf:1:7: warning: hm", "     1 | é=é= x", "       |     ^"},
		},
		{
			"control characters are shown as numbers",
			diag.Diagnostic{Summary: "a \x1b[31m b", Hint: "\a", Range: at(1, 3, 1), Snippet: "a\x1bb\xff\x00"},
			[]string{`isakmpd.conf:1:3: warning: a \x1b[31m b`, `     1 | a\x1bb\xff\x00`, "       |      ^", `    hint: \x07`},
		},
		{
			"a place at the end of the line",
			diag.Diagnostic{Summary: "hm", Range: at(1, 4, 1), Snippet: "abc"},
			[]string{"isakmpd.conf:1:4: warning: hm", "     1 | abc", "       |    ^"},
		},
		{
			"a place beyond the line",
			diag.Diagnostic{Summary: "hm", Range: at(1, 400, 100), Snippet: "abc"},
			[]string{"isakmpd.conf:1:400: warning: hm", "     1 | abc", "       |    ^"},
		},
		{
			"a file without a line",
			diag.Diagnostic{Severity: diag.Error, Summary: "too large", Range: at(0, 0, 0), Snippet: ""},
			[]string{"isakmpd.conf: error: too large"},
		},
		{
			"nothing but words",
			diag.Diagnostic{Severity: diag.Error, Summary: "too large"},
			[]string{"error: too large"},
		},
		{
			"a whole line",
			diag.Diagnostic{Severity: diag.Error, Summary: "hm", Range: at(2, 0, 0), Snippet: "abc"},
			[]string{"isakmpd.conf:2: error: hm", "     2 | abc"},
		},
	} {
		if got, want := (diag.List{&x.d}).String(), strings.Join(x.want, "\n")+"\n"; got != want {
			t.Errorf("%s:\n%q, wanted\n%q", x.name, got, want)
		}
	}
}

func TestLongLinesAreCutAroundThePlace(t *testing.T) {
	line := strings.Repeat("a", 500) + "HERE" + strings.Repeat("b", 500)
	lines := strings.Split(diag.List{{Summary: "hm", Range: at(1, 501, 4), Snippet: line}}.String(), "\n")
	i := strings.Index(lines[1], "HERE")
	if len(lines[1]) > 150 || i < 0 || lines[2][i:] != "^^^^" || !strings.Contains(lines[1], "| ...a") || !strings.HasSuffix(lines[1], "b...") {
		t.Errorf("%s\n%s", lines[1], lines[2])
	}
}

func TestColourIsOnlyThereWhenAskedFor(t *testing.T) {
	l := diag.List{{Severity: diag.Error, Summary: "hm", Hint: "so", Range: at(1, 1, 1), Snippet: "x"}}
	var plain, painted strings.Builder
	if err := errors.Join(l.Format(&plain, false), l.Format(&painted, true)); err != nil {
		t.Fatal(err)
	}
	bare := painted.String()
	for _, p := range []string{"\x1b[1m", "\x1b[1;31m", "\x1b[32m", "\x1b[0m"} {
		if !strings.Contains(bare, p) {
			t.Errorf("no %q", p)
		}
		bare = strings.ReplaceAll(bare, p, "")
	}
	if strings.Contains(plain.String(), "\x1b") || bare != plain.String() {
		t.Errorf("%q and %q", plain.String(), bare)
	}
}

// TestNoFileCanPaintTheTerminal: whatever a file holds, what is printed are
// printable characters, tabs and line feeds, and no more than a screen of them.
func TestNoFileCanPaintTheTerminal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		d := &diag.Diagnostic{
			Summary: text.Draw(t, "summary"), Hint: text.Draw(t, "hint"), Snippet: text.Draw(t, "snippet"),
			Range: at(rapid.IntRange(0, 3).Draw(t, "line"), rapid.IntRange(0, 300).Draw(t, "col"), rapid.IntRange(0, 300).Draw(t, "len")),
		}
		for _, r := range (diag.List{d}).String() + d.Error() {
			if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r == 0x9b {
				t.Fatalf("%U of %+v", r, d)
			}
		}
		if strings.ContainsAny(d.Error(), "\n") {
			t.Fatalf("%q is more than one line", d.Error())
		}
	})
}

func TestSortAndCount(t *testing.T) {
	l := diag.List{
		{Summary: "c", Range: at(2, 5, 1)},
		{Summary: "e", Range: at(10, 1, 1)},
		{Summary: "b", Range: at(2, 1, 1)},
		{Summary: "a", Range: at(2, 1, 1), Severity: diag.Error},
		{Summary: "d", Range: at(2, 5, 1)},
	}
	l.Sort()
	var order string
	for _, d := range l {
		order += d.Summary
	}
	if order != "abcde" || !l.HasErrors() || l.Count(diag.Warning) != 4 {
		t.Errorf("%s, %d warnings", order, l.Count(diag.Warning))
	}
}

func TestErr(t *testing.T) {
	warning := &diag.Diagnostic{Summary: "w", Range: at(1, 1, 1)}
	one := &diag.Diagnostic{Severity: diag.Error, Summary: "one", Range: at(2, 3, 1)}
	if err := (diag.List{warning}).Err(); err != nil {
		t.Errorf("a warning is no error: %v", err)
	}
	if err := (diag.List{warning, one}).Err(); err == nil || err.Error() != "isakmpd.conf:2:3: error: one" {
		t.Errorf("%v", err)
	}
	err := (diag.List{warning, one, one, one}).Err()
	var d *diag.Diagnostic
	if err == nil || err.Error() != "isakmpd.conf:2:3: error: one (and 2 more)" || !errors.As(err, &d) || d != one {
		t.Errorf("%v", err)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"Ragweed Slippery", "NET-Carefull", "NET-Badplants", "AES_CBC", "3DES_CBC", "BLOWFISH_CBC", "east", "west", "IPV4_ADDR", "IPV4_ADDR_SUBNET"}
	for name, want := range map[string]string{
		"Ragweed-Slippery": "Ragweed Slippery",
		"ragweed_slippery": "Ragweed Slippery",
		"Ragwed-Slipery":   "Ragweed Slippery",
		"Net-Badplant":     "NET-Badplants",
		"aes":              "AES_CBC",
		"wset":             "west",
		"eas":              "east",
		"IPV4_ADR":         "IPV4_ADDR",
		"IPV4_ADDR_SUBNT":  "IPV4_ADDR_SUBNET",
		"north":            "",
		"":                 "",
		"x":                "",
	} {
		got, ok := diag.Nearest(name, slices.Values(names))
		if got != want || ok != (want != "") {
			t.Errorf("%q is near to %q, wanted %q", name, got, want)
		}
	}
}

// TestNearestFindsWhatWasMistyped once: a letter left out, added, replaced or
// swapped with the next one.
func TestNearestFindsWhatWasMistyped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z]{4,30}`).Draw(t, "name")
		i := rapid.IntRange(0, len(name)-2).Draw(t, "at")
		typed := rapid.SampledFrom([]string{
			name[:i] + name[i+1:],
			name[:i] + "7" + name[i:],
			name[:i] + "7" + name[i+1:],
			name[:i] + name[i+1:i+2] + name[i:i+1] + name[i+2:],
		}).Draw(t, "typed")
		other := strings.Repeat("0", len(name))
		if got, ok := diag.Nearest(typed, slices.Values([]string{other, name})); !ok || got != name {
			t.Fatalf("%q for %q", got, typed)
		}
	})
}

func TestNearestLooksAtSoManyOnly(t *testing.T) {
	tried := 0
	diag.Nearest("name", func(yield func(string) bool) {
		for tried = 0; tried < 1_000_000 && yield(fmt.Sprint(tried)); tried++ {
		}
	})
	if tried > 10_000 {
		t.Errorf("%d candidates", tried)
	}
	if _, ok := diag.Nearest(strings.Repeat("a", 1000), slices.Values([]string{strings.Repeat("a", 1000)})); ok {
		t.Error("a name of 1000 letters is not compared")
	}
}
