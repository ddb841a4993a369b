package userspace

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"oakley/internal/ipsec"
)

// Going from some flows to others. Most flows need rules and routes of their own,
// whatever the others are: such a flow comes and goes without a look at them.
// Only where the order matters, because one flow exempts what another protects,
// everything is worked out anew and the difference made.

// kept is a flow and what was made for it.
type kept struct {
	flow   ipsec.Flow
	rules  []ruleKey
	routes []routeKey
}

// step is one that can be taken back.
type step struct {
	do, undo func() error
	what     string
}

// isSpecial tells whether a flow needs all others looked at: it lets something
// pass in clear, or the packet filter lets its outer packets in.
func isSpecial(f *ipsec.Flow) bool {
	near, far := f.Selector.Src, f.Selector.Dst
	if f.Dir == ipsec.In {
		near, far = far, near
	}
	return mayClear(f.Type) || isLocal(near, far) || f.Proto == ipsec.ProtoIPIP
}

// inOrder are all flows in the SPD's order.
func (k *kernel) inOrder() []ipsec.Flow {
	all := make([]ipsec.Flow, 0, len(k.flows))
	for _, f := range k.flows {
		all = append(all, f.flow)
	}
	slices.SortFunc(all, func(a, b ipsec.Flow) int { return a.Compare(&b) })
	return all
}

// Change takes flows away and adds others.
func (k *kernel) Change(remove, add []ipsec.Flow) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.release() // tables too that were taken for nothing
	special := k.special
	gone := make(map[ipsec.FlowID]bool, len(remove))
	for i := range remove {
		f := k.flows[remove[i].ID]
		if f == nil || gone[f.flow.ID] {
			return fmt.Errorf("routes and filters know no flow %q", remove[i].ID)
		}
		gone[f.flow.ID] = true
		if isSpecial(&f.flow) {
			special--
		}
	}
	come := make(map[ipsec.FlowID]*kept, len(add))
	for i := range add {
		id := add[i].ID
		if k.flows[id] != nil && !gone[id] || come[id] != nil {
			return fmt.Errorf("routes and filters have a flow %q already", id)
		}
		come[id] = &kept{flow: add[i]}
		if isSpecial(&add[i]) {
			special++
		}
	}
	left := len(k.flows) - len(gone) + len(come)
	var err error
	if done := false; special == 0 && k.special == 0 && k.exact && left > 0 && len(k.flows) > 0 {
		if done, err = k.little(gone, come); !done && err == nil {
			err = k.whole(gone, come, special)
		}
	} else {
		err = k.whole(gone, come, special)
	}
	if err != nil {
		return err
	}
	for id := range gone {
		delete(k.flows, id)
	}
	for id, f := range come {
		k.flows[id] = f
	}
	k.special = special
	k.warnForwarding(add)
	return nil
}

// home are this host's addresses, read when first asked for.
type home struct {
	k    *kernel
	own  []netip.Addr
	read bool
}

func (h *home) addresses() ([]netip.Addr, error) {
	if h.read {
		return h.own, nil
	}
	own, err := h.k.addresses()
	h.own, h.read = own, err == nil
	return own, err
}

// needs fills in what a flow needs for itself.
func (k *kernel) needs(f *kept, h *home) error {
	f.rules, f.routes = nil, nil
	if f.flow.Dir != ipsec.Out {
		return nil
	}
	own, err := h.addresses()
	if err != nil {
		return err
	}
	rules, routes := map[ruleKey]bool{}, map[routeKey]bool{}
	if !shares(&f.flow.Selector) || !k.share(rules, routes, &f.flow.Selector, own) {
		k.wantRules(rules, &f.flow, firstLevel, own)
		k.wantRoutes(routes, &f.flow, own)
	}
	for r := range rules {
		f.rules = append(f.rules, r)
	}
	for r := range routes {
		f.routes = append(f.routes, r)
	}
	return nil
}

// little makes a change without a look at the other flows. It is false, and
// nothing is done, when that cannot be: two flows want different routes in the
// same place.
func (k *kernel) little(gone map[ipsec.FlowID]bool, come map[ipsec.FlowID]*kept) (bool, error) {
	rules, routes := map[ruleKey]int{}, map[routeKey]int{}
	touch := func(f *kept, by int) {
		for _, r := range f.rules {
			if _, ok := rules[r]; !ok {
				rules[r] = k.rules[r]
			}
			rules[r] += by
		}
		for _, r := range f.routes {
			if _, ok := routes[r]; !ok {
				routes[r] = k.routes[r]
			}
			routes[r] += by
		}
	}
	for id := range gone {
		touch(k.flows[id], -1)
	}
	h := home{k: k}
	removed := make([]ipsec.Flow, 0, len(gone))
	for id := range gone {
		removed = append(removed, k.flows[id].flow)
	}
	add := make([]ipsec.Flow, 0, len(come))
	for _, f := range come {
		if err := k.needs(f, &h); err != nil {
			return false, err
		}
		touch(f, 1)
		add = append(add, f.flow)
	}
	ways := map[slot]bool{}
	for r, n := range routes {
		if n == 0 || r.unreachable {
			continue
		}
		at := r.slot()
		if old, ok := k.ways[at]; ok && old != r || ways[at] {
			return false, nil
		}
		ways[at] = true
	}
	d := k.difference(rules, routes)
	if k.filter != nil {
		d = append([]step{{
			func() error { return k.filter.change(removed, add) },
			func() error { return k.filter.change(add, removed) }, "packet-filter rules",
		}}, d...)
	}
	if err := run(d); err != nil {
		return false, err
	}
	k.record(rules, routes)
	return true, nil
}

// whole works everything out anew.
func (k *kernel) whole(gone map[ipsec.FlowID]bool, come map[ipsec.FlowID]*kept, special int) error {
	before, flows := k.inOrder(), k.flows
	next := make(map[ipsec.FlowID]*kept, len(k.flows)+len(come))
	for id, f := range k.flows {
		if !gone[id] {
			next[id] = &kept{flow: f.flow} // what it needs may be another way now
		}
	}
	for id, f := range come {
		next[id] = f
	}
	k.flows = next
	all := k.inOrder()
	k.flows = flows
	rules, routes := map[ruleKey]int{}, map[routeKey]int{}
	exact := special == 0
	if exact {
		var err error
		if exact, err = k.eachForItself(next, rules, routes); err != nil {
			return err
		}
	}
	if !exact {
		wantRules, wantRoutes, err := k.want(all)
		if err != nil {
			return err
		}
		clear(rules)
		clear(routes)
		for r := range wantRules {
			rules[r] = 1
		}
		for r := range wantRoutes {
			routes[r] = 1
		}
	}
	for r := range k.rules {
		if _, ok := rules[r]; !ok {
			rules[r] = 0
		}
	}
	for r := range k.routes {
		if _, ok := routes[r]; !ok {
			routes[r] = 0
		}
	}
	d := k.difference(rules, routes)
	if k.filter != nil {
		ordered := k.special > 0
		d = append([]step{{
			func() error { return k.filter.set(all, special > 0) },
			func() error { return k.filter.set(before, ordered) }, "packet-filter rules",
		}}, d...)
	}
	if err := run(d); err != nil {
		return err
	}
	k.record(rules, routes)
	k.exact, k.flows = exact, next
	return nil
}

// eachForItself counts what flows need whose order does not matter. It is false
// when two need different routes in the same place.
func (k *kernel) eachForItself(flows map[ipsec.FlowID]*kept, rules map[ruleKey]int, routes map[routeKey]int) (bool, error) {
	h := home{k: k}
	at := map[slot]routeKey{}
	for _, f := range flows {
		if err := k.needs(f, &h); err != nil {
			return false, err
		}
		for _, r := range f.rules {
			rules[r]++
		}
		for _, r := range f.routes {
			routes[r]++
			if other, ok := at[r.slot()]; ok && other != r {
				return false, nil
			}
			at[r.slot()] = r
		}
	}
	return true, nil
}

// record notes the numbers of what a change touched.
func (k *kernel) record(rules map[ruleKey]int, routes map[routeKey]int) {
	for r, n := range rules {
		delete(k.oldRules, r)
		if k.rules[r] = n; n == 0 {
			delete(k.rules, r)
		}
	}
	for r, n := range routes {
		if n == 0 {
			delete(k.routes, r)
			if k.ways[r.slot()] == r {
				delete(k.ways, r.slot())
			}
		}
	}
	for r, n := range routes {
		if n == 0 {
			continue
		}
		delete(k.oldRoutes, r)
		k.routes[r] = n
		if !r.unreachable {
			k.ways[r.slot()] = r
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

// difference are the steps from the numbers there are to these: routes, then the
// rules that lead to them, those that protect before those that exempt; then
// what goes, the other way round.
func (k *kernel) difference(rules map[ruleKey]int, routes map[routeKey]int) (steps []step) {
	to := map[slot]bool{} // places of routes that another comes to
	for r, n := range routes {
		if n == 0 || k.routes[r] > 0 {
			continue
		}
		to[r.slot()] = true
		steps = append(steps, step{
			func() error { return k.nl.RouteReplace(k.route(r)) },
			func() error { return ignoreGone(k.nl.RouteDel(k.route(r))) },
			fmt.Sprintf("route to %s", r.dst),
		})
	}
	add := func(r ruleKey) func() error { return func() error { return k.nl.RuleAdd(k.rule(r, false)) } }
	del := func(r ruleKey) func() error { return func() error { return ignoreGone(k.nl.RuleDel(k.rule(r, true))) } }
	for _, which := range []func(r ruleKey) bool{
		func(r ruleKey) bool { return r.mark != 0 }, // or our own packets would go round
		func(r ruleKey) bool { return r.mark == 0 && k.ours(r.table) },
		func(r ruleKey) bool { return r.mark == 0 && !k.ours(r.table) },
	} {
		for r, n := range rules {
			if n > 0 && k.rules[r] == 0 && !k.oldRules[r] && which(r) {
				steps = append(steps, step{add(r), del(r), fmt.Sprintf("routing rule %d from %s to %s", r.priority, r.src, r.dst)})
			}
		}
	}
	for _, marked := range []bool{false, true} {
		for r, n := range rules {
			if n == 0 && k.rules[r] > 0 && (r.mark != 0) == marked {
				steps = append(steps, step{del(r), add(r), fmt.Sprintf("removing routing rule %d from %s to %s", r.priority, r.src, r.dst)})
			}
		}
	}
	for r, n := range routes {
		if n > 0 || k.routes[r] == 0 || to[r.slot()] {
			continue
		}
		steps = append(steps, step{
			func() error { return ignoreGone(k.nl.RouteDel(k.route(r))) },
			func() error { return k.nl.RouteReplace(k.route(r)) },
			fmt.Sprintf("removing the route to %s", r.dst),
		})
	}
	return steps
}
