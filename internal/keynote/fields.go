package keynote

import (
	"strconv"
	"strings"
)

// build reads the contents of the fields. Constants come first, since every
// other field may use them; the places where fields stand do not matter.
func (b *builder) build() {
	a := b.a
	if len(a.fields) == 0 { // there are remarks about its lines
		b.bad = true
		return
	}
	b.p = &parser{b: b}
	b.version()
	b.constants()
	b.authorizer()
	b.licensees()
	b.conditions()
	b.signature()
	if f := a.field[fieldComment]; f.present {
		a.comment = strings.Join(strings.Fields(a.doc.src[f.content.from:f.content.end]), " ")
	}
}

func (b *builder) begin(f fieldName) (*parser, bool) {
	if !b.a.field[f].present {
		return nil, false
	}
	b.p.tok = token{at: b.a.field[f].label} // the place of a field that is empty
	b.p.begin(b.a.field[f].content)
	return b.p, true
}

// version is "2" or 2 (RFC 2704 section 4.6.1).
func (b *builder) version() {
	p, ok := b.begin(fieldVersion)
	if !ok {
		return
	}
	t := p.tok
	if t.kind != tString && t.kind != tInt {
		p.fail(p.here(), `write KeyNote-Version: 2`, "the version is a number, not %s", p.what())
	} else if t.text != "2" {
		p.fail(t.at, `write KeyNote-Version: 2`, "this is written for version %s of KeyNote; there is only version 2", clip(t.text))
	}
	p.advance()
	p.end("a line that continues no field belongs after a #")
}

// constants reads the assignments (RFC 2704 section 4.6.2).
func (b *builder) constants() {
	b.a.constants = map[string]string{}
	p, ok := b.begin(fieldConstants)
	for ok && p.tok.kind != tEnd {
		name := p.tok
		if name.kind != tName {
			p.fail(p.here(), `write NAME = "VALUE"`, "a constant begins with its name, not with %s", p.what())
			return
		}
		p.advance()
		p.expect("=", `write NAME = "VALUE"`)
		value := p.tok
		if value.kind != tString {
			p.fail(p.here(), `write NAME = "VALUE"`, "the value of a constant is a string in quotes, not %s", p.what())
			return
		}
		p.advance()
		if _, twice := b.a.constants[name.text]; twice {
			b.fail(name.at, "", "the constant %s is set twice (RFC 2704 section 4.6.2)", clip(name.text))
		}
		if strings.HasPrefix(name.text, "_") {
			b.fail(name.at, "take another name", "names that begin with _ belong to KeyNote itself")
		}
		b.a.constants[name.text] = value.text
	}
}

func (b *builder) authorizer() {
	p, ok := b.begin(fieldAuthorizer)
	if !ok {
		at := b.a.body.from
		b.fail(span{at, at + 1}, `write Authorizer: "POLICY", or who else says this; a blank line ends an assertion, so none stands between its fields`, "this assertion has no Authorizer field")
		return
	}
	e := p.principal()
	p.end("the field has one principal")
	if p.broken {
		return
	}
	b.a.authorizer = e
	name, fixed := e.constant()
	switch {
	case fixed && name == PolicyPrincipal && b.a.source != Policy:
		b.fail(e.at, "", "POLICY speaks in the policy file alone, not in credentials")
	case !fixed && b.a.source != Policy:
		b.fail(e.at, "write the principal itself", "the authorizer of a credential cannot depend on attributes")
	case !fixed && e.op == opAttribute:
		b.warn(e.at, `write it in quotes if it is a name, or set it in Local-Constants`, "the authorizer is the value of the attribute %s", clip(e.text))
	}
}

// principal reads one principal: any string expression.
func (p *parser) principal() *expr {
	e := p.sum()
	if !p.broken && e.kind != kindString {
		p.fail(e.at, "write it in quotes", "a principal is a string, this is %s", e.kind)
	}
	if e.op == opConcat && e.fixed() {
		v, ok := e.constant()
		if p.b.a.joined += len(v); !ok || p.b.a.joined > maxString {
			p.fail(e.at, "", "the principals that are put together with dots have more than %d bytes in this assertion", maxString)
		}
	}
	return e
}

// licensees reads the expression (RFC 2704 section 4.6.4).
func (b *builder) licensees() {
	p, ok := b.begin(fieldLicensees)
	if !ok {
		return
	}
	if p.tok.kind == tEnd && !p.broken {
		b.a.rootless = true
		b.warn(b.a.field[fieldLicensees].label, "name somebody, or remove the field to let everybody in", "there are no licensees, so this assertion authorizes nobody")
		return
	}
	tree := p.anyOf()
	p.end("combine principals with && and ||")
	if p.broken {
		return
	}
	if _, ok := tree.leaf.constant(); tree.leaf != nil && !ok && tree.leaf.op == opAttribute {
		b.warn(tree.leaf.at, "write it in quotes if it is a name, or set it in Local-Constants", "the licensee is the value of the attribute %s", clip(tree.leaf.text))
	}
	b.a.licensees = tree
	b.a.flatten(tree, root)
}

func (p *parser) anyOf() *princ {
	first := p.allOf()
	if p.tok.kind != "||" {
		return first
	}
	n := &princ{need: 1, kids: []*princ{first}}
	for p.accept("||") {
		n.kids = append(n.kids, p.allOf())
	}
	return n
}

func (p *parser) allOf() *princ {
	first := p.licensee()
	if p.tok.kind != "&&" {
		return first
	}
	n := &princ{kids: []*princ{first}}
	for p.accept("&&") {
		n.kids = append(n.kids, p.licensee())
	}
	n.need = len(n.kids)
	return n
}

// licensee reads a principal, a threshold or something in parentheses, which may
// turn out to be the beginning of a principal that goes on with a dot.
func (p *parser) licensee() *princ {
	switch p.tok.kind {
	case tInt:
		return p.threshold()
	case "(":
	default:
		return &princ{leaf: p.principal()}
	}
	open := p.tok.at
	p.advance()
	defer func() { p.depth-- }()
	if !p.deeper() {
		return &princ{leaf: p.node(expr{at: open})}
	}
	inner := p.anyOf()
	p.expect(")", "close what is opened in "+p.b.a.doc.pos(open.from).String())
	for p.tok.kind == "." && inner.leaf != nil {
		sign := p.tok
		p.advance()
		if right := p.product(); !p.broken {
			inner = &princ{leaf: p.operation(opConcat, sign, inner.leaf, right)}
		}
	}
	return inner
}

// threshold reads K-of(...).
func (p *parser) threshold() *princ {
	k := p.tok
	n, err := strconv.Atoi(k.text)
	const form = `write 2-of("a", "b", "c")`
	if err != nil || k.text[0] == '0' {
		p.fail(k.at, form, "%s is no number of licensees", clip(k.text))
	}
	p.advance()
	p.expect("-", form)
	if p.tok.kind != tName || !strings.EqualFold(p.tok.text, "of") {
		p.fail(p.here(), form, "`of` was expected here, not %s", p.what())
	}
	p.advance()
	p.expect("(", form)
	t := &princ{need: n}
	for !p.broken {
		t.kids = append(t.kids, &princ{leaf: p.principal()})
		if !p.accept(",") {
			break
		}
	}
	p.expect(")", "principals are separated by commas; && and || do not go into the list")
	if !p.broken && n > len(t.kids) {
		p.fail(k.at, "lower the number or name more", "%d of %d principals can never be had (RFC 2704 section 4.6.4)", n, len(t.kids))
	}
	return t
}

// flatten makes gates and leaves of a licensees expression. What need only hold
// once at the top needs no gate.
func (a *Assertion) flatten(n *princ, parent int32) {
	if n.leaf != nil {
		a.leaves = append(a.leaves, leaf{n.leaf, parent})
		return
	}
	if n.need > 1 || parent != root {
		a.gates = append(a.gates, gate{int32(n.need), parent})
		parent = int32(len(a.gates) - 1)
	}
	for _, k := range n.kids {
		a.flatten(k, parent)
	}
}

// conditions reads the program (RFC 2704 section 4.6.5).
func (b *builder) conditions() {
	p, ok := b.begin(fieldConditions)
	if !ok {
		return
	}
	if p.tok.kind == tEnd && !p.broken {
		b.warn(b.a.field[fieldConditions].label, "write a test, or remove the field to allow everything", "there are no conditions, so this assertion authorizes nothing")
	}
	b.a.conditions = p.program(tEnd)
}

func (p *parser) program(until tok) []*clause {
	var found []*clause
	for p.tok.kind != until && !p.broken {
		c := &clause{at: p.tok.at}
		c.test = p.test(p.or())
		if p.accept("->") {
			p.outcome(c)
		}
		if p.tok.kind != ";" {
			p.fail(p.here(), "end the clause with ; or join tests with && and ||", "`;` was expected behind this clause, not %s", p.what())
		}
		c.at.end = p.before.end
		p.accept(";")
		found = append(found, c)
	}
	return found
}

// outcome reads what follows the arrow of a clause.
func (p *parser) outcome(c *clause) {
	open := p.tok.at
	if p.accept("{") {
		c.block = true
		defer func() { p.depth-- }()
		if p.deeper() {
			c.nested = p.program("}")
		}
		p.expect("}", "close what is opened in "+p.b.a.doc.pos(open.from).String())
		return
	}
	c.value = p.sum()
	if !p.broken && c.value.kind != kindString {
		p.fail(c.value.at, `write "true", for example`, "the value of a clause is a string, this is %s", c.value.kind)
	}
}

// signature is a constant of the form algorithm:bits (RFC 2704 section 4.6.7).
func (b *builder) signature() {
	p, ok := b.begin(fieldSignature)
	if !ok {
		if b.a.source == Credential {
			at := b.a.body.from
			b.fail(span{at, at + 1}, "sign it, or put it into the policy file", "this assertion is not signed, and only the policy file is believed without a signature")
		}
		return
	}
	e := p.principal()
	p.end("the field has one string")
	if p.broken {
		return
	}
	v, fixed := e.constant()
	if kind, _, form := strings.Cut(v, ":"); !fixed || !form || kind == "" {
		p.fail(e.at, `it looks like "sig-rsa-sha1-base64:..."`, "the signature is no string of the form algorithm:bits")
	}
	b.a.signature = v
}
