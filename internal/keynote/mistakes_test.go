package keynote_test

import (
	"strings"
	"testing"

	"oakley/internal/diag"
	"oakley/internal/keynote"
)

// remarks are what Parse says, one a line.
func remarks(l diag.List) string {
	var lines []string
	for _, d := range l {
		lines = append(lines, d.Error()+" | "+d.Hint)
	}
	return strings.Join(lines, "\n")
}

func TestMistakes(t *testing.T) {
	const policy = "Authorizer: \"POLICY\"\n"
	for _, x := range []struct{ text, want string }{
		// What the how-to prints.
		{
			"KeyNote-Version: 2\nComment: This policy accepts ESP\nOpenBSD: policy,v 1.3 angelos Exp $\n$EOM: policy,v 1.3 niklas Exp $\nAuthoriser: \"POLICY\"\nLicensees: \"mekmitasdigoat\"\nConditions: app_domain == \"IPSec policy\" &&\nesp_present == \"yes\" -> \"true\";\n",
			"p:3:1: error: this line is a mark of a version control system and not KeyNote | delete the line, or write # before it\n" +
				"p:4:1: error: this line is a mark of a version control system and not KeyNote | delete the line, or write # before it\n" +
				"p:5:1: warning: Authoriser is read as Authorizer, which is how RFC 2704 spells it | write Authorizer:\n" +
				"p:8:1: error: this line continues the field above it, but it is not indented | begin it with a blank or a tab",
		},
		{"#\t$OpenBSD: policy,v 1.6 2001/06/20 16:36:19 angelos Exp $\n\n" + policy, ""},
		{"$OpenBSD$\n" + policy, "p:1:1: error: this line is a mark of a version control system and not KeyNote | delete the line, or write # before it"},

		// Fields.
		{"Licensees: \"x\"\n", `p:1:1: error: this assertion has no Authorizer field | write Authorizer: "POLICY", or who else says this; a blank line ends an assertion, so none stands between its fields`},
		{policy + policy, "p:2:1: error: there is a second Authorizer field in this assertion; the first one is in line 1 | a blank line begins the next assertion"},
		{policy + "Licencees: \"x\"\n", `p:2:1: error: there is no field "Licencees" in KeyNote | did you mean Licensees?`},
		{policy + "Colour: green\n", `p:2:1: error: there is no field "Colour" in KeyNote | the fields are KeyNote-Version, Local-Constants, Authorizer, Licensees, Conditions, Comment, Signature`},
		{"garbage\n", "p:1:1: error: this line is no field, and there is none that it continues | an assertion begins with the name of a field in the first column"},
		{"Authorizer \"POLICY\"\n", "p:1:1: error: this line is no field, and there is none that it continues | did you mean Authorizer: with a colon? A line that continues the field above begins with a blank"},
		{policy + "Conditions a == \"b\";\n", "p:2:1: error: this line continues the field above it, but it is not indented | did you mean Conditions: with a colon? A line that continues the field above begins with a blank"},
		{" Authorizer: \"POLICY\"\n", "p:1:1: error: this line is indented, but there is no field that it continues | an assertion begins with the name of a field in the first column"},
		{"\t\n pfs == \"yes\";\n", "p:2:1: error: this line is indented, but there is no field that it continues | the blank line above it ends an assertion: delete that one if this line continues what is above, or else begin with the name of a field in the first column"},
		{policy + "KeyNote-Version: 2\n", "p:2:1: warning: KeyNote-Version is not the first field (RFC 2704 section 4.1) | move it to the top"},
		{"KeyNote-Version: 3\n" + policy, "p:1:18: error: this is written for version 3 of KeyNote; there is only version 2 | write KeyNote-Version: 2"},
		{"KeyNote-Version:\n" + policy, "p:1:1: error: the version is a number, not the end of the field | write KeyNote-Version: 2"},
		{policy + "Signature: \"sig:1\"\nComment: x\n", "p:3:1: warning: this line and those after it stand behind the signature and do not count | write a blank line before it if it begins another assertion; what is to be signed belongs above the signature"},
		{policy + "Signature: \"sig:1\"\n# so far\nAuthorizer: \"DN:a\"\nfree text\n\n" + policy, "p:4:1: warning: this line and those after it stand behind the signature and do not count | write a blank line before it if it begins another assertion; what is to be signed belongs above the signature"},
		{policy + "Signature: \"nothing\"\n", `p:2:12: error: the signature is no string of the form algorithm:bits | it looks like "sig-rsa-sha1-base64:..."`},
		{policy + "Licensees:\n", "p:2:1: warning: there are no licensees, so this assertion authorizes nobody | name somebody, or remove the field to let everybody in"},
		{policy + "Conditions:\n", "p:2:1: warning: there are no conditions, so this assertion authorizes nothing | write a test, or remove the field to allow everything"},
		{"Authorizer: POLICY\n", "p:1:13: warning: the authorizer is the value of the attribute POLICY | write it in quotes if it is a name, or set it in Local-Constants"},
		{policy + "Licensees: bob\n", "p:2:12: warning: the licensee is the value of the attribute bob | write it in quotes if it is a name, or set it in Local-Constants"},

		{policy + "Licensees: \u201cDN:a\u201d\n", "p:2:12: error: strings stand between two of \", and this is \u201c | "},
		{policy + "Licensees: 'DN:a'\n", "p:2:12: error: strings stand between two of \", and this is ' | "},
		{policy + "Licensees: \u00e4\n", "p:2:12: error: the character '\u00e4' has no meaning here | "},
		{policy + "Licensees: \xff\n", "p:2:12: error: the byte 0xff has no meaning here | "},

		// Constants.
		{"Local-Constants: a = \"1\" a = \"2\"\n" + policy, "p:1:26: error: the constant a is set twice (RFC 2704 section 4.6.2) | "},
		{"Local-Constants: _a = \"1\"\n" + policy, "p:1:18: error: names that begin with _ belong to KeyNote itself | take another name"},
		{"Local-Constants: a = 1\n" + policy, `p:1:22: error: the value of a constant is a string in quotes, not ` + "`1`" + ` | write NAME = "VALUE"`},
		{"Local-Constants: = \"1\"\n" + policy, "p:1:18: error: a constant begins with its name, not with `=` | write NAME = \"VALUE\""},

		// Licensees.
		{policy + "Licensees: 3-of(\"DN:a\", \"DN:b\")\n", "p:2:12: error: 3 of 2 principals can never be had (RFC 2704 section 4.6.4) | lower the number or name more"},
		{policy + "Licensees: 0-of(\"DN:a\")\n", `p:2:12: error: 0 is no number of licensees | write 2-of("a", "b", "c")`},
		{policy + "Licensees: 2-of \"DN:a\"\n", "p:2:17: error: `(` was expected here, not a string | write 2-of(\"a\", \"b\", \"c\")"},
		{policy + "Licensees: 1-of(\"DN:a\" || \"DN:b\")\n", "p:2:24: error: `)` was expected here, not `||` | principals are separated by commas; && and || do not go into the list"},
		{policy + "Licensees: \"DN:a\", \"DN:b\"\n", "p:2:18: error: the field should end before `,` | combine principals with && and ||"},
		{policy + "Licensees: (\"DN:a\"\n", "p:2:13: error: `)` was expected here, not the end of the field | close what is opened in p:2:12"},
		{policy + "Licensees: @a\n", "p:2:12: error: a principal is a string, this is an integer | write it in quotes"},

		// Conditions.
		{policy + "Conditions: a == \"b\"\n", "p:2:18: error: `;` was expected behind this clause, not the end of the field | end the clause with ; or join tests with && and ||"},
		{policy + "Conditions: esp_present;\n", `p:2:13: error: this is a string where a test is expected | write esp_present == "yes", for example`},
		{policy + "Conditions: length > 128;\n", "p:2:13: error: this compares a string with an integer | write @ before the string to read it as an integer, or quote the number"},
		{policy + "Conditions: &a == 1.0;\n", "p:2:16: error: KeyNote does not test floating point numbers for equality | use < and >, or compare integers (@)"},
		{policy + "Conditions: &a < 1;\n", "p:2:13: error: this compares a floating point number with an integer | write an integer literal as 1.0, and & instead of @, to calculate with floating point numbers"},
		{policy + "Conditions: &a % 2.0 < 1.0;\n", "p:2:16: error: `%` is for integers alone | use @ instead of &"},
		{policy + "Conditions: \"a\" + \"b\" == c;\n", "p:2:13: error: `+` adds numbers, here it has two strings | strings are joined with a dot"},
		{policy + "Conditions: 1 < 2 < 3;\n", "p:2:19: error: comparisons cannot be chained | write two comparisons with && between them"},
		{policy + "Conditions: 1 ~= 2;\n", "p:2:13: error: a regular expression is compared with an integer | use ~= with strings"},
		{policy + "Conditions: not a == b;\n", `p:2:13: error: this is a string where a test is expected | not is written ! here`},
		{policy + "Conditions: true -> 1;\n", `p:2:21: error: the value of a clause is a string, this is an integer | write "true", for example`},
		{policy + "Conditions: true -> { true; ;\n", "p:2:29: error: a value is missing: there is `;` instead | a string stands in quotes, an attribute without"},
		{policy + "Conditions: true -> { true;\n", "p:2:27: error: a value is missing: there is the end of the field instead | a string stands in quotes, an attribute without; ( and { need ) and }"},
		{policy + "Conditions: a == 99999999999;\n", "p:2:18: error: integers go from -2147483648 to 2147483647 | compare long numbers, such as times, as strings in quotes"},
		{policy + "Conditions: a == \"b;\n", "p:2:18: error: this string does not end in its line; a backslash at the end of a line continues it | "},
		{policy + "Conditions: a ? b;\n", "p:2:15: error: the character '?' has no meaning here | "},
		{policy + "Conditions: a == 3des;\n", "p:2:18: error: a name does not begin with a digit | "},
		{policy + "Conditions: a ~= \"(x\";\n", "p:2:18: warning: this test is never true, its regular expression is invalid: a ( is not closed | write an extended regular expression of POSIX; every backslash is written twice in a string"},
		{policy + "Conditions: a = \"b\";\n", "p:2:15: warning: `=` is read as `==` | write =="},
		{policy + "Conditions: -a > 1;\n", "p:2:13: error: `-` negates a number, here it has a string | write @ or & before a string to read it as a number"},
		{policy + "Conditions: \x00\n", "p:2:13: error: there is a NUL character in the text | write the file anew as plain text"},
	} {
		as, l := keynote.Parse("p", []byte(x.text), keynote.Policy)
		if got := remarks(l); got != x.want {
			t.Errorf("%q:\n%s\nwanted\n%s", x.text, got, x.want)
		}
		if l.HasErrors() && len(as) > 0 {
			t.Errorf("%q: an assertion with an error is used", x.text)
		}
	}
}

// TestOneMistakeOfEachField: a mistake does not hide those of other fields and
// of other assertions.
func TestOneMistakeOfEachField(t *testing.T) {
	as, l := keynote.Parse("p", []byte("Authorizer: 1\nLicensees: 2\nConditions: 3;\n\nAuthorizer: \"x\"\n\nLicensees: 4\n"), keynote.Policy)
	if len(as) != 1 || as[0].Authorizer() != "x" || l.Count(diag.Error) != 5 {
		t.Errorf("%d assertions\n%s", len(as), l)
	}
}

func TestNothingShowsAPassphrase(t *testing.T) {
	const secret = "s3cr3t pass"
	for _, text := range []string{
		"Authorizer: \"POLICY\"\nLicensees: \"" + secret + "\" \"DN:x\"\n",
		"Authorizer: \"POLICY\"\nLicensees: \"passphrase:" + secret + "\" ?\n",
		"Authorizer: \"POLICY\"\nLicensees: ? \"passphrase:" + secret + "\"\n",
		"Local-Constants: a = \"" + secret + "\" a = \"" + secret + "\"\nAuthorizer: \"POLICY\"\n",
		"Authorizer: \"POLICY\"\nLicensees: \"" + secret + "\n",
		"Authorizer: \"" + secret + "\" ; \n",
		"Authorizer: \"POLICY\"\nConditions: _ACTION_AUTHORIZERS == \"passphrase:" + secret + "\"\n",
		"Authorizer: \"POLICY\"\nLicencees: \"" + secret + "\"\n",
		"Authorizer: \"POLICY\"\nLicensees \"" + secret + "\"\n",
		"Authorizer: \"POLICY\"\n\n Licensees: \"" + secret + "\"\n",
		"Licensees: \"DN:a\"\nLicensees: \"" + secret + "\"\n",
		"Authorizer: \"POLICY\"\nLicensees: \"" + secret + "\x00\"\n",
		"Authorizer: \"POLICY\"\nLicensees: \u201c" + secret + "\u201d\n",
		"Authorizer: \"POLICY\"\nLicensees: \"DN:a\" || '" + secret + "\n",
		"$Id: \"" + secret + "\n",
		"Signature: \"a:b\"\nLicensees: \"" + secret + "\"\n",
		"Authorizer: \"POLICY\"\nLicensees: \"rsa-hex:12\" || \"" + secret + "\" || || \"passphrase:" + secret + "\"\n",
	} {
		_, l := keynote.Parse("p", []byte(text), keynote.Policy)
		if !l.HasErrors() || strings.Contains(l.String(), "s3cr") || strings.Contains(l.String(), "pass\"") {
			t.Errorf("%q:\n%s", text, l)
		}
	}
	// The place is still under what is meant.
	_, l := keynote.Parse("p", []byte("Authorizer: \"POLICY\"\nLicensees: \"a long passphrase\" ?\n"), keynote.Policy)
	const want = "p:2:32: error: the character '?' has no meaning here\n     2 | Licensees: \"*****************\" ?\n       |                                ^\n"
	if l.String() != want {
		t.Errorf("%s\nwanted\n%s", l, want)
	}
}

// TestInvalidPatterns says what is wrong with regular expressions.
func TestInvalidPatterns(t *testing.T) {
	for pattern, want := range map[string]string{
		"(":                    "a ( is not closed",
		"a(b|c":                "a ( is not closed",
		"ab)":                  `a ) closes nothing; as a character it is written \)`,
		"a||b":                 "there is nothing before it that could be repeated, or an alternative is empty",
		"[c-a]":                "a range between [ and ] is none",
		"((a{100}){100}){100}": "the regular expression is too large once its repetitions are multiplied out",
		`\377`:                 "it has bytes that are not UTF-8",
		`[\300-\377]`:          "it has bytes that are not UTF-8",
	} {
		_, l := keynote.Parse("p", []byte("Authorizer: \"POLICY\"\nConditions: a ~= \""+pattern+"\";\n"), keynote.Policy)
		if len(l) != 1 || !strings.HasSuffix(l[0].Summary, "is invalid: "+want) {
			t.Errorf("%s:\n%s", pattern, l)
		}
	}
}
