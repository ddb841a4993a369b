package policy

import (
	"strconv"
	"strings"
)

// leastHidden is the fewest bytes of a pre-shared key that is hidden in the values
// of attributes: a shorter one is part of every second word.
const leastHidden = 4

// hidden takes out of what is said the pre-shared key of a peer that calls itself
// by that very key; nil when no name in the query has the key in it. (In principals
// a key is never shown.)
func (d *Decision) hidden() *strings.Replacer {
	var pairs []string
	for _, r := range d.query.Requesters {
		k, ok := cutFold(r, passphrasePrefix)
		if !ok && !claimsKind(r) {
			k = r
		}
		if len(k) < leastHidden || !d.isNamed(k) {
			continue
		}
		for _, form := range []string{k, clean(k)} {
			quoted := strconv.Quote(form)
			pairs = append(pairs, form, veil, quoted[1:len(quoted)-1], veil)
		}
	}
	if pairs == nil {
		return nil
	}
	return strings.NewReplacer(pairs...)
}

// isNamed tells whether a name that the peer chose has s in it.
func (d *Decision) isNamed(s string) bool {
	for i := range attributes {
		if attributes[i].Form == FormRange && strings.Contains(d.query.Attributes[attributes[i].Name], s) {
			return true
		}
	}
	return false
}
