package conf

import (
	"fmt"
	"slices"
	"strings"

	"oakley/internal/diag"
)

// value is a text, or one item of a list, and where it stands. A generated one
// stands where the section is referred to.
type value struct {
	text string
	at   diag.Range
	tag  *Tag // nil: generated
}

// view is a section as the file, the generated tags and the defaults make it.
type view struct {
	name string
	role *role
	sec  *Section // nil: wholly generated
	gen  tags
	at   diag.Range // the section's name, or the reference to it
}

// open finds the section that ref names. One that nobody wrote and that is not
// generated is an error; the section that was probably meant is read all the
// same, so that its own mistakes show at once.
func (l *loader) open(r *role, ref value) (view, bool) {
	v := view{name: ref.text, role: r, gen: l.generated(r, ref.text), sec: l.file.Section(ref.text), at: ref.at}
	if v.sec == nil && v.gen == nil {
		hint, near := l.meant(r, ref.text)
		l.fail(ref, hint, "there is no section [%s] to be %s", clip(ref.text), r.what)
		if v.sec = near; near == nil {
			return v, false
		}
	}
	if v.sec == nil {
		return v, true
	}
	if fixed := fixedRoles[fold(v.sec.Name)]; fixed != nil {
		l.fail(ref, "give it a section of its own", "section [%s] cannot be %s", v.sec.Name, r.what)
		return v, false
	}
	v.name, v.at = v.sec.Name, v.sec.at
	for _, other := range v.sec.roles {
		if !together(other, r) {
			l.fail(ref, fmt.Sprintf("write two sections; [%s] is in line %d", clip(v.name), v.sec.at.Line), "section [%s] is %s already and cannot be %s too", clip(v.name), other.what, r.what)
			return v, false
		}
	}
	v.sec.use(r)
	return v, true
}

func (s *Section) use(r *role) {
	if !slices.Contains(s.roles, r) {
		s.roles = append(s.roles, r)
	}
}

// fixed opens one of the sections that are there without a reference.
func (l *loader) fixed(name string, r *role) view {
	v := view{name: name, role: r, gen: defaults[fold(name)], sec: l.file.Section(name)}
	if v.sec != nil {
		v.at = v.sec.at
		v.sec.use(r)
	}
	return v
}

// generated are the tags that a section has without being written.
func (l *loader) generated(r *role, name string) tags {
	key := fold(name)
	if r.names != nil {
		return r.names().section(key)
	}
	switch {
	case r == roleLifetime && key == fold(lifeMain):
		return secondsLife(l.cfg.General.DefaultPhase1Lifetime)
	case r == roleLifetime && key == fold(lifeQuick):
		return secondsLife(l.cfg.General.DefaultPhase2Lifetime)
	case r == rolePeer && key == fold(generatedPeer), r == roleConfig1 && key == fold(defaultPhase1):
		return defaults[key]
	}
	return nil
}

// secondsLife is a generated lifetime. A range that could not be read was told
// where it stands and is left out here.
func secondsLife(r Range) tags {
	t := tags{"life_type": "SECONDS", "life_duration": "ANY"}
	if !r.IsZero() && !r.Any {
		t["life_duration"] = fmt.Sprintf("%d,%d:%d", r.Offer, r.Min, r.Max)
	}
	return t
}

// meant looks for the section that a reference to nothing probably meant: one of
// the file, which is returned too, or a generated one.
func (l *loader) meant(r *role, name string) (hint string, near *Section) {
	if l.searches++; l.searches > maxSearches {
		return "", nil
	}
	if r.names != nil {
		if r.names().section(fold(name+"-SUITE")) != nil {
			return "did you mean " + name + "-SUITE?", nil
		}
	}
	candidates := func(yield func(string) bool) {
		for _, s := range l.file.Sections[:min(len(l.file.Sections), maxCandidates)] {
			if fixedRoles[fold(s.Name)] == nil && s.fits(r) && !yield(s.Name) {
				return
			}
		}
	}
	if n, ok := diag.Nearest(name, candidates); ok {
		near = l.file.Section(n)
		return fmt.Sprintf("there is a section [%s] in line %d: did you mean that?", n, near.at.Line), near
	}
	if r.names != nil {
		if n, ok := diag.Nearest(name, r.names().names); ok {
			return "did you mean " + n + "?", nil
		}
		if r.example != "" {
			return r.example, nil
		}
	}
	return fmt.Sprintf("write a section [%s], or correct the name", clip(name)), nil
}

// fits tells whether a section has a tag that this role has and that no other
// meaning explains better: a peer is not offered where a connection is wanted.
func (s *Section) fits(r *role) bool {
	if len(s.roles) > 0 {
		return together(s.roles[0], r)
	}
	guess := s.guess()
	return guess == nil || together(guess, r)
}

// guess is what a section that nobody refers to was probably written as; nil
// when its tags do not tell.
func (s *Section) guess() *role {
	if !s.guessed {
		s.likely, s.guessed = s.guessByTags(), true
	}
	return s.likely
}

func (s *Section) guessByTags() *role {
	phase := ""
	if t := s.Tag("Phase"); t != nil {
		phase = t.Value
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return s.Tag(n) != nil })
	}
	switch {
	case phase == "1", has("Transport", "Local-address"):
		return rolePeer
	case phase == "2", has("ISAKMP-peer", "Local-ID", "NAT-ID", "PF-Tag"):
		return roleConnection
	case has("ID-type"):
		return roleNet
	case has("Suites"):
		return roleConfig2
	case has("EXCHANGE_TYPE"):
		return roleConfig1
	case has("LIFE_TYPE", "LIFE_DURATION"):
		return roleLifetime
	case has("ENCRYPTION_ALGORITHM", "HASH_ALGORITHM", "AUTHENTICATION_METHOD"):
		return roleTransform1
	case has("Protocols"):
		return roleSuite
	case has("PROTOCOL_ID"):
		return roleProtocol
	case has("TRANSFORM_ID"):
		return roleTransform2
	}
	return nil
}

// get is a tag's value: the file's, else the generated one, else an empty one
// that stands at the section's name.
func (v view) get(tag string) value {
	if v.sec != nil {
		if t := v.sec.Tag(tag); t != nil && t.Value != "" {
			return value{text: t.Value, at: t.valueSpan(), tag: t}
		}
	}
	return value{text: v.gen[fold(tag)], at: v.at}
}

// has tells whether the file or the generated tags give a value.
func (v view) has(tag string) bool { return v.get(tag).text != "" }

// head is the section itself, for remarks about all of it.
func (v view) head() value { return value{text: v.name, at: v.at} }

// items are the parts of a list without the blanks around them. Empty parts are
// left out: a comma at the end does no harm.
func (v value) items() []value {
	var l []value
	from := 0
	for part := range strings.SplitSeq(v.text, ",") {
		text := strings.Trim(part, " \t")
		if text != "" {
			item := value{text: text, at: v.at, tag: v.tag}
			if v.tag != nil {
				start := from + strings.Index(part, text)
				item.at = v.tag.span(start, start+len(text))
			}
			l = append(l, item)
		}
		from += len(part) + 1
	}
	return l
}

// need is a tag's value, and an error when there is none.
func (l *loader) need(v view, tag, hint string) (value, bool) {
	x := v.get(tag)
	if x.text != "" {
		return x, true
	}
	l.fail(v.head(), l.orMisspelled(v, tag, hint), "[%s] is %s and has no %s", clip(v.name), v.role.what, tag)
	return x, false
}

// orMisspelled is the hint, or a better one when a tag looks like the missing
// one.
func (l *loader) orMisspelled(v view, tag, hint string) string {
	if v.sec == nil {
		return hint
	}
	if l.searches++; l.searches > maxSearches {
		return hint
	}
	if near := v.sec.misspelled(v.role, tag); near != nil {
		return fmt.Sprintf("line %d has %s: did you mean %s?", near.at.Line, tagName(near.Name), tag)
	}
	return hint
}

// misspelled finds a tag that is unknown to the role and near to the wanted one.
func (s *Section) misspelled(r *role, tag string) *Tag {
	for _, t := range s.Tags[:min(len(s.Tags), 50)] {
		if r.knows(t.Name) {
			continue
		}
		if _, ok := diag.Nearest(t.Name, slices.Values([]string{tag})); ok {
			return t
		}
	}
	return nil
}

func (r *role) knows(tag string) bool {
	return slices.ContainsFunc(r.tags, func(k string) bool { return fold(k) == fold(tag) })
}
