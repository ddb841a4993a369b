package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"oakley/internal/dataplane"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// compare asks the data plane for its tables, after events were lost or somebody
// else took something away: flows that are missing are put back, and SAs that are
// gone are told to the engine. Asked again before it has begun, it runs once.
func (p *plane) compare() {
	if p.seeks.Swap(true) {
		return
	}
	p.jobs.put(func(ctx context.Context) {
		p.seeks.Store(false)
		st, err := p.b.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerIKE})
		if err != nil {
			p.log.Error("what the data plane has cannot be compared with what it should have", fieldErr, err)
			return
		}
		p.putBack(ctx, st.Flows)
		p.mourn(st.SAs)
	})
}

// putBack makes those of our flows again that are not there.
func (p *plane) putBack(ctx context.Context, there []ipsec.Flow) {
	missing := maps.Clone(p.flows)
	for _, f := range there {
		delete(missing, f.ID)
	}
	if len(missing) == 0 {
		return
	}
	var changes []ipsec.FlowChange
	fixed := map[ipsec.FlowID]bool{}
	for _, id := range slices.Sorted(maps.Keys(missing)) {
		changes = append(changes, ipsec.FlowChange{Flow: missing[id]})
		fixed[id] = p.fixed[id]
		delete(p.flows, id) // should they stay away, a configuration that is read again makes them
		delete(p.fixed, id)
	}
	conns := connsOf(changes)
	if err := p.apply(ctx, changes); err != nil {
		p.log.Error(fmt.Sprintf("flows of %s were removed from the data plane and cannot be put back: their packets leave in clear; "+
			"mend what is said here and have the configuration read again (SIGHUP)", conns), fieldEvent, "flows", fieldErr, err)
		return
	}
	maps.Copy(p.fixed, fixed)
	p.log.Warn(fmt.Sprintf("flows of %s were not in the data plane any more (\"ipsecctl -F\" and \"ipsecadm flush\" remove them, for instance): they are put back", conns),
		fieldEvent, "flows")
}

// mostNamed is how many connections one line names.
const mostNamed = 5

// connsOf names the connections of flows.
func connsOf(changes []ipsec.FlowChange) string {
	var names []string
	for _, c := range changes {
		names = append(names, c.Flow.Conn)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if n := len(names) - mostNamed; n > 0 {
		return fmt.Sprintf("%s and %s more", strings.Join(names[:mostNamed], ", "), plural(n, "connection"))
	}
	return strings.Join(names, ", ")
}

// mourn tells the engine which of our SAs are not there.
func (p *plane) mourn(there []ipsec.SAState) {
	missing := maps.Clone(p.sas)
	for i := range there {
		delete(missing, there[i].SA.ID)
	}
	for id := range missing {
		delete(p.sas, id)
		p.result(ike.Expire{SA: id, Hard: true})
	}
}
