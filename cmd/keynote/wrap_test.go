package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestLayout(t *testing.T) {
	for _, c := range []struct {
		l          layout
		name, text string
		want       string
	}{
		{layout{0, 12}, "a-hex:", "a-hex:0011", "\"a-hex:0011\"\n"},
		{layout{0, 12}, "a-hex:", "a-hex:00112", "\"a-hex:0011\\\n2\"\n"},
		{layout{2, 12}, "a-hex:", "a-hex:00112233445566778", "  \"a-hex:0011\\\n  22334455667\\\n  78\"\n"},
		{layout{0, 8}, "a-hex:", "a-hex:1", "\"a-hex:\\\n1\"\n"},
		// Lines that are too short for the name are broken after it.
		{layout{0, 4}, "a-hex:", "a-hex:12345", "\"a-hex:\\\n123\\\n45\"\n"},
		{layout{0, 1}, "", "abc", "\"\\\na\\\nb\\\nc\"\n"},
		{layout{3, 50}, "a", "a", "   \"a\"\n"},
	} {
		var b strings.Builder
		must(t, c.l.print(&b, c.name, c.text))
		if b.String() != c.want {
			t.Errorf("%v %q:\n%s, not\n%s", c.l, c.text, b.String(), c.want)
		}
	}
}

func TestWhatIsPrintedIsReadBack(t *testing.T) {
	text := "sig-rsa-sha1-base64:" + strings.Repeat("A9+/", 60)
	for length := 1; length < 200; length += 7 {
		for offset := range 5 {
			var b strings.Builder
			must(t, layout{offset, length}.print(&b, "", text))
			got, err := onlyString("x", b.String())
			if err != nil || got != text {
				t.Errorf("%d %d: %v, %q", offset, length, err, got)
			}
			for line := range strings.Lines(b.String()) {
				if n := len(strings.TrimSuffix(line, "\n")) - offset; n > max(length, 2) {
					t.Errorf("%d %d: a line of %d characters", offset, length, n)
				}
			}
		}
	}
}

func TestParseLayout(t *testing.T) {
	for args, want := range map[string]string{
		"":             "{12 50} <nil>",
		"0":            "{0 50} <nil>",
		"3 60":         "{3 60} <nil>",
		"-1":           "print-offset",
		"x":            "print-offset",
		"1 0":          "print-length",
		"1 2x":         "print-length",
		"1 2 3":        "too many arguments",
		"999999999999": "print-offset",
	} {
		l, err := parseLayout(strings.Fields(args))
		if got := fmt.Sprint(l, " ", err); !strings.Contains(got, want) {
			t.Errorf("%q: %s", args, got)
		}
	}
}
