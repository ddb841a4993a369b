package ipsecadm

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"oakley/internal/diag"
)

// Mistakes is what is wrong with a command line, all of it, and how the command
// is written.
type Mistakes struct {
	All   []error
	Usage string
}

func (m *Mistakes) Error() string { return errors.Join(m.All...).Error() }

// Unwrap lets errors.Is look at each.
func (m *Mistakes) Unwrap() []error { return m.All }

// maxWords bounds a command line, and with it how much is said about it.
const maxWords = 256

// Parse reads a command line without the program's name. Keys that are in files
// are read with readFile. Notices are about what is taken in another way than a
// person may think. The error is a *Mistakes.
func Parse(args []string, readFile func(path string) ([]byte, error)) (c Command, notices []string, err error) {
	if len(args) > maxWords {
		return nil, nil, &Mistakes{All: []error{fmt.Errorf("%d words: a command has less than %d", len(args), maxWords)}, Usage: Usage}
	}
	s, rest, err := command(args)
	if err != nil {
		return nil, nil, &Mistakes{All: []error{err}, Usage: Usage}
	}
	if s.refusal != "" {
		return nil, nil, &Mistakes{All: []error{fmt.Errorf("%s: %s", s.name, s.refusal)}}
	}
	f := &form{spec: s, readFile: readFile, given: map[string]bool{}, short: map[string]bool{}}
	f.read(rest)
	for _, m := range s.needs {
		if !slices.ContainsFunc(strings.Split(m, "|"), func(m string) bool { return f.given[m] }) {
			f.mistake("%s needs %s: %s", s.name, strings.ReplaceAll(m, "|", " or "), modifiers[strings.Split(m, "|")[0]].about)
		}
	}
	c = s.build(f)
	if len(f.mistakes) > 0 {
		return nil, f.notices, &Mistakes{All: f.mistakes, Usage: s.usage()}
	}
	return c, f.notices, nil
}

// command finds the command that a line begins with. A line that begins with a
// modifier is one of "new esp".
func command(args []string) (s *spec, rest []string, err error) {
	if len(args) == 0 {
		return nil, nil, errors.New("no command")
	}
	if strings.HasPrefix(args[0], "-") {
		return &specs[0], args, nil
	}
	two := args[0]
	if len(args) > 1 && !strings.HasPrefix(args[1], "-") {
		two += " " + args[1]
	}
	for i := range specs {
		switch specs[i].name {
		case two:
			return &specs[i], args[strings.Count(two, " ")+1:], nil
		case args[0]:
			return &specs[i], args[1:], nil
		}
	}
	hint := "the commands are " + either(commandNames())
	if args[0] == "new" || args[0] == "old" {
		hint = "write new esp or new ah"
	} else if near, ok := diag.Nearest(two, slices.Values(commandNames())); ok {
		hint = "is it " + near + "?"
	} else if near, ok := diag.Nearest(args[0], slices.Values(commandNames())); ok {
		hint = "is it " + near + "?"
	}
	return nil, nil, fmt.Errorf("%q is no command: %s", two, hint)
}

func commandNames() (all []string) {
	for i := range specs {
		if specs[i].refusal == "" {
			all = append(all, specs[i].name)
		}
	}
	return all
}

// form is a command line that is being read.
type form struct {
	spec     *spec
	readFile func(path string) ([]byte, error)
	given    map[string]bool
	short    map[string]bool // given without their values
	mistakes []error
	notices  []string
	values
}

func (f *form) mistake(format string, args ...any) {
	f.mistakes = append(f.mistakes, fmt.Errorf(format, args...))
}

func (f *form) notice(format string, args ...any) {
	f.notices = append(f.notices, fmt.Sprintf(format, args...))
}

// read takes the words behind the command.
func (f *form) read(words []string) {
	if f.spec.operand != nil && len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		f.spec.operand(f, words[0])
		words = words[1:]
	}
	for len(words) > 0 {
		name := words[0]
		words = words[1:]
		if !strings.HasPrefix(name, "-") {
			f.mistake("%s: a modifier, with its %q, is expected here", quote(name), "-")
			continue
		}
		m, known := modifiers[name]
		if !known {
			f.unknown(name)
			words = words[min(following(words), 1):]
			continue
		}
		n := m.count(words)
		have := min(n, following(words))
		mine := words[:have]
		words = words[have:]
		switch {
		case !slices.Contains(f.spec.mods, name):
			f.mistake("%s is not for %s, which takes %s", name, f.spec.name, f.spec.takes())
			continue
		case have < n:
			f.given[name], f.short[name] = true, true
			f.mistake("%s: %s", name, m.about)
			continue
		case f.given[name] && n > 0:
			f.mistake("%s is given twice", name)
			continue
		}
		f.given[name] = true
		if m.set != nil {
			m.set(f, name, mine)
		}
	}
}

// has tells whether a modifier and its value are there.
func (f *form) has(name string) bool { return f.given[name] && !f.short[name] }

// following is how many words are before the next modifier.
func following(words []string) int {
	if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") }); i >= 0 {
		return i
	}
	return len(words)
}

func (f *form) unknown(name string) {
	if near, ok := diag.Nearest(name, slices.Values(f.spec.mods)); ok {
		f.mistake("%s is no modifier: is it %s?", quote(name), near)
		return
	}
	if near, ok := diag.Nearest(name, maps.Keys(modifiers)); ok {
		f.mistake("%s is no modifier; %s is one, but %s takes %s", quote(name), near, f.spec.name, f.spec.takes())
		return
	}
	f.mistake("%s is no modifier: %s takes %s", quote(name), f.spec.name, f.spec.takes())
}

// quote shows a word that came from outside.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%.*q...", most, s)
	}
	return fmt.Sprintf("%q", s)
}

// Modifiers lists all modifiers, sorted.
func Modifiers() []string { return slices.Sorted(maps.Keys(modifiers)) }
