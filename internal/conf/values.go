package conf

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"oakley/internal/diag"
)

// choice is one of the words that a tag takes.
type choice[T any] struct {
	word  string
	means T
}

// oneOf reads a word; letter case does not matter, nor does "-" for "_".
func oneOf[T any](l *loader, v value, what string, choices []choice[T]) (means T, ok bool) {
	plain := func(s string) string { return strings.ReplaceAll(fold(s), "-", "_") }
	for _, c := range choices {
		if plain(c.word) == plain(v.text) {
			return c.means, true
		}
	}
	words := make([]string, len(choices))
	for i, c := range choices {
		words[i] = c.word
	}
	hint := "it can be " + orList(words)
	if l.searches++; l.searches <= maxSearches {
		if near, found := diag.Nearest(v.text, slices.Values(words)); found {
			hint = "did you mean " + near + "? " + hint
		}
	}
	l.fail(v, hint, "%s is no %s", quote(v.text), what)
	return means, false
}

func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func isAny(v value) bool { return strings.EqualFold(v.text, "ANY") }

// number reads a whole number.
func (l *loader) number(v value, what string, low, high int) (int, bool) {
	n, err := strconv.ParseUint(v.text, 10, 63)
	if err == nil && int(n) >= low && int(n) <= high {
		return int(n), true
	}
	hint := "it is a number from " + strconv.Itoa(low) + " to " + strconv.Itoa(high)
	l.fail(v, hint, "%s is no %s", quote(v.text), what)
	return 0, false
}

// seconds reads a tag with a number of seconds.
func (l *loader) seconds(v view, tag string, low int) time.Duration {
	const most = 366 * 24 * 3600
	n, _ := l.number(v.get(tag), tag+" in seconds", low, most)
	return time.Duration(n) * time.Second
}

// rangeOf reads X or X,Y:Z, each from low to high.
func (l *loader) rangeOf(v value, what string, low, high int) (Range, bool) {
	if isAny(v) {
		return Range{Any: true}, true
	}
	offer, accept, ranged := strings.Cut(v.text, ",")
	least, most, colon := strings.Cut(accept, ":")
	if !ranged {
		least, most, colon = offer, offer, true
	}
	var n [3]int
	for i, s := range []string{offer, least, most} {
		u, err := strconv.ParseUint(strings.Trim(s, " \t"), 10, 63)
		if err != nil || !colon {
			l.fail(v, "write what to offer, or what to offer and what to accept: 3600,60:86400", "%s is no %s", quote(v.text), what)
			return Range{}, false
		}
		n[i] = int(u)
	}
	for _, x := range n {
		if x < low || x > high {
			l.fail(v, "each number is from "+strconv.Itoa(low)+" to "+strconv.Itoa(high), "%s is no %s: %d is out of bounds", quote(v.text), what, x)
			return Range{}, false
		}
	}
	if n[1] > n[2] {
		l.fail(v, "write the smaller number first", "%s accepts nothing: %d to %d", what, n[1], n[2])
		return Range{}, false
	}
	if n[0] < n[1] || n[0] > n[2] {
		l.warn(v, "let the range hold the offer, or a peer like this host is refused", "%s offers %d and accepts %d to %d: not what it offers", what, n[0], n[1], n[2])
	}
	return Range{Offer: n[0], Min: n[1], Max: n[2]}, true
}

// defined reads one of the tags that are on whatever their value is.
func (l *loader) defined(v view, tag string) bool {
	x := v.get(tag)
	if x.text == "" {
		return false
	}
	if slices.Contains([]string{"no", "0", "off", "false"}, fold(x.text)) {
		l.warn(x, "remove the line to turn it off", "%s is on as soon as it is there, even with %q", tag, x.text)
	}
	return true
}

// yesNo reads one of the tags of which one value decides.
func (l *loader) yesNo(v view, tag string) string {
	x := v.get(tag)
	if w := fold(x.text); w == "yes" || w == "no" {
		return w
	}
	meaning := "as yes"
	if tag == "Use-Keynote" {
		meaning = "as no: there is no policy check"
	}
	l.warn(x, "write yes or no", "%s is neither yes nor no and is taken %s", tag, meaning)
	return x.text
}

// address reads an IP address; names are not looked up.
func (l *loader) address(v value, what string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(v.text)
	if err == nil && a.Zone() == "" {
		return a.Unmap(), true
	}
	hint := "write it as 192.0.2.1 or 2001:db8::1"
	switch {
	case err == nil:
		hint = "write it without the zone " + quote("%"+a.Zone())
	case strings.Contains(v.text, "/"):
		hint = "write the address alone, without a length"
	case looksLikeName(v.text):
		hint += "; names are not looked up, since whoever answers for the name would choose the peer"
	}
	l.fail(v, hint, "%s %s is no IP address", what, quote(v.text))
	return netip.Addr{}, false
}

func looksLikeName(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r >= 'g' && r <= 'z' || r >= 'G' && r <= 'Z' || r == '_' })
}
