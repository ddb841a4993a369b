package keynote

// Attributes are the names of attributes in the conditions of a, each once and in
// the order of the text; those that are calculated ($) are not among them.
func (a *Assertion) Attributes() []string {
	var names []string
	seen := map[string]bool{}
	var seek func(e *expr)
	seek = func(e *expr) {
		if e == nil {
			return
		}
		if e.op == opAttribute && !seen[e.text] {
			seen[e.text] = true
			names = append(names, e.text)
		}
		for _, k := range e.kids {
			seek(k)
		}
	}
	var program func(cs []*clause)
	program = func(cs []*clause) {
		for _, c := range cs {
			seek(c.test)
			seek(c.value)
			program(c.nested)
		}
	}
	program(a.conditions)
	return names
}
