package main

import (
	"maps"
	"strings"
	"testing"
)

func TestAttributes(t *testing.T) {
	for in, want := range map[string]map[string]string{
		"":                              {},
		"# nothing\n":                   {},
		`a = "1"`:                       {"a": "1"},
		"a=\"1\"b_2=\"x y\"\n\n c=\"\"": {"a": "1", "b_2": "x y", "c": ""},
		`a = "1" a = "2"`:               {"a": "2"},
		"a # is\n = # this\n \"\\\"\"":  {"a": `"`},
		`9lives = "x"`:                  {"9lives": "x"},
		"a = b # c\nd=\ne\nf = 10":      {"a": "b", "d": "e", "f": "10"},
	} {
		got := map[string]string{}
		if err := readAttributes("f", in, got); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q is %v, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		`a`:            `f:1: an = is wanted after the attribute's name "a"`,
		"\na \"1\"":    `f:2: an = is wanted`,
		`= "1"`:        "f:1: an attribute is written",
		`"a" = "1"`:    "f:1: an attribute is written",
		`a = 1 2`:      "f:1: a string in quotes is wanted here",
		`a = 1"2"`:     "f:1: a string in quotes is wanted here",
		`a = b = "1"`:  "f:1: a string in quotes is wanted here",
		"a = \"1\nb\"": "f:1: this string does not end in its line",
		`a =`:          "f:1: a string in quotes",
	} {
		err := readAttributes("f", in, map[string]string{})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestWithoutSignatures(t *testing.T) {
	const in = "A: 1\nSignature: \"x\\\n  y\"\n\nB: 2\n  Signature: no\nsignature :\nfree text\n"
	const want = "A: 1\n#Signature: \"x\\\n#  y\"\n\nB: 2\n  Signature: no\n#signature :\n#free text\n"
	if got := withoutSignatures(in); got != want {
		t.Errorf("%q, not\n%q", got, want)
	}
	if got := withoutSignatures("no field"); got != "no field" {
		t.Errorf("%q", got)
	}
}

func FuzzAttributes(f *testing.F) {
	f.Add("a=\"1\" # x\nb = \"\\\n 2\"")
	f.Fuzz(func(t *testing.T, s string) {
		got := map[string]string{}
		if readAttributes("f", s, got) != nil {
			return
		}
		for name := range got {
			if name == "" {
				t.Fatalf("%q sets nothing", s)
			}
		}
	})
}
