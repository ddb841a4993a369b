package conf_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"oakley/internal/conf"
)

func TestDiff(t *testing.T) {
	same := conf.Changes{Peers: conf.NameChanges{Same: []string{"west"}}, Connections: conf.NameChanges{Same: []string{"east-west"}}}
	changed := conf.NameChanges{Changed: []string{"east-west"}}
	peer := conf.NameChanges{Changed: []string{"west"}}
	for _, x := range []struct {
		name string
		edit []string
		want conf.Changes
	}{
		{"nothing", nil, same},
		{"places and comments", []string{"[General]", "# more\n\n[General]"}, same},
		{"a key", []string{"horse", "mule"}, conf.Changes{Peers: peer, Connections: same.Connections}},
		{"a transform", []string{"GRP14\n", "GRP15\n"}, conf.Changes{Peers: peer, Connections: same.Connections}},
		{"a suite", []string{"GRP14-SUITE", "GRP15-SUITE"}, conf.Changes{Peers: same.Peers, Connections: changed}},
		{"a network", []string{"10.2.0.0", "10.3.0.0"}, conf.Changes{Peers: same.Peers, Connections: changed}},
		{"who starts", []string{"Connections=", "Passive-connections="}, conf.Changes{Peers: same.Peers, Connections: changed}},
		{"a lifetime of all", []string{"Listen-on", "Default-phase-2-lifetime= 600\nListen-on"}, conf.Changes{General: true, Peers: same.Peers, Connections: changed}},
		{"where to listen", []string{"Listen-on= 192.0.2.1", "Listen-on= 192.0.2.1,192.0.2.7"}, conf.Changes{General: true, ListenOn: true, Peers: same.Peers, Connections: same.Connections}},
		{"a connection of another name", []string{"= east-west", "= west-east", "[east-west]", "[west-east]"}, conf.Changes{Peers: same.Peers, Connections: conf.NameChanges{Added: []string{"west-east"}, Removed: []string{"east-west"}}}},
		{
			"a third site",
			[]string{
				"= east-west", "= east-west,east-north", "192.0.2.2= west", "192.0.2.2= west\n192.0.2.3= north", "[quick-mode]",
				"[north]\nPhase= 1\nAddress= 192.0.2.3\nAuthentication= long enough to pass\n[east-north]\nPhase= 2\nISAKMP-peer= north\nConfiguration= quick-mode\nLocal-ID= net-east\nRemote-ID= net-north\n" +
					"[net-north]\nID-type= IPV4_ADDR_SUBNET\nNetwork= 10.3.0.0\nNetmask= 255.255.0.0\n[quick-mode]",
			},
			conf.Changes{Peers: conf.NameChanges{Same: []string{"west"}, Added: []string{"north"}}, Connections: conf.NameChanges{Same: []string{"east-west"}, Added: []string{"east-north"}}},
		},
		{
			"a default",
			[]string{"192.0.2.2= west", "192.0.2.2= west\nDefault= rest", "[quick-mode]", "[rest]\nPhase= 1\nAuthentication= long enough to pass\n[quick-mode]"},
			conf.Changes{DefaultPeer: true, Peers: conf.NameChanges{Same: []string{"west"}, Added: []string{"rest"}}, Connections: same.Connections},
		},
		{
			"a key for an initiator",
			[]string{"[quick-mode]", "[me@example.org]\nAuthentication= long enough to pass\n[quick-mode]"},
			conf.Changes{InitiatorIDs: true, Peers: same.Peers, Connections: same.Connections},
		},
		{
			"an address to hand out",
			[]string{"[quick-mode]", "[fqdn/me.example.org]\nAddress= 10.9.9.9\n[quick-mode]"},
			conf.Changes{ModeConfigs: true, Peers: same.Peers, Connections: same.Connections},
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			got := conf.Diff(load(t, sound), load(t, edit(t, x.edit...)))
			if d := cmp.Diff(x.want, got); d != "" {
				t.Error(d)
			}
			if empty := cmp.Equal(x.want, same); got.IsEmpty() != empty {
				t.Errorf("IsEmpty is %v", got.IsEmpty())
			}
		})
	}
}

func TestDiffWithNothing(t *testing.T) {
	d := conf.Diff(nil, load(t, sound))
	if len(d.Peers.Added) != 1 || len(d.Connections.Added) != 1 || !d.General {
		t.Errorf("%+v", d)
	}
	if d = conf.Diff(load(t, sound), nil); len(d.Peers.Removed) != 1 || len(d.Connections.Removed) != 1 {
		t.Errorf("%+v", d)
	}
	if !conf.Diff(nil, nil).IsEmpty() {
		t.Error("nothing differs from nothing")
	}
}
