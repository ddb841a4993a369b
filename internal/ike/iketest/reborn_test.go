package iketest

import (
	"testing"
	"time"

	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// TestReborn: a daemon that is killed and started again over a data plane that
// kept its SAs goes on with them: no packet is lost, the peer deletes nothing,
// and they are rekeyed before they end.
func TestReborn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		active bool
		who    func(g *Gateways) *Node
	}{
		{"the one that keeps it up", true, func(g *Gateways) *Node { return g.West }},
		{"the one that is called", true, func(g *Gateways) *Node { return g.East }},
		{"on demand", false, func(g *Gateways) *Node { return g.West }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewGateways(t, Setup{Active: c.active, Suites: []ike.Suite{PFSESP}})
			g.Connect()
			before := *g.West.OutSA()
			b := g.bothWays(20 * time.Millisecond)
			n := c.who(g)
			g.Run(time.Second)
			n.Reborn()
			if got := Events[ike.Phase2Found](n); len(got) != 1 || got[0].Conn != "vpn" || len(got[0].In) != 1 || len(got[0].Out) != 1 || got[0].Left <= 0 {
				t.Fatalf("found %+v", got)
			}
			n.Start()
			g.Run(time.Minute)
			if g.West.OutSA().ID != before.ID {
				t.Errorf("the SA was replaced at once: %s, before %s\n%s", g.West.OutSA().ID, before.ID, n.Said())
			}
			g.Run(2 * time.Hour)
			if g.West.OutSA().ID == before.ID {
				t.Errorf("the SA was never replaced\n%s", n.Said())
			}
			b.finish()
			if err := Agreement(g.West, g.East, 1); err != nil {
				t.Errorf("%v\n%s%s", err, g.West.Said(), g.East.Said())
			}
			g.MustSettle()
		})
	}
}

// TestRebornDuringARekey: of two pairs the newer one is used.
func TestRebornDuringARekey(t *testing.T) {
	g := NewGateways(t, Setup{Active: true})
	g.Connect()
	old := g.West.OutSA().ID
	expireSoft(g.West)
	if !g.RunUntil(5*time.Second, func() bool { return len(g.West.Plane.Live(ipsec.Out)) == 2 }) {
		t.Fatal("no second pair")
	}
	g.West.Reborn()
	g.West.Start()
	g.Run(2 * time.Minute)
	if got := g.West.OutSA().ID; got == old {
		t.Errorf("the old SA %s is used", got)
	}
	if err := Agreement(g.West, g.East, 1); err != nil {
		t.Errorf("%v\n%s%s", err, g.West.Said(), g.East.Said())
	}
	g.MustSettle()
}

// TestRebornHearsItsPeer: once the peer has authenticated itself anew, its
// DELETE counts for adopted SAs; before, nobody's does.
func TestRebornHearsItsPeer(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Connect()
	g.East.Reborn()
	g.East.Start()
	g.Run(time.Second)
	expireSoft(g.East) // a new main mode, and quick mode under it
	g.Run(2 * time.Minute)
	if err := Agreement(g.West, g.East, 1); err != nil {
		t.Fatalf("%v\n%s%s", err, g.West.Said(), g.East.Said())
	}
	g.West.Handle(ike.Teardown{Name: "vpn"})
	g.Run(time.Minute)
	if err := Agreement(g.West, g.East, 0); err != nil {
		t.Errorf("%v\n%s%s", err, g.West.Said(), g.East.Said())
	}
	g.MustSettle()
}

// TestRebornWithStrangersSAs: SAs of nobody are removed, with a word.
func TestRebornWithStrangersSAs(t *testing.T) {
	g := NewGateways(t, Setup{Active: true})
	g.Connect()
	conn := *g.West.Config.Connections[0]
	conn.Name = "another"
	g.West.Config.Connections = []*ike.Connection{&conn}
	g.West.Reborn()
	if n := len(Events[ike.Phase2Found](g.West)); n != 0 {
		t.Errorf("%d pairs found", n)
	}
	g.Run(time.Second)
	if l := g.West.Plane.Live(ipsec.In); len(l) != 0 {
		t.Errorf("still there: %v", l[0].ID)
	}
	if Count[ike.Notice](g.West) == 0 {
		t.Error("nothing was said")
	}
}
