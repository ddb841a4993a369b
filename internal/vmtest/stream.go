package vmtest

import "strings"

// event is something that a test program says about its tests.
type event struct {
	kind eventKind
	test string // its full name; for output the test that wrote it, or ""
	text string // of output, with the end of the line
}

type eventKind int

const (
	wrote eventKind = iota
	started
	paused // it is parallel, and others go first
	passed
	failed
	skipped
	ended // only the reporter makes it: nothing more will come
)

// marker stands before what the testing package writes itself when it runs with
// -test.v=test2json, so that a test's own output cannot be taken for it.
const marker = "\x16"

// marks are the words after the marker.
var marks = []struct {
	word    string
	kind    eventKind
	current bool // what follows is output of that test
}{
	{"=== RUN ", started, true},
	{"=== PAUSE ", paused, false},
	{"=== CONT ", wrote, true},
	{"=== NAME ", wrote, true},
	{"--- PASS: ", passed, false},
	{"--- FAIL: ", failed, false},
	{"--- SKIP: ", skipped, false},
}

// stream makes events of a test program's output.
type stream struct {
	rest    string // of a line without its end
	current string // the test that is writing
}

// write takes output as it comes and calls f with every event in it.
func (s *stream) write(text string, f func(event)) {
	s.rest += text
	for {
		line, rest, whole := strings.Cut(s.rest, "\n")
		if !whole {
			return
		}
		s.rest = rest
		s.line(line+"\n", f)
	}
}

// end takes what is left of a line.
func (s *stream) end(f func(event)) {
	if s.rest != "" {
		s.line(s.rest+"\n", f)
	}
	s.rest = ""
}

func (s *stream) line(line string, f func(event)) {
	// What a test wrote without ending its line stands before a marker.
	before, mark, marked := strings.Cut(line, marker)
	if !marked {
		f(event{kind: wrote, test: s.current, text: line})
		return
	}
	if strings.TrimSpace(before) != "" {
		f(event{kind: wrote, test: s.current, text: before + "\n"})
	}
	for _, m := range marks {
		rest, ok := strings.CutPrefix(mark, m.word)
		if !ok {
			continue
		}
		name := strings.TrimSpace(rest)
		if !m.current && m.kind != paused {
			name, _, _ = strings.Cut(name, " (") // (0.00s)
		}
		switch {
		case m.current:
			s.current = name
		case m.kind != paused && s.current == name:
			s.current = parentOf(name)
		}
		if m.kind != wrote {
			f(event{kind: m.kind, test: name})
		}
		return
	}
	if word := strings.TrimSpace(mark); word != "PASS" && word != "FAIL" { // of the whole program; its exit status says it too
		f(event{kind: wrote, test: s.current, text: mark})
	}
}

// parentOf is the name of the test around one, or "".
func parentOf(name string) string {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return ""
	}
	return name[:i]
}
