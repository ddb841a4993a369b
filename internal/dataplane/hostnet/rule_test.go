package hostnet

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel cannot tell rules apart that have one priority and of which one has
// fields that the other has not.
func TestRulesOfOneNumberHaveTheSameFields(t *testing.T) {
	some := netip.MustParsePrefix("10.1.0.0/16")
	type fields struct{ src, dst, proto, sport, dport, own, to bool }
	seen := map[int]fields{}
	for i := range 1 << 7 {
		has := func(bit int) bool { return i>>bit&1 == 1 }
		f := fields{has(0), has(1), has(2), has(3), has(4), has(5), has(6)}
		if f.own && (f.src || f.to) {
			continue // there are none, but for the one that all of a family share
		}
		r := ruleKey{own: f.own}
		if f.src {
			r.src = some
		}
		if f.dst {
			r.dst = some
		}
		if f.proto {
			r.proto = 6
		}
		if f.sport {
			r.sport = 1
		}
		if f.dport {
			r.dport = 1
		}
		if f.to {
			r.to = 9
		}
		f.to = false // levels are of one kind
		n := r.number()
		if other, ok := seen[n]; ok && other != f {
			t.Errorf("%+v and %+v have the number %d", f, other, n)
		}
		if seen[n] = f; n < 0 || n >= shapes || n == numberSkip || n == numberNop {
			t.Errorf("%+v has the number %d", f, n)
		}
	}
	skip := ruleKey{v6: true, own: true, src: halves[0], to: 9}
	if n := skip.number(); n != numberSkip || numberSkip >= numberOwn || numberOwn+1<<4 > numberNop || numberNop >= shapes {
		t.Errorf("numbers %d to %d are not in order", n, numberNop)
	}
}

// The routes of one destination in one table have places of their own, and the
// better ones the smaller metric.
func TestRoutesHaveTheirOrder(t *testing.T) {
	dst := netip.MustParsePrefix("10.2.0.0/16")
	list := []routeKey{
		{dst: dst, src: netip.MustParseAddr("10.1.0.1")},
		{dst: dst},
		{dst: dst, kind: unreachable},
		{dst: dst, kind: throw},
	}
	for i := range list[1:] {
		if a, b := list[i].metric(), list[i+1].metric(); a >= b || a <= 0 || b > 1<<31-1 {
			t.Errorf("metric %d of %+v, %d of %+v", a, list[i], b, list[i+1])
		}
	}
	for a := netip.MustParseAddr("10.0.0.0"); a != netip.MustParseAddr("10.1.0.0"); a = a.Next() {
		r := routeKey{dst: dst, src: a}
		if m := r.metric(); m < 1 || m >= metricTUN {
			t.Fatalf("metric %d of a route from %s", m, a)
		}
	}
}

// The tables that the kernel has names for are nobody's.
func TestMainIsNotOurTable(t *testing.T) {
	k := &Kernel{table: 100, tables: map[tableKey]int{}, rules: map[ruleKey]int{}}
	seen := map[int]bool{}
	keys := map[tableKey]bool{}
	a := netip.MustParseAddr("10.0.0.0")
	for {
		key := tableKey{level: 2, near: netip.PrefixFrom(a, 32)}
		table, ok := k.tableOf(key)
		if !ok {
			break
		}
		if seen[table] || table <= 100 || table >= 100+Tables || table >= unix.RT_TABLE_DEFAULT && table <= unix.RT_TABLE_LOCAL {
			t.Fatalf("table %d", table)
		}
		if again, _ := k.tableOf(key); again != table {
			t.Fatalf("%d, and then %d", table, again)
		}
		seen[table], keys[key] = true, true
		a = a.Next()
	}
	if len(seen) != Tables-4 {
		t.Errorf("%d tables of %d are used", len(seen), Tables)
	}
	if _, ok := k.tableOf(tableKey{level: 2, v6: true, near: netip.MustParsePrefix("::/0")}); !ok {
		t.Error("IPv6 has no tables of its own")
	}
	k.release(keys)
	if _, ok := k.tableOf(tableKey{level: 4}); !ok || len(k.tables) != 2 {
		t.Errorf("%d tables are in use after they were given back", len(k.tables))
	}
}
