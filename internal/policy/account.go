package policy

import (
	"fmt"
	"slices"
	"strings"
)

// account is what is said about a decision.
type account struct {
	answer  string
	reasons []string
	advice  advices
}

func (a *account) lines() []string {
	return append(append([]string{a.answer}, a.reasons...), a.advice.lines()...)
}

func (a *account) hide(secrets *strings.Replacer) {
	a.answer = secrets.Replace(a.answer)
	for _, lines := range [][]string{a.reasons, a.advice} {
		for i := range lines {
			lines[i] = secrets.Replace(lines[i])
		}
	}
}

// Bounds of what Refusals says.
const (
	maxExplained = 16 // proposals
	maxDifferent = 3  // of them that were refused for different reasons
)

// Refusals is what Brief says of several proposals that one peer made, or that
// were to be made to it, and that were all refused: who asked and what can be done
// is said once, and before the reasons stands which proposal they are about, if
// the same ones do not hold for all.
func Refusals(refused []*Decision) []string {
	all := account{}
	var groups [][]string // of reasons
	var labels []string
	for i, d := range refused {
		if i == maxExplained {
			break
		}
		a := d.brief()
		if all.answer == "" {
			all.answer = a.answer
		}
		if slices.ContainsFunc(groups, func(g []string) bool { return slices.Equal(g, a.reasons) }) {
			continue
		}
		if groups = append(groups, a.reasons); len(groups) > maxDifferent {
			continue
		}
		labels = append(labels, d.proposal())
		for _, s := range a.advice {
			all.advice.add(s)
		}
	}
	for i, label := range labels {
		if len(groups) == 1 {
			all.reasons = groups[0]
			break
		}
		for _, line := range groups[i] {
			all.reasons = append(all.reasons, label+": "+line)
		}
	}
	if len(groups) > maxDifferent || len(refused) > maxExplained {
		all.reasons = append(all.reasons, fmt.Sprintf("%d proposals were refused; these were the first", len(refused)))
	}
	return all.lines()
}

// proposal says what was proposed in a few words, those of the attributes.
func (d *Decision) proposal() string {
	var parts []string
	for _, p := range protocols {
		get := func(suffix string) string { return d.query.Attributes[p.prefix+"_"+suffix] }
		if get("present") != "yes" {
			continue
		}
		words := []string{p.name}
		for _, suffix := range []string{"hash_alg", "alg", "enc_alg", "enc_mode", "key_length", "auth_alg"} {
			if v := get(suffix); v != "" && v != "0" {
				words = append(words, clean(v))
			}
		}
		parts = append(parts, strings.Join(words, " "))
	}
	if parts == nil {
		return "a proposal of nothing"
	}
	return strings.Join(parts, ", ")
}
