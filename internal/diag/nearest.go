package diag

import (
	"iter"
	"strings"
)

// Bounds of a search for a similar name, so that a large file full of mistakes
// costs no more than reading it.
const (
	maxNearestName = 64
	maxCandidates  = 6000
	minBeginning   = 3 // of a candidate that is known by its beginning
)

// Nearest is the candidate that name was most likely meant to be. Letter case
// and the difference between "-", "_" and a blank do not count at all; beyond
// that a third of the letters may differ: left out, added, replaced, or two
// neighbours swapped. Where nothing is so near, the one candidate that begins with
// name will do. ok is false when nothing is that near, or name is too long
// to be compared.
func Nearest(name string, candidates iter.Seq[string]) (nearest string, ok bool) {
	want := plain(name)
	if want == "" || len(want) > maxNearestName {
		return "", false
	}
	best := max(len(want)/3, 1) + 1
	tried, longer, begins := 0, "", 0
	for c := range candidates {
		if tried++; tried > maxCandidates || best == 0 {
			break
		}
		if len(c) > maxNearestName {
			continue
		}
		p := plain(c)
		if len(want) >= minBeginning && strings.HasPrefix(p, want) {
			longer, begins = c, begins+1
		}
		if d := distance(want, p, best); d < best {
			best, nearest, ok = d, c, true
		}
	}
	if !ok && begins == 1 {
		return longer, true
	}
	return nearest, ok
}

// plain makes names equal that differ in letter case or in the kind of gap.
func plain(s string) string {
	b := []byte(s)
	for i, c := range b {
		switch {
		case c >= 'A' && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case c == '_' || c == ' ':
			b[i] = '-'
		}
	}
	return string(b)
}

// distance is the optimal string alignment distance of a and b in bytes, or
// limit when it is no less than that.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	var rows [3][maxNearestName + 1]int
	before, prev, cur := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			cur[j] = d
			least = min(least, d)
		}
		if least >= limit {
			return limit
		}
		before, prev, cur = prev, cur, before
	}
	return min(prev[len(b)], limit)
}
