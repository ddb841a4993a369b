package keynote_test

import (
	"errors"
	"strings"
	"testing"

	"oakley/internal/keynote"
)

// holds is whether POLICY gives the highest value on this condition.
func holds(t *testing.T, condition string, attrs map[string]string) bool {
	t.Helper()
	return ask(t, load(t, "Authorizer: \"POLICY\"\nConditions: "+condition+";\n"), "P", attrs) == "true"
}

// TestTests is section by section what makes a test true.
func TestTests(t *testing.T) {
	attrs := map[string]string{
		"foo": "bar", "bar": "xyz", "xyz": "qua", "n": "1.2", "m": "-1.2", "big": "99999999999", "e": "1e3",
		"empty": "", "word": "12abc", "line": "a\nb", "true": "t", "time": "20261121103000", "blank": " 7 ",
	}
	for _, x := range []struct {
		test string
		want bool
	}{
		// 4.3.1 string literals.
		{`"\"like\"" == "\"" . "like\""`, true},
		{`"a\nb" == line`, true},
		{`"\012" == "\n" && "\101" == "A" && "\t\r\f" == "\011\015\014"`, true},
		{`"\0" == "0" && "\00" == "00" && "\000" == "000"`, true},
		{`"\a\\" == "a\\"`, true},
		{`"\07" == "\007" && "\7" == "7"`, true},
		{`"\400" == "400" && "\18" == "18"`, true},
		{"\"this str\\\n      ing\" == \"this string\"", true},
		{"\"one\\\r\n\t two\" == \"onetwo\"", true},
		{`"this string contains a newline\n followed by one space." == "this string contains a newline\012\040followed by one space."`, true},
		{`"#" == "\043"`, true},

		// 4.3.2, 4.4 concatenation and dereferencing.
		{`foo == "bar"`, true},
		{`$("foo") == "bar"`, true},
		{`$foo == "xyz"`, true},
		{`$(foo) == "xyz"`, true},
		{`$$foo == "qua"`, true},
		{`$("f" . "oo") == "bar"`, true},
		{`$"f" . "oo" == "oo"`, true}, // $ binds more tightly than the dot
		{`$"no such name" == "" && $"" == "" && $empty == ""`, true},
		{`unset == "" && @unset == 0 && &unset < 0.5 && &unset > -0.5`, true},
		{`Foo == ""`, true}, // names have case
		{`true == "t" && true`, true},
		{`"a" . "b" . "c" == "abc"`, true},

		// Conversion.
		{`@n == 1 && @"1.9" == 1`, true},
		{`@m == -2`, true}, // rounded down
		{`@word == 0 && @"" == 0 && @"0x10" == 0 && @"--1" == 0 && @"." == 0`, true},
		{`@blank == 7 && @"+5" == 5 && @e == 1000 && @".5" == 0`, true},
		{`@"2147483647" == 2147483647 && @"-2147483648" == -2147483647 - 1`, true},
		{`@big > 0`, false}, // out of range is an error,
		{`@big < 5`, false}, // not a small number
		{`!(@big < 5)`, false},
		{`&"1e39" > 1.0`, false},
		{`&"inf" > 1.0`, false},
		{`&"1.17549435E-38" > 0.0 && &"3.40282347E+38" > 1.0`, true},
		{`&n > 1.1 && &n < 1.3`, true},
		{`time > "20260101000000" && time < "20270101000000"`, true},

		// Arithmetic and precedence.
		{`1 + 2 * 3 == 7 && (1 + 2) * 3 == 9`, true},
		{`2 ^ 3 ^ 2 == 64`, true}, // from left to right
		{`-2 ^ 2 == 4`, true},     // the sign binds more tightly
		{`2 * 3 ^ 2 == 18 && 7 - 2 - 1 == 4 && 100 / 10 / 5 == 2`, true},
		{`7 % 4 * 2 == 6 && -7 / 2 == -3 && -7 % 2 == -1`, true},
		{`--3 == 3 && 2 - -2 == 4`, true},
		{`-2147483648 == -2147483647 - 1 && - 2147483648 < 0`, true},
		{`2147483647 + 1 > 0`, false},
		{`!(2147483647 + 1 > 0)`, false},
		{`-2147483647 - 2 < 0`, false},
		{`65536 * 65536 == 0`, false},
		{`(-2147483647 - 1) / -1 > 0`, false},
		{`2 ^ 31 > 0`, false},
		{`2 ^ 64 == 0 || true`, false},
		{`65536 ^ 4 == 0 || true`, false},
		{`3 ^ 50 != 7 || true`, false},
		{`2 ^ 30 == 1073741824 && (-2) ^ 31 == -2147483647 - 1`, true},
		{`0 ^ 0 == 1 && 1 ^ 2147483647 == 1 && (-1) ^ 2147483647 == -1 && 0 ^ 2147483647 == 0`, true},
		{`2 ^ 2147483647 > 0`, false},
		{`2 ^ -1 == 0`, false},
		{`1 / 0 == 1 || 1 % 0 == 0`, false},
		{`1.0 / 0.0 > 0.0`, false},
		{`1.5 + 1.5 * 2.0 >= 4.5 && 2.0 ^ 0.5 > 1.4 && -1.5 < 0.0`, true},
		{`(-1.0) ^ 0.5 < 5.0 || true`, false},

		// Errors make the whole test false, if they are come to.
		{`foo == "bar" && 1/0 == 1`, false},
		{`foo == "x" && 1/0 == 1 || foo == "bar"`, true},
		{`foo == "bar" || 1/0 == 1`, true},
		{`1/0 == 1 || foo == "bar"`, false},
		{`!(1/0 == 1)`, false},
		{`foo ~= "(" || true`, false},

		// Logic.
		{`true || false && false`, true},
		{`(true || false) && false`, false},
		{`!false && !(foo == "x")`, true},
		{`!foo == "x"`, true},
		{`!!true`, true},
		{`TRUE && tRuE`, true},
		{`"abc" < "abd" && "B" < "a" && "10" < "9" && "a" <= "a" && "b" >= "a" && "b" > "a"`, true},
		{`foo == "Bar"`, false},

		// 5.3.4 regular expressions.
		{`foo ~= "a"`, true},
		{`foo ~= "^a"`, false},
		{`foo ~= "A"`, false},
		{`foo ~= "^(b)(.)(.)$" && _0 == "3" && _1 == "b" && _2 == "a" && _3 == "r" && _4 == ""`, true},
		{`@_0 == 0 && _1 == ""`, true},
		{`foo ~= "^b" && _0 == "0"`, true},
		{`foo ~= "(x)|(a)" && _0 == "2" && _1 == "" && _2 == "a"`, true},
		{`foo ~= "(b)" && !(foo ~= "(z)") && _1 == "b"`, true}, // a failure leaves what was
		{`foo ~= "(b)" && $("_" . "1") == "b"`, true},
		{`"xyz" ~= "x|xy|xyz"`, true},
		{`"abcd" ~= "(a|ab)(c|bcd)" && _1 == "a" && _2 == "bcd"`, true}, // the longest
		{`foo ~= "^" . "b"`, true},
		{`line ~= "^b"`, false}, // the whole string is one line
		{`line ~= "a.b" && line ~= "a[^x]b" && line ~= "a[[:space:]]b"`, true},
		{`"a\\b" ~= "a[\\]b" && "a]b" ~= "a[]]b" && "a-b" ~= "a[x-]b" && "^" ~= "[x^]"`, true},
		{`"ad" ~= "a\\d" && "a1" ~= "a\\d"`, false}, // \d is the letter d
		{`"a.b" ~= "^a\\.b$" && !("axb" ~= "^a\\.b$")`, true},
		{`"aaa" ~= "^a{3}$" && "aa" ~= "^a{1,2}$" && !("a" ~= "^a{2,}$")`, true},
		{`"{" ~= "{" && "a}" ~= "a}"`, true},
		{`"é" ~= "^.$"`, true},
		{`"a" ~= "[[.a.]]" && "a" ~= "[[=a=]-c]"`, true},
		{`foo ~= ""`, false},
		{`foo ~= "x|"`, false},
		{`foo ~= "(?i)BAR"`, false},
		{`foo ~= "\\Qbar\\E"`, false},
		{`foo ~= "^*b" || true`, false}, // nothing there that could be repeated
		{`foo ~= "b**" || true`, false},
		{`foo ~= "b{2,1}" || true`, false},
		{`foo ~= "b{256}" || true`, false},
		{`foo ~= "b{1" || true`, false},
		{`foo ~= "(b)\\1" || true`, false},
		{`foo ~= "[z-a]" || true`, false},
		{`foo ~= "[[:none:]]" || true`, false},
		{`foo ~= "[b" || true`, false},
		{`foo ~= "b\\" || true`, false},
		{`foo ~= "b)" || true`, false},
		{`foo ~= "()b" && foo ~= "(b|x)(a|y){1}r" && "-" ~= "^[a-]$" && "-" ~= "^[]-_-]$"`, true},
		{`foo ~= "\\<b" || foo ~= "b\\b"`, false}, // < and b
		{`foo ~= bar`, false},
		{`bar ~= $foo`, true},

		// Clauses.
		{`false -> { true; }`, false},
		{`true -> { }`, false},
		{`true -> { foo == "bar" -> { true; }; }`, true},
		{`true -> "true"`, true},
		{`true -> "false"`, false},
		{`true -> "True"`, false},
		{`true -> "tr" . "ue"`, true},
		{`true -> _MAX_TRUST`, true},
		{`true -> _MIN_TRUST`, false},
		{`_VALUES == "false,true" && _ACTION_AUTHORIZERS == "P"`, true},
		{`1/0 == 1; foo == "bar"`, true},
		{`foo ~= "(b)" -> { _1 == "b" -> "true"; }`, true},
		{`foo ~= "(b)"  -> "false"; _1 == "b"`, false}, // of another clause
		{`true -> { foo ~= "(b)" -> "false"; _1 == "b"; }`, false},
		{`"true" ~= "(.*)" -> _1`, true},
	} {
		if got := holds(t, x.test, attrs); got != x.want {
			t.Errorf("%s: %v", x.test, got)
		}
	}
}

func TestAttributesAreOverridden(t *testing.T) {
	s := load(t, "Conditions: foo == \"mine\" && $\"foo\" == \"mine\" && $name == \"mine\";\nLocal-Constants: foo = \"mine\"\nAuthorizer: \"POLICY\"\n")
	if got := ask(t, s, "P", map[string]string{"foo": "yours", "name": "foo"}); got != "true" {
		t.Error(got)
	}
}

// TestValuesInOrder is the example of RFC 2704 section 5.3.4 with user numbers.
func TestValuesInOrder(t *testing.T) {
	s := load(t, `Authorizer: "POLICY"
Conditions:
   @user_id == 0 -> "full_access";             # clause (1)
   @user_id < 1000 -> "user_access";           # clause (2)
   @user_id < 10000 -> "guest_access";         # clause (3)
   user_name == "root" -> "full_access";       # clause (4)
`)
	values := []string{"no_access", "guest_access", "user_access", "full_access"}
	for _, x := range []struct{ id, name, want string }{
		{"1073", "root", "full_access"},
		{"19283", "nobody", "no_access"},
		{"1073", "nobody", "guest_access"},
		{"7", "nobody", "user_access"},
		{"0", "nobody", "full_access"},
	} {
		if got := ask(t, s, "P", map[string]string{"user_id": x.id, "user_name": x.name}, values...); got != x.want {
			t.Errorf("%+v: %s", x, got)
		}
	}
}

// TestNestedClauses are the examples of section 5.3.4 with clauses in clauses.
func TestNestedClauses(t *testing.T) {
	nested := `a=="b" ->  { b=="c" -> "value1"; d=="e"  -> "value2"; true -> "value3"; } ;`
	flat := `(a=="b") && (b=="c") -> "value1"; (a=="b") && (d=="e") -> "value2"; (a=="b") -> "value3";`
	faulty := `foo == "bar" -> { @a == 1/0 -> "value3"; @a == 2 -> "value1"; };`
	values := []string{"none", "value3", "value2", "value1"}
	for _, x := range []struct {
		attrs map[string]string
		want  string
	}{
		{map[string]string{}, "none"},
		{map[string]string{"a": "b"}, "value3"},
		{map[string]string{"a": "b", "d": "e"}, "value2"},
		{map[string]string{"a": "b", "d": "e", "b": "c"}, "value1"},
		{map[string]string{"b": "c", "d": "e"}, "none"},
	} {
		for _, text := range []string{nested, flat} {
			s := load(t, "Authorizer: \"POLICY\"\nConditions: "+text+"\n")
			if got := ask(t, s, "P", x.attrs, values...); got != x.want {
				t.Errorf("%s %v: %s", text, x.attrs, got)
			}
		}
	}
	s := load(t, "Authorizer: \"POLICY\"\nConditions: "+faulty+"\n")
	if got := ask(t, s, "P", map[string]string{"foo": "bar", "a": "2"}, values...); got != "value1" {
		t.Error(got)
	}
}

// TestLicensees is section 5.3.5.
func TestLicensees(t *testing.T) {
	for _, x := range []struct{ field, who, want string }{
		{"", "anybody", "true"},
		{"Licensees:", "alice", "false"},
		{`Licensees: ("alice" && "bob") || "eve"`, "alice", "false"},
		{`Licensees: ("alice" && "bob") || "eve"`, "alice,bob", "true"},
		{`Licensees: ("alice" && "bob") || "eve"`, "eve", "true"},
		{`Licensees: "alice" && "bob" || "eve"`, "eve", "true"},
		{`Licensees: "eve" || "alice" && "bob"`, "alice", "false"},
		{`Licensees: ("eve" || "alice") && "bob"`, "eve", "false"},
		{`Licensees: 2-of("a", "b", "c")`, "a", "false"},
		{`Licensees: 2-OF ( "a", "b", "c" )`, "a,c", "true"},
		{`Licensees: 2-of("a", "a", "c")`, "a", "true"}, // counted as often as named
		{`Licensees: 2-of("a", "b", "c") && "d"`, "a,b", "false"},
		{`Licensees: 2-of("a", "b", "c") && "d"`, "a,b,d", "true"},
		{`Licensees: "Alice"`, "alice", "false"}, // opaque names have case
		{`Licensees: "RSA:ab"`, "rsa:ab", "true"},
		{`Licensees: ("al") . "ice"`, "alice", "true"},
		{`Licensees: (("alice"))`, "alice", "true"},
		{`Licensees: someone`, "alice", "true"},
		{`Licensees: $("some" . "one") && "bob"`, "alice,bob", "true"},
		{`Licensees: "POLICY"`, "alice", "false"},
	} {
		as, l := keynote.Parse("p", []byte("Authorizer: \"POLICY\"\n"+x.field+"\n"), keynote.Policy)
		s, l2 := keynote.NewSet(exampleKeys{}, as)
		if l.HasErrors() || len(l2) > 0 {
			t.Fatal(l, l2)
		}
		if got := ask(t, s, x.who, map[string]string{"someone": "alice"}); got != x.want {
			t.Errorf("%s asked by %s: %s", x.field, x.who, got)
		}
	}
}

func TestThresholdOfValues(t *testing.T) {
	var b strings.Builder
	b.WriteString("Authorizer: \"POLICY\"\nLicensees: 3-of(\"p0\", \"p1\", \"p2\", \"p3\", \"p4\")\n")
	for i, v := range []string{"0", "1", "2", "2", "3"} { // the example of section 5.3.5
		b.WriteString("\nAuthorizer: \"p" + string(rune('0'+i)) + "\"\nLicensees: \"x\"\nConditions: true -> \"" + v + "\";\n")
	}
	if got := ask(t, load(t, b.String()), "x", nil, "0", "1", "2", "3"); got != "2" {
		t.Error(got)
	}
}

func TestCyclesGiveNothing(t *testing.T) {
	const cycle = "Authorizer: \"POLICY\"\nLicensees: \"a\"\n\nAuthorizer: \"a\"\nLicensees: \"b\" || \"a\"\n\nAuthorizer: \"b\"\nLicensees: \"a\"\n"
	if got := ask(t, load(t, cycle), "c", nil); got != "false" {
		t.Error(got)
	}
	if got := ask(t, load(t, cycle+"\nAuthorizer: \"b\"\nLicensees: \"c\"\n"), "c", nil); got != "true" {
		t.Error(got)
	}
}

func TestQueriesThatAreWrong(t *testing.T) {
	s := load(t, exampleA)
	for _, x := range []struct {
		q    keynote.Query
		want error
	}{
		{keynote.Query{}, keynote.ErrNoRequester},
		{keynote.Query{Requesters: []string{"a"}, Values: []string{"x", "x"}}, keynote.ErrValues},
		{keynote.Query{Requesters: make([]string, 2000)}, keynote.ErrRequesters},
		{keynote.Query{Requesters: []string{"a"}, Attributes: map[string]string{"_MAX_TRUST": "x"}}, nil},
		{keynote.Query{Requesters: []string{"a"}, Attributes: map[string]string{"a b": "x"}}, nil},
	} {
		r, err := s.Query(&x.q)
		if err == nil || x.want != nil && !errors.Is(err, x.want) || r != (keynote.Result{}) {
			t.Errorf("%v: %v", r, err)
		}
		if _, err := s.Explain(&x.q); err == nil {
			t.Error("explained")
		}
	}
	if got := ask(t, s, "POLICY", nil); got != "false" {
		t.Error("whoever calls himself POLICY has everything")
	}
}
