package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"oakley/internal/diag"
)

// Load reads the text and understands it. The Config is nil when the list has
// errors. r looks up interface names; without it they stay names.
func Load(name string, src []byte, r Resolver) (*Config, diag.List) {
	f, l := Parse(name, src)
	ld := &loader{
		f: f, l: l, r: r, cfg: &Config{}, kinds: map[*Section]kind{}, peers: map[string]*Peer{}, ids: map[string]*ID{}, nets: map[string]*Net{},
		phase1: map[string][]Phase1Transform{}, suites: map[string]*Suite{}, suggested: map[*Section]bool{},
	}
	ld.general()
	ld.phase1Peers()
	ld.phase2()
	ld.named()
	ld.unused()
	ld.l.Sort()
	if ld.l.HasErrors() {
		return nil, ld.l
	}
	return ld.cfg, ld.l
}

// loader walks the tree from its two roots, [Phase 1] and [Phase 2].
type loader struct {
	f         *File
	l         diag.List
	r         Resolver
	cfg       *Config
	kinds     map[*Section]kind
	peers     map[string]*Peer
	ids       map[string]*ID
	nets      map[string]*Net
	phase1    map[string][]Phase1Transform
	suites    map[string]*Suite
	suggested map[*Section]bool
}

// view is a section as the file, the generated names and the defaults make it.
type view struct {
	name string
	kind kind
	sec  *Section // nil: wholly generated
	gen  map[string]string
	ref  value // who refers to it
}

// value is a text and where it stands.
type value struct {
	text  string
	pos   diag.Pos
	width int
	set   bool // written in the file
}

func (ld *loader) report(s diag.Severity, v value, hint, format string, args ...any) {
	ld.l = append(ld.l, &diag.Diagnostic{
		Severity: s, Range: diag.Range{Pos: v.pos, Len: v.width}, Summary: fmt.Sprintf(format, args...), Hint: hint, Snippet: ld.f.line(v.pos.Line),
	})
}

func (ld *loader) fail(v value, hint, format string, args ...any) {
	ld.report(diag.Error, v, hint, format, args...)
}

func (ld *loader) warn(v value, hint, format string, args ...any) {
	ld.report(diag.Warning, v, hint, format, args...)
}

// open finds a section by name for a purpose. A name that nobody wrote and that
// is not generated is a mistake; the section that was probably meant is gone
// through all the same, so that its own mistakes are told too.
func (ld *loader) open(k kind, ref value) (view, bool) {
	v := view{name: ref.text, kind: k, ref: ref}
	v.gen = generated(ref.text, func(tag string) string { return ld.generalView().get(tag).text })
	v.sec = ld.f.byName[key(ref.text)]
	if v.sec == nil && v.gen == nil {
		hint := ld.missingHint(k, ref.text)
		if near, ok := diag.Nearest(ref.text, slices.Values(ld.sectionNames())); ok {
			v.sec = ld.f.byName[key(near)]
			ld.suggested[v.sec] = true
			hint = fmt.Sprintf("did you mean [%s], line %d?", near, v.sec.Pos.Line)
		}
		ld.fail(ref, hint, "there is no section [%s] for %s", ref.text, kinds[k].name)
		if v.sec == nil {
			return v, false
		}
	}
	ld.visit(v)
	return v, true
}

// root opens one of the sections with a fixed name.
func (ld *loader) root(name string, k kind) view {
	v := view{name: name, kind: k, sec: ld.f.byName[key(name)]}
	ld.visit(v)
	return v
}

func (ld *loader) generalView() view {
	return view{name: "General", kind: kindGeneral, sec: ld.f.byName["general"]}
}

func (ld *loader) sectionNames() []string {
	var l []string
	for _, s := range ld.f.Sections {
		l = append(l, s.Name)
	}
	return l
}

// missingHint offers a generated name when none of the file's is near.
func (ld *loader) missingHint(k kind, name string) string {
	transforms, suites := allGenerated()
	switch k {
	case kindPhase1Transform:
		if near, ok := diag.Nearest(name, slices.Values(transforms)); ok {
			return "did you mean " + near + "?"
		}
		return "generated names are CIPHER-HASH[-GRPn], as 3DES-SHA or AES-128-SHA2-256-GRP14"
	case kindSuite:
		if near, ok := diag.Nearest(name, slices.Values(suites)); ok {
			return "did you mean " + near + "?"
		}
		return "generated names are QM-ESP-CIPHER-HASH[-PFS[-GRPn]]-SUITE, as QM-ESP-AES-128-SHA-PFS-SUITE"
	}
	return fmt.Sprintf("write a section [%s]", name)
}

// visit notes what a section is for, and checks its tags once.
func (ld *loader) visit(v view) {
	s := v.sec
	if s == nil {
		return
	}
	s.used = true
	if old, ok := ld.kinds[s]; ok {
		if old != v.kind {
			ld.fail(v.ref, "two purposes want two sections", "section [%s] is used as %s and as %s", s.Name, kinds[old].name, kinds[v.kind].name)
		}
		return
	}
	ld.kinds[s] = v.kind
	known := kinds[v.kind].tags
	for _, t := range s.Tags {
		if known == nil || slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, t.Name) }) {
			continue
		}
		hint := "its tags are " + strings.Join(known, ", ")
		if near, ok := diag.Nearest(t.Name, slices.Values(known)); ok {
			hint = "did you mean " + near + "?"
		}
		ld.warn(value{pos: t.Pos, width: len(t.Name)}, hint, "%s has no tag %s", kinds[v.kind].name, t.Name)
	}
}

// get gives a tag's value: from the file, the generated ones, the defaults, or
// an empty one at the section's head.
func (v view) get(tag string) value {
	if v.sec != nil {
		if t := v.sec.byName[key(tag)]; t != nil {
			return value{text: t.Value, pos: t.ValuePos, width: len(t.Value), set: true}
		}
	}
	at := v.head()
	for k, x := range v.gen {
		if strings.EqualFold(k, tag) {
			at.text = x
			return at
		}
	}
	at.text = defaults[v.kind][tag]
	return at
}

// head is where a mistake about a whole section is shown.
func (v view) head() value {
	if v.sec != nil {
		return value{pos: v.sec.Pos, width: len(v.sec.Name)}
	}
	return value{pos: v.ref.pos, width: v.ref.width}
}

// items takes a list apart; each item knows where it stands.
func (v value) items() []value {
	var l []value
	col := 0
	for part := range strings.SplitSeq(v.text, ",") {
		text := strings.TrimSpace(part)
		lead := len(part) - len(strings.TrimLeft(part, " \t"))
		item := v
		item.text, item.width = text, len(text)
		if v.set {
			item.pos.Col += col + lead
		} else {
			item.width = v.width
		}
		if text != "" {
			l = append(l, item)
		}
		col += len(part) + 1
	}
	return l
}

// need gives a tag that has to be there.
func (ld *loader) need(v view, tag, hint string) (value, bool) {
	x := v.get(tag)
	if x.text == "" {
		ld.fail(x, hint, "%s [%s] needs %s", kinds[v.kind].name, v.name, tag)
		return x, false
	}
	return x, true
}

// word reads a value by a table of names.
func word[T any](ld *loader, x value, what string, parse func(string) (T, bool), names []string) (t T) {
	t, ok := parse(x.text)
	if !ok {
		hint := "known: " + strings.Join(names, ", ")
		if near, is := diag.Nearest(x.text, slices.Values(names)); is {
			hint = "did you mean " + near + "?"
		}
		ld.fail(x, hint, "%q is no %s", x.text, what)
	}
	return t
}

func (ld *loader) number(x value, what string, low, high uint64) uint64 {
	n, err := strconv.ParseUint(x.text, 10, 64)
	if err != nil || n < low || n > high {
		ld.fail(x, "", "%s is to be a number from %d to %d, not %q", what, low, high, x.text)
		return low
	}
	return n
}

func (ld *loader) seconds(v view, tag string, low, high uint64) time.Duration {
	return time.Duration(ld.number(v.get(tag), tag, low, high)) * time.Second
}

// yes reads a switch as the original does: yes, true, on and 1 are yes.
func (ld *loader) yes(v view, tag string, unset bool) bool {
	x := v.get(tag)
	switch strings.ToLower(x.text) {
	case "":
		return unset
	case "yes", "true", "on", "1":
		return true
	case "no", "false", "off", "0":
		return false
	}
	ld.warn(x, "write yes or no", "%s=%s is neither yes nor no; taken as no", tag, x.text)
	return false
}

// rangeOf reads offer[,min:max].
func (ld *loader) rangeOf(x value, what string, high uint64) (r Range) {
	offer, accept, ranged := strings.Cut(x.text, ",")
	bad := func() Range {
		ld.fail(x, "write the offer, or offer,min:max as in 1200,60:86400", "%s %q is no range", what, x.text)
		return Range{}
	}
	n, err := strconv.ParseUint(strings.TrimSpace(offer), 10, 64)
	if err != nil || n == 0 || n > high {
		return bad()
	}
	if !ranged {
		return Range{n, n, n}
	}
	low, top, ok := strings.Cut(accept, ":")
	a, err1 := strconv.ParseUint(strings.TrimSpace(low), 10, 64)
	b, err2 := strconv.ParseUint(strings.TrimSpace(top), 10, 64)
	if !ok || err1 != nil || err2 != nil || a == 0 || b > high {
		return bad()
	}
	if n < a || n > b {
		ld.fail(x, "make the range hold the offer", "%s offers %d and accepts %d to %d: not what it offers", what, n, a, b)
	}
	return Range{n, a, b}
}

func (ld *loader) address(x value, what string) netip.Addr {
	a, err := netip.ParseAddr(x.text)
	if err != nil {
		ld.fail(x, "write it as 192.0.2.1 or 2001:db8::1; names are not looked up", "%s %q is no IP address", what, x.text)
	}
	return a.Unmap()
}

// unused warns of sections that nothing leads to.
func (ld *loader) unused() {
	for _, s := range ld.f.Sections {
		if !s.used && !ld.suggested[s] {
			ld.warn(value{pos: s.Pos, width: len(s.Name)}, "name it where it is wanted, or remove it", "nothing refers to section [%s]", s.Name)
		}
	}
}
