package conf

import (
	"reflect"
	"slices"

	"oakley/internal/diag"
)

// Changes is what a reload changes. Peers and connections are known by the names
// of their sections; where a section stands in the file makes no difference.
type Changes struct {
	General           bool // [General], [KeyNote] or [X509-certificates]
	ListenOn          bool // what is listened on, which wants a restart
	InitiatorIDs      bool
	ModeConfigs       bool
	DefaultPeer       bool // another one, or none any more
	DefaultConnection bool
	Peers             NameChanges // the default peer among them
	Connections       NameChanges // the default connection among them
}

// NameChanges sorts names by what became of them, each list by name. A
// connection is Changed by its own tags and suites, or when it names another
// peer; a change of its peer alone is among Changes.Peers.
type NameChanges struct {
	Added, Removed, Changed, Same []string
}

// IsEmpty tells whether nothing is different.
func (n NameChanges) IsEmpty() bool { return len(n.Added)+len(n.Removed)+len(n.Changed) == 0 }

// IsEmpty tells whether nothing is different.
func (c Changes) IsEmpty() bool {
	flags := c.General || c.ListenOn || c.InitiatorIDs || c.ModeConfigs || c.DefaultPeer || c.DefaultConnection
	return !flags && c.Peers.IsEmpty() && c.Connections.IsEmpty()
}

// Diff compares two configurations. A nil one is an empty one.
func Diff(before, after *Config) Changes {
	if before == nil {
		before = &Config{}
	}
	if after == nil {
		after = &Config{}
	}
	return Changes{
		General:  !reflect.DeepEqual(before.General, after.General) || before.KeyNote != after.KeyNote || before.X509 != after.X509,
		ListenOn: !slices.Equal(before.General.ListenOn, after.General.ListenOn),
		InitiatorIDs: !slices.EqualFunc(before.InitiatorIDs, after.InitiatorIDs, func(a, b *InitiatorID) bool {
			x, y := *a, *b
			x.Pos, y.Pos = diag.Pos{}, diag.Pos{}
			return reflect.DeepEqual(x, y)
		}),
		ModeConfigs: !slices.EqualFunc(before.ModeConfigs, after.ModeConfigs, func(a, b *ModeConfig) bool {
			x, y := *a, *b
			x.Pos, y.Pos = diag.Pos{}, diag.Pos{}
			return reflect.DeepEqual(x, y)
		}),
		DefaultPeer:       peerName(before.DefaultPeer) != peerName(after.DefaultPeer),
		DefaultConnection: connName(before.DefaultConnection) != connName(after.DefaultConnection),
		Peers:             diffNames(before.peersByName(), after.peersByName(), samePeer),
		Connections:       diffNames(before.connectionsByName(), after.connectionsByName(), sameConnection),
	}
}

func peerName(p *Peer) string {
	if p == nil {
		return ""
	}
	return fold(p.Name)
}

func connName(c *Connection) string {
	if c == nil {
		return ""
	}
	return fold(c.Name)
}

func (c *Config) peersByName() map[string]*Peer {
	m := map[string]*Peer{}
	for _, p := range c.Peers {
		m[p.Name] = p
	}
	if p := c.DefaultPeer; p != nil {
		m[p.Name] = p
	}
	return m
}

func (c *Config) connectionsByName() map[string]*Connection {
	m := map[string]*Connection{}
	for _, n := range c.Connections {
		m[n.Name] = n
	}
	if n := c.DefaultConnection; n != nil {
		m[n.Name] = n
	}
	return m
}

func samePeer(a, b *Peer) bool {
	x, y := *a, *b
	x.Pos, y.Pos = diag.Pos{}, diag.Pos{}
	return reflect.DeepEqual(x, y)
}

func sameConnection(a, b *Connection) bool {
	if peerName(a.Peer) != peerName(b.Peer) {
		return false
	}
	x, y := *a, *b
	x.Pos, y.Pos, x.Peer, y.Peer = diag.Pos{}, diag.Pos{}, nil, nil
	return reflect.DeepEqual(x, y)
}

func diffNames[T any](before, after map[string]*T, same func(a, b *T) bool) (n NameChanges) {
	for name, b := range after {
		a, was := before[name]
		switch {
		case !was:
			n.Added = append(n.Added, name)
		case same(a, b):
			n.Same = append(n.Same, name)
		default:
			n.Changed = append(n.Changed, name)
		}
	}
	for name := range before {
		if _, is := after[name]; !is {
			n.Removed = append(n.Removed, name)
		}
	}
	for _, l := range [][]string{n.Added, n.Removed, n.Changed, n.Same} {
		slices.Sort(l)
	}
	return n
}
