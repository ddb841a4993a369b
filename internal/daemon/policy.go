package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/policy"
)

// judge answers the engine's question. What a listed connection may be the
// configuration says, and the policy, if there is one; what no connection lists,
// the policy alone. It looks at the connection by itself, so that a slip in the
// negotiation is not enough.
func (d *Daemon) judge(q ike.QueryPolicy) ike.PolicyAnswer {
	a := ike.PolicyAnswer{ID: q.ID, Allow: make([]bool, len(q.Proposals))}
	var rules *policy.Policy
	if d.cfg.policy != nil {
		var bad []string
		rules, bad = d.cfg.policy.with(q.Credentials)
		for _, text := range bad {
			d.note("credential", q.Remote.Addr(), "peer "+q.Peer+": "+text)
		}
	}
	c, reason := connectionFor(d.cfg.engine, q)
	if c == nil && !(rules != nil && q.Unlisted) {
		a.Reason = reason
		d.log.Debugf(ClassPolicy, levelState, "refused: %s", reason)
		return a
	}
	var refused []*policy.Decision
	allowed := 0
	for i, p := range q.Proposals {
		if c != nil && !offers(c, p) {
			continue
		}
		a.Allow[i] = true
		if rules != nil {
			verdict := rules.Ask(question(q, p, time.Now()))
			if a.Allow[i] = verdict.Allow; !verdict.Allow {
				refused = append(refused, verdict)
			}
			if d.log.Debugs(ClassPolicy, levelDetail) {
				d.log.Debugf(ClassPolicy, levelDetail, "connection %s, proposal %d: %s", q.Conn, i+1, strings.TrimRight(verdict.Tree(), "\n"))
			}
		}
		if a.Allow[i] {
			allowed++
		}
	}
	switch {
	case allowed > 0:
	case refused != nil:
		a.Reason = strings.Join(policy.Refusals(refused), "\n  ")
		a.Reason = strings.TrimPrefix(strings.TrimPrefix(a.Reason, "refused to "), "refused: ") // whoever logs it says so
	default:
		a.Reason = fmt.Sprintf("none of the %d proposals is a suite of connection %s", len(q.Proposals), c.Name)
	}
	d.log.Debugf(ClassPolicy, levelState, "connection %s with peer %s (%s), %s: %d of %d proposals allowed",
		q.Conn, q.Peer, q.RemoteID, q.Selector, allowed, len(q.Proposals))
	return a
}

// question puts one proposal in the policy's words.
func question(q ike.QueryPolicy, p ike.PolicyProposal, now time.Time) *policy.Query {
	x := &policy.Query{
		Initiator: q.Initiator, Exchange: q.Exchange, Group: q.Group, Identity: policy.ID(q.Identity),
		Local: filter(q.Here, q.LocalAddr.Addr()), Remote: filter(q.There, q.Remote.Addr()),
		LocalAddr: q.LocalAddr.Addr(), RemoteAddr: q.Remote.Addr(), PFS: p.PFS, Now: now,
	}
	if q.Auth == doi.AuthPSK {
		x.Requesters = policy.Passphrase(q.Key)
	}
	for _, s := range p.Protocols {
		x.Protocols = append(x.Protocols, policy.Protocol{
			Proto: s.Proto, ID: s.ID, Mode: s.Mode, UDP: s.UDP, Auth: s.Auth, KeyBits: keyBits(s), Seconds: s.Seconds, Kilobytes: s.Kilobytes, ESN: s.ESN,
		})
	}
	return x
}

// filter is one end of the traffic; without an identity that is the tunnel's end.
func filter(n ike.Net, end netip.Addr) policy.Filter {
	switch {
	case !n.Prefix.IsValid():
		return policy.Network(netip.PrefixFrom(end, end.BitLen()), true, n.Proto, n.Port)
	case n.Range:
		return policy.Range(n.Prefix, n.Proto, n.Port)
	}
	return policy.Network(n.Prefix, n.Addr, n.Proto, n.Port)
}

// connectionFor finds the configured connection that a query is about, or says
// why there is none.
func connectionFor(cfg *ike.Config, q ike.QueryPolicy) (c *ike.Connection, reason string) {
	if q.Conn == "" || q.Unlisted {
		return nil, fmt.Sprintf("no configured connection is for %s, and without a policy (-K) only configured ones are allowed", q.Selector)
	}
	for _, known := range cfg.Connections {
		if known.Name == q.Conn {
			c = known
		}
	}
	// The engine names what it makes of the generic connection after it.
	if known := cfg.DefaultConnection; c == nil && known != nil && (known.Name == q.Conn || strings.HasPrefix(q.Conn, known.Name+"@")) {
		c = known
	}
	switch {
	case c == nil:
		return nil, fmt.Sprintf("there is no connection %s in the configuration (any more)", q.Conn)
	case c.Peer != nil && c.Peer.Name != q.Peer:
		return nil, fmt.Sprintf("connection %s is with peer %s, not with %s", c.Name, c.Peer.Name, q.Peer)
	case !q.Initiator && c.ActiveOnly:
		return nil, fmt.Sprintf("connection %s is Active-only, and the peer started it", c.Name)
	case !means(c.Local, q.Selector.Src, q.LocalAddr.Addr()) || !means(c.Remote, q.Selector.Dst, q.Remote.Addr()),
		cmp.Or(c.Local.Proto, c.Remote.Proto) != q.Selector.Proto, c.Local.Port != q.Selector.SrcPort, c.Remote.Port != q.Selector.DstPort:
		return nil, fmt.Sprintf("%s is not what connection %s is for", q.Selector, c.Name)
	}
	return c, ""
}

// means tells whether a prefix is what a connection's end stands for.
func means(n ike.Net, p netip.Prefix, end netip.Addr) bool {
	if !n.Prefix.IsValid() {
		return p.IsSingleIP() && p.Addr() == end
	}
	return n.Prefix.Masked() == p.Masked()
}

// offers tells whether a proposal is one of a connection's suites.
func offers(c *ike.Connection, p ike.PolicyProposal) bool {
	for _, s := range c.Suites {
		if suiteIs(s, p) {
			return true
		}
	}
	return false
}

func suiteIs(s ike.Suite, p ike.PolicyProposal) bool {
	if len(s.Protocols) != len(p.Protocols) || len(p.Protocols) == 0 {
		return false
	}
	for i, want := range s.Protocols {
		if want.Proto != p.Protocols[i].Proto || !transformIs(want.Transforms, p.Protocols[i], p.PFS) {
			return false
		}
	}
	return true
}

func transformIs(ts []ike.Phase2Transform, p ike.PolicyProtocol, pfs doi.Group) bool {
	for _, t := range ts {
		if t.ID == p.ID && t.Mode == p.Mode && t.Auth == p.Auth && t.Group == pfs && keyIs(t, p) {
			return true
		}
	}
	return false
}

// keyIs tells whether a key length is one that the transform takes.
func keyIs(t ike.Phase2Transform, p ike.PolicyProtocol) bool {
	return t.KeyLength.IsZero() || p.Proto != doi.ProtoESP || t.KeyLength.Accepts(uint64(keyBits(p)))
}

// keyBits is the length of the key in bits: what the proposal says, or the cipher's
// default where it says nothing; 0 where all keys of the cipher have one length,
// whichever side made the proposal.
func keyBits(p ike.PolicyProtocol) int {
	standard, several := defaultBits[doi.ESP(p.ID)]
	switch {
	case p.Proto != doi.ProtoESP:
		return p.KeyBits
	case !several:
		return 0
	case p.KeyBits == 0:
		return standard
	}
	return p.KeyBits
}

// defaultBits is the key length of ciphers that have several.
var defaultBits = map[doi.ESP]int{
	doi.ESPAES:         8 * ipsec.CipherAESCBC.Info().DefKey,
	doi.ESPAESCTR:      8 * ipsec.CipherAESCTR.Info().DefKey,
	doi.ESPAESGCM8:     8 * ipsec.CipherAESGCM8.Info().DefKey,
	doi.ESPAESGCM12:    8 * ipsec.CipherAESGCM12.Info().DefKey,
	doi.ESPAESGCM16:    8 * ipsec.CipherAESGCM16.Info().DefKey,
	doi.ESPNullAESGMAC: 8 * ipsec.CipherAESGMAC.Info().DefKey,
	doi.ESPBlowfish:    8 * ipsec.CipherBlowfish.Info().DefKey,
	doi.ESPCAST:        8 * ipsec.CipherCAST.Info().DefKey,
}
