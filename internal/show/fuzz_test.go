package show

import (
	"strconv"
	"strings"
	"testing"
	"unicode"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// Whatever a peer calls itself, an SA, a flow and a message stay one line each, of
// characters that show.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "a.example", "a b", "\x1b[2J", "a\nb", `\"`, "\u202e", "\xff\xfe", "日本", "a\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		st, fl := espSA(), flowPair()[0]
		st.SA.IDs, st.SA.Conn, fl.IDs = ipsec.IDs{LocalID: s, RemoteID: s}, s, ipsec.IDs{LocalID: s, RemoteID: s}
		for want, out := range map[int]string{
			12: saText(st, Options{Verbose: 1}),
			1:  printed(func(w *strings.Builder) { Flow(w, &fl, Options{}) }),
			2: printed(func(w *strings.Builder) {
				Message(w, dataplane.Message{Action: dataplane.Action(s), Error: s})
				Message(w, dataplane.Message{Action: dataplane.ActionDeleteFlow, Flow: &ipsec.Flow{ID: ipsec.FlowID(s)}})
			}),
		} {
			if s == "" && want == 12 {
				want = 10 // neither identities nor a connection
			}
			if n := strings.Count(out, "\n"); n != want {
				t.Errorf("%d lines, want %d:\n%s", n, want, out)
			}
			for _, r := range out {
				if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
					t.Fatalf("%q in %q", r, out)
				}
			}
		}
		// What is quoted can be read back.
		if w := word(s); w != s {
			if back, err := strconv.Unquote(w); err != nil || back != s {
				t.Errorf("%q became %s, which is %q, %v", s, w, back, err)
			}
		}
	})
}
