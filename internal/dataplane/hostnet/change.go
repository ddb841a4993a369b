package hostnet

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// Going from some flows to others. A flow has a level in each realm, and with
// it what it needs is known, whatever the others are: rules, routes and elements
// of the packet filter's sets, which several flows may share and which are
// counted. Flows come and go without a look at the others; see ladder.go for the
// exception.

// kept is a flow and, if it leads those with its selector, what was made for it.
type kept struct {
	flow  ipsec.Flow
	needs *needs
}

// likeness is what flows have in common of which packets meet only the first.
type likeness struct {
	dir   ipsec.Direction
	order uint32
	sel   ipsec.Selector
}

func likenessOf(f *ipsec.Flow) likeness {
	s := f.Selector
	s.Src, s.Dst = s.Src.Masked(), s.Dst.Masked()
	return likeness{f.Dir, f.Order, s}
}

// step is one that can be taken back.
type step struct {
	do, undo func() error
	what     string
}

// change is what Change is about to do.
type change struct {
	gone, come map[ipsec.FlowID]*kept
	alike      map[likeness][]*kept // of those that are touched, as they will be
	leave      []*kept              // lead no longer
	enter      []*kept              // will lead
	needs      map[*kept]*needs     // of those that enter, or of all
	ladders    [realms]ladder
	rules      map[ruleKey]int // numbers of what is touched, as they will be
	routes     map[routeKey]int
	elements   map[element]int
	tables     map[tableKey]bool // that are touched
	ipip       int
}

// Change takes flows away and adds others.
func (k *Kernel) Change(remove, add []ipsec.Flow) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, err := k.newChange(remove, add)
	if err != nil {
		return err
	}
	defer func() { k.release(c.tables) }() // also those that were taken for nothing
	h := home{k: k}
	fits, err := k.few(c, &h)
	if err == nil && !fits {
		err = k.all(c, &h)
	}
	if err != nil {
		return err
	}
	if err := run(k.steps(c)); err != nil {
		return err
	}
	k.record(c)
	k.warnForwarding(add)
	k.warnStrict(add)
	return nil
}

// newChange checks what is asked for and finds out whom it touches.
func (k *Kernel) newChange(remove, add []ipsec.Flow) (*change, error) {
	c := &change{
		gone: make(map[ipsec.FlowID]*kept, len(remove)), come: make(map[ipsec.FlowID]*kept, len(add)),
		alike: map[likeness][]*kept{}, tables: map[tableKey]bool{}, ipip: k.ipip,
	}
	touched := map[likeness][]*kept{} // those that come
	for i := range remove {
		f := k.flows[remove[i].ID]
		if f == nil || c.gone[f.flow.ID] != nil {
			return nil, fmt.Errorf("routes and filters know no flow %q", remove[i].ID)
		}
		c.gone[f.flow.ID] = f
		l := likenessOf(&f.flow)
		if _, ok := touched[l]; !ok {
			touched[l] = nil
		}
		c.ipip -= tunnels(&f.flow)
	}
	for i := range add {
		id := add[i].ID
		if k.flows[id] != nil && c.gone[id] == nil || c.come[id] != nil {
			return nil, fmt.Errorf("routes and filters have a flow %q already", id)
		}
		f := &kept{flow: add[i]}
		c.come[id] = f
		l := likenessOf(&f.flow)
		touched[l] = append(touched[l], f)
		c.ipip += tunnels(&f.flow)
	}
	for l, more := range touched {
		before := k.alike[l]
		after := make([]*kept, 0, len(before)+len(more))
		for _, f := range before {
			if c.gone[f.flow.ID] == nil {
				after = append(after, f)
			}
		}
		after = append(after, more...)
		slices.SortFunc(after, func(a, b *kept) int { return cmp.Compare(a.flow.ID, b.flow.ID) })
		c.alike[l] = after
		var was, is *kept
		if len(before) > 0 {
			was = before[0]
		}
		if len(after) > 0 {
			is = after[0]
		}
		if was == is {
			continue
		}
		if was != nil {
			c.leave = append(c.leave, was)
		}
		if is != nil {
			c.enter = append(c.enter, is)
		}
	}
	return c, nil
}

// tunnels counts a flow whose packets the filter lets in as IP in IP.
func tunnels(f *ipsec.Flow) int {
	if f.Proto == ipsec.ProtoIPIP && shields(f.Type) {
		return 1
	}
	return 0
}

// few finds levels for what comes, beside what is there. It is false when there
// are none.
func (k *Kernel) few(c *change, h *home) (bool, error) {
	for r := range realms {
		c.ladders[r] = slices.Clone(k.ladders[r])
	}
	for _, f := range c.leave {
		for _, e := range f.needs.entries {
			c.ladders[e.realm].leave(int(e.level))
		}
	}
	fits, err := c.place(c.enter)
	if err != nil || !fits {
		return false, err
	}
	return true, k.count(c, c.leave, c.enter, h)
}

// all finds new levels for all flows.
func (k *Kernel) all(c *change, h *home) error {
	c.ladders = [realms]ladder{}
	var before, after []*kept
	for l, list := range k.alike {
		before = append(before, list[0])
		if _, touched := c.alike[l]; !touched {
			after = append(after, list[0])
		}
	}
	for _, list := range c.alike {
		if len(list) > 0 {
			after = append(after, list[0])
		}
	}
	if fits, err := c.place(after); err != nil || !fits {
		return cmp.Or(err, errors.New("flows cannot be put in the order of the SPD"))
	}
	return k.count(c, before, after, h)
}

// place gives flows their levels, in the SPD's order, so that as few are taken as
// can be.
func (c *change) place(flows []*kept) (bool, error) {
	type placed struct {
		f *kept
		e *entry
	}
	var list []placed
	c.needs = make(map[*kept]*needs, len(flows))
	for _, f := range flows {
		n := &needs{entries: entriesOf(&f.flow)}
		c.needs[f] = n
		for i := range n.entries {
			list = append(list, placed{f, &n.entries[i]})
		}
	}
	slices.SortFunc(list, func(a, b placed) int { return cmp.Compare(a.e.at, b.e.at) })
	for _, p := range list {
		l := &c.ladders[p.e.realm]
		level, ok := l.find(p.e.exempt, p.e.at)
		if !ok {
			return false, nil
		}
		if level > maxLevel {
			return false, fmt.Errorf("flow %q: flows that exempt and flows that protect follow each other more than %d times in the order of the SPD; sort them into fewer groups",
				p.f.flow.ID, maxLevel)
		}
		p.e.level = int16(level)
		l.enter(level, p.e.at)
	}
	return true, nil
}

// count works out what these flows need, and what there will be of it when the
// others have left.
func (k *Kernel) count(c *change, leave, enter []*kept, h *home) error {
	c.rules, c.routes, c.elements = map[ruleKey]int{}, map[routeKey]int{}, map[element]int{}
	for _, f := range leave {
		k.touch(c, f.needs, -1)
	}
	at := map[slot]routeKey{} // hints that come
	for _, f := range enter {
		n := c.needs[f]
		err := k.fill(n, &f.flow, h)
		for _, t := range n.tables {
			c.tables[t] = true // before anything fails
		}
		if err != nil {
			return err
		}
		// Two hints may want one place, if seldom: the first has it.
		n.routes = slices.DeleteFunc(n.routes, func(r routeKey) bool {
			if !r.src.IsValid() {
				return false
			}
			s := r.slot()
			there, ok := k.hints[s]
			other, coming := at[s]
			if ok && there != r || coming && other != r {
				return true
			}
			at[s] = r
			return false
		})
		n.routes = slices.Clone(n.routes) // without room for more
		// Most flows have the rules and tables of the one before them.
		if slices.Equal(n.rules, k.rulesOfLast) {
			n.rules = k.rulesOfLast
		}
		if slices.Equal(n.tables, k.tablesOfLast) {
			n.tables = k.tablesOfLast
		}
		k.rulesOfLast, k.tablesOfLast = n.rules, n.tables
		k.touch(c, n, 1)
	}
	return nil
}

// touch counts what a flow needs.
func (k *Kernel) touch(c *change, n *needs, by int) {
	add(c.rules, k.rules, n.rules, by)
	add(c.routes, k.routes, n.routes, by)
	add(c.elements, k.elements, n.elements, by)
	for _, t := range n.tables {
		c.tables[t] = true
	}
}

func add[K comparable](to, from map[K]int, list []K, by int) {
	for _, x := range list {
		n, ok := to[x]
		if !ok {
			n = from[x]
		}
		to[x] = n + by
	}
}

// record makes what was done the present.
func (k *Kernel) record(c *change) {
	for id := range c.gone {
		delete(k.flows, id)
	}
	for id, f := range c.come {
		k.flows[id] = f
	}
	for l, list := range c.alike {
		k.alike[l] = list
		if len(list) == 0 {
			delete(k.alike, l)
		}
	}
	for _, f := range c.leave {
		f.needs = nil
	}
	for f, n := range c.needs {
		f.needs = n
	}
	for r, n := range c.routes {
		if !r.src.IsValid() {
			continue
		}
		if s := r.slot(); n > 0 {
			k.hints[s] = r
		} else if k.hints[s] == r {
			delete(k.hints, s)
		}
	}
	for r, n := range c.rules {
		if n > 0 {
			delete(k.oldRules, r)
		}
	}
	for r, n := range c.routes {
		if n > 0 {
			delete(k.oldRoutes, r)
		}
	}
	settle(k.rules, c.rules)
	settle(k.routes, c.routes)
	settle(k.elements, c.elements)
	k.ladders, k.ipip = c.ladders, c.ipip
}

func settle[K comparable](to, from map[K]int) {
	for x, n := range from {
		if to[x] = n; n == 0 {
			delete(to, x)
		}
	}
}

func run(steps []step) error {
	for i, s := range steps {
		err := s.do()
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s: %w", s.what, err)
		for _, s := range slices.Backward(steps[:i]) {
			if e := s.undo(); e != nil {
				err = errors.Join(err, fmt.Errorf("going back: %s: %w", s.what, e))
			}
		}
		return err
	}
	return nil
}

// steps make the change: the packet filter, routes, then the rules that lead to
// them, those that protect before those that exempt; then what goes, the other
// way round.
func (k *Kernel) steps(c *change) (steps []step) {
	if k.filter != nil {
		come, leave := moved(k.elements, c.elements)
		steps = append(steps, step{
			func() error { return k.refilter(come, leave, c.ipip > 0, c.elements) },
			func() error { return k.refilter(leave, come, k.ipip > 0, nil) },
			"packet-filter rules",
		})
	}
	newRoutes, oldRoutes := moved(k.routes, c.routes)
	for _, r := range newRoutes {
		steps = append(steps, step{
			func() error { return k.enterRoute(r) },
			func() error { return ignoreGone(k.nl.RouteDel(k.route(r))) },
			fmt.Sprintf("route to %s", r.dst),
		})
	}
	newRules, oldRules := moved(k.rules, c.rules)
	byPhase := func(a, b ruleKey) int { return cmp.Compare(k.phase(&a), k.phase(&b)) }
	slices.SortFunc(newRules, byPhase)
	slices.SortFunc(oldRules, func(a, b ruleKey) int { return byPhase(b, a) })
	enter := func(r ruleKey) func() error { return func() error { return k.nl.RuleAdd(k.rule(r)) } }
	leave := func(r ruleKey) func() error { return func() error { return ignoreGone(k.nl.RuleDel(k.rule(r))) } }
	for _, r := range newRules {
		if !k.oldRules[r] {
			steps = append(steps, step{enter(r), leave(r), fmt.Sprintf("routing rule %d from %s to %s", r.priority, r.src, r.dst)})
		}
	}
	for _, r := range oldRules {
		steps = append(steps, step{leave(r), enter(r), fmt.Sprintf("removing routing rule %d from %s to %s", r.priority, r.src, r.dst)})
	}
	for _, r := range oldRoutes {
		steps = append(steps, step{
			func() error { return ignoreGone(k.nl.RouteDel(k.route(r))) },
			func() error { return k.enterRoute(r) },
			fmt.Sprintf("removing the route to %s", r.dst),
		})
	}
	return steps
}

// enterRoute does without a hint whose address went away meanwhile.
func (k *Kernel) enterRoute(r routeKey) error {
	err := k.nl.RouteReplace(k.route(r))
	if r.src.IsValid() && errors.Is(err, unix.EINVAL) {
		k.log.Warn("no source address is suggested to this host's own packets", "address", r.src, "to", r.dst, "err", err)
		return nil
	}
	return err
}

// moved are those that came and those that went.
func moved[K comparable](before, after map[K]int) (come, leave []K) {
	for x, n := range after {
		if was := before[x]; was == 0 && n > 0 {
			come = append(come, x)
		} else if was > 0 && n == 0 {
			leave = append(leave, x)
		}
	}
	return come, leave
}
