package doi

import (
	"fmt"
	"strconv"
	"strings"
)

// number is what the named types of this package are made of.
type number interface{ ~uint8 | ~uint16 }

// nameOf is v's name in the table, else "what 99".
func nameOf[T number](names map[T]string, v T, what string) string {
	if n, ok := names[v]; ok {
		return n
	}
	return fmt.Sprintf("%s %d", what, uint16(v))
}

// valueOf finds a name in the table or among its other spellings. Letter case
// does not matter, and "-" is as good as "_".
func valueOf[T number](names map[T]string, others map[string]T, name string) (T, bool) {
	want := plain(name)
	for v, n := range names {
		if plain(n) == want {
			return v, true
		}
	}
	v, ok := others[want]
	return v, ok
}

func plain(name string) string {
	return strings.ReplaceAll(strings.ToUpper(name), "-", "_")
}

// prefixed finds a name whose prefix may be left out.
func prefixed[T number](names map[T]string, others map[string]T, prefix, name string) (T, bool) {
	if v, ok := valueOf(names, others, name); ok {
		return v, true
	}
	return valueOf(names, others, prefix+name)
}

func decimal[T number](v T) string { return strconv.Itoa(int(v)) }
