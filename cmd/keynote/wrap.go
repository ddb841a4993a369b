package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// layout is how keys and signatures are printed, so that they can be pasted into
// an assertion: the print-offset and print-length arguments.
type layout struct {
	offset int // blanks before every line
	length int // characters of a line after them, with quotes and backslash
}

// defaultLayout is that of OpenBSD's keynote(1).
var defaultLayout = layout{offset: 12, length: 50}

// parseLayout reads the last arguments of a command, of which there may be two.
func parseLayout(args []string) (layout, error) {
	l := defaultLayout
	if len(args) > 2 {
		return l, usagef("too many arguments: nothing is known to do with %q", args[2])
	}
	for i, a := range args {
		n, err := strconv.Atoi(a)
		most := 1 << 20 // lines are for people
		if err != nil || n < 0 || n > most || i == 1 && n == 0 {
			return l, usagef("%s: %q is no number of characters from %d to %d", [2]string{"print-offset", "print-length"}[i], a, i, most)
		}
		*[]*int{&l.offset, &l.length}[i] = n
	}
	return l, nil
}

// room refuses lines in which a name and the two characters around it have no
// place.
func (l layout) room(name string) error {
	if len(name)+2 > l.length {
		return usagef("print-length is %d, and lines have to be longer than the %d characters of %q and two more", l.length, len(name), name)
	}
	return nil
}

// print writes a text as a quoted string of KeyNote, continued on more lines by
// backslashes. The first line is never broken before the end of name, with which
// the text begins.
func (l layout) print(w io.Writer, name, text string) error {
	var b strings.Builder
	indent := strings.Repeat(" ", l.offset)
	first := max(l.length-2, len(name))
	fmt.Fprintf(&b, "%s\"%s", indent, text[:min(first, len(text))])
	rest := text[min(first, len(text)):]
	for len(rest) > 0 {
		n := min(max(l.length-1, 1), len(rest))
		fmt.Fprintf(&b, "\\\n%s%s", indent, rest[:n])
		rest = rest[n:]
	}
	b.WriteString("\"\n")
	_, err := io.WriteString(w, b.String())
	return err
}
