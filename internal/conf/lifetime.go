package conf

import "oakley/internal/doi"

// maxLife is the longest lifetime in seconds or kilobytes: four bytes.
const maxLife = 1<<32 - 1

// life is one Lifetime section.
type life struct {
	kind     doi.LifeType
	duration Range
}

var lifeChoices = []choice[doi.LifeType]{
	{"SECONDS", doi.LifeSeconds}, {"KILOBYTES", doi.LifeKilobytes},
}

// lifetimes reads the tag Life of a transform: ANY, or names of Lifetime
// sections.
func (l *loader) lifetimes(v view) (seconds, kilobytes Range) {
	list := v.get("Life")
	if isAny(list) {
		return Range{Any: true}, Range{Any: true}
	}
	for _, x := range list.items() {
		one := l.lifetime(x)
		if one == nil {
			continue
		}
		into := &seconds
		if one.kind == doi.LifeKilobytes {
			into = &kilobytes
		}
		if !into.IsZero() {
			l.warn(x, "name one lifetime of each type", "a second lifetime in %s is ignored", one.kind)
			continue
		}
		*into = one.duration
	}
	return seconds, kilobytes
}

func (l *loader) lifetime(ref value) *life {
	v, ok := l.open(roleLifetime, ref)
	if !ok {
		return nil
	}
	if one, ok := l.lives[fold(v.name)]; ok {
		return one
	}
	one := &life{kind: doi.LifeSeconds}
	l.lives[fold(v.name)] = one
	if x, ok := l.need(v, "LIFE_TYPE", "write LIFE_TYPE=SECONDS"); ok {
		one.kind, _ = oneOf(l, x, "LIFE_TYPE", lifeChoices)
	}
	if x, ok := l.need(v, "LIFE_DURATION", "write LIFE_DURATION=3600,60:86400"); ok {
		one.duration, _ = l.rangeOf(x, "LIFE_DURATION", 1, maxLife)
	}
	return one
}
