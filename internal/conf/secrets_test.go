package conf_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"oakley/internal/conf"
)

// spoilt are lines with a key in them, each with something to say about it.
var spoilt = []string{
	"Authentication= %s",
	"Authentication=%s",
	"authentication =\t%s # ours",
	"Authentification= %s",
	"Autentication= %s",
	"Athentcation= %s",
	"Atuhenticatoin= %s",
	"Auth= %s",
	"PSK= %s",
	"Pre-Shared-Key= %s",
	"Passphrase= %s",
	"Authentication %s",
	"Authentication: %s",
	"Authentication %s= x",
	"Authentication : %s==",
	"  Authentication\t%s",
	"Authentication= \\\n%s",
	"Authentication= a\\\n%s\\\n#\x01",
	"Authentication= x\nAuthentication= %s",
	"Authentication= \x01%s",
	"Authentication= 0x%s",
	"Authentication= \"%s\"",
	"[Authentication= %s",
}

// TestNoRemarkShowsAKey spoils the line with the key in many ways and looks for
// the key in everything that is said, and in the configuration as people see it.
func TestNoRemarkShowsAKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[G-Z]{5}[a-z0-9 _.,:;=-]{0,40}[G-Z]{5}`).Draw(t, "key")
		line := fmt.Sprintf(rapid.SampledFrom(spoilt).Draw(t, "line"), key)
		src := strings.Replace(sound, "Authentication= correct horse battery staple", line, 1)
		if rapid.Bool().Draw(t, "misplaced") {
			src = strings.Replace(sound, "[Phase 1]", "[Phase 1]\n"+line, 1)
		}
		if rapid.Bool().Draw(t, "unused") {
			src = strings.Replace(src, "[Phase 1]", "[Phase 1]\nDefault= west", 1)
		}
		c, list := conf.Load("", []byte(src), nil)
		said := list.String() + fmt.Sprint(list.Err())
		if c != nil {
			said += c.String()
		}
		for _, part := range []string{key[:5], key[len(key)-5:]} {
			if strings.Contains(said, part) {
				t.Fatalf("%q of the key in %q is told:\n%s", part, line, said)
			}
		}
	})
}

// TestARemarkDoesNotTellHowLongAKeyIs: what is underlined is the same for all.
func TestARemarkDoesNotTellHowLongAKeyIs(t *testing.T) {
	var before string
	for _, key := range []string{"0x1", "0x123", "0x123456789abcdef0123456789abcdef01"} {
		_, list := conf.Load("", []byte(edit(t, "correct horse battery staple", key)), nil)
		if before != "" && list.String() != before {
			t.Errorf("%s and then\n%s", before, list)
		}
		before = list.String()
	}
}
