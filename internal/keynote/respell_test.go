package keynote_test

import (
	"slices"
	"testing"

	"oakley/internal/keynote"
)

func TestRespell(t *testing.T) {
	as, l := keynote.Parse("policy", []byte(`Comment: "IPSec policy"
Local-Constants: D = "IPSec policy"
Authorizer: "POLICY"
Conditions: (app_domain == D || "IPSec policy" != other) && b == "x" -> { !(app_domain != "IPSec policy") -> "true"; };
`), keynote.Policy)
	if len(as) != 1 || l.HasErrors() {
		t.Fatal(l)
	}
	same, l := as[0].Respell("app_domain", "ipsec", "IPsec policy", "so", "do")
	if same != as[0] || len(l) != 0 {
		t.Errorf("there is nothing to respell, and yet %v", l)
	}
	other, l := as[0].Respell("app_domain", "IPSec policy", "IPsec policy", "so", "do")
	if len(l) != 2 || l.HasErrors() || l[0].Range.String() != "policy:4:28" || l[1].Range.String() != "policy:4:91" || l[0].Hint != "do" || l[0].Summary != "so" {
		t.Errorf("%v", l)
	}
	if got := other.Attributes(); !slices.Equal(got, []string{"app_domain", "other", "b"}) {
		t.Errorf("%v", got)
	}
	for name, want := range map[string]string{"IPsec policy": "true", "IPSec policy": "false"} {
		for a, want := range map[*keynote.Assertion]string{other: want, as[0]: map[string]string{"true": "false", "false": "true"}[want]} {
			s, l := keynote.NewSet(exampleKeys{}, []*keynote.Assertion{a})
			r, err := s.Query(&keynote.Query{Requesters: []string{"x"}, Attributes: map[string]string{"app_domain": name, "b": "x", "other": "IPSec policy"}})
			if err != nil || len(l) > 0 || r.Value != want {
				t.Errorf("%s: %v %v %v, wanted %s", name, r, err, l, want)
			}
		}
	}
}
