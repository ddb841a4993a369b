package main

import (
	"strings"
	"testing"
)

// RFC 2704 section 4.3.1's escapes.
func TestLiterals(t *testing.T) {
	for in, want := range map[string]string{
		`""`:                         "",
		`"abc"`:                      "abc",
		"  # a comment\n\t\"x\" # y": "x",
		`"a\"b\\c"`:                  `a"b\c`,
		`"\n\r\t\f\a"`:               "\n\r\t\fa",
		`"\012\040\101\377"`:         "\n A\xff",
		`"\01x\07"`:                  "\x01x\a",
		`"\0\00\000"`:                "000000",
		`"\400"`:                     "400",
		`"\08"`:                      "08",
		`"\9"`:                       "9",
		`"\12x"`:                     "12x",
		"\"ab\\\n   \t\n cd\"":       "abcd",
		"\"ab\\\r\n cd\"":            "abcd",
		"KeyC  # Some key\n":         "KeyC",
		`"#"`:                        "#",
	} {
		got, err := onlyString("f", in)
		if err != nil || got != want {
			t.Errorf("%q is %q, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		"":               "f: the file is empty",
		" # \"x\"":       "f: the file is empty",
		"\n\"abc":        "f:2: this string does not end",
		`"abc\`:          "f:1: this string does not end",
		"\"ab\ncd\"":     "f:1: this string does not end in its line",
		"\"a\"\n\n\"b\"": "f:3: one string is wanted",
		"a b":            "f:1: one string is wanted",
	} {
		_, err := onlyString("f", in)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzOnlyString(f *testing.F) {
	for _, s := range []string{`"a\012b"`, "x # y", "\"a\\\n b\"", `"\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if text, err := onlyString("f", s); err == nil && len(text) > len(s) {
			t.Fatalf("%q is longer than %q", text, s)
		}
	})
}
