package conf

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"oakley/internal/diag"
	"oakley/internal/doi"
)

// peerSection is a peer and what its remarks need to know about the file.
type peerSection struct {
	peer      *Peer
	view      view
	listed    []value // where [Phase 1] names it with an address
	isDefault bool
	wanted    []value // where connections name it
	badAddr   bool    // it has an Address that could not be read, or another than [Phase 1]
}

// readPhase1 reads [Phase 1]: an address, or Default, and the peer there.
func (l *loader) readPhase1() {
	l.listed = map[netip.Addr]bool{}
	v := l.fixed("Phase 1", rolePhase1)
	if v.sec == nil {
		return
	}
	for _, t := range v.sec.Tags {
		if t.Value == "" {
			continue
		}
		ref, at := value{text: t.Value, at: t.valueSpan(), tag: t}, value{text: t.Name, at: t.at}
		if strings.EqualFold(t.Name, "Default") {
			if ps := l.peer(ref); ps != nil {
				l.cfg.DefaultPeer, ps.isDefault = ps.peer, true
			}
			continue
		}
		l.readListed(at, ref)
	}
}

// readListed takes one ADDRESS=PEER.
func (l *loader) readListed(at, ref value) {
	a, err := netip.ParseAddr(at.text)
	a = a.Unmap()
	if err != nil && isSecret(at.text) { // then the value is a key, and no name to look for
		l.fail(at, "write it into the section of the peer", "%s does not belong into [Phase 1]", tagName(at.text))
		return
	}
	if err != nil {
		hint := "write ADDRESS=PEER, or Default=PEER for every other address"
		if looksLikeName(at.text) {
			hint += "; names of hosts are not looked up"
		}
		l.fail(at, hint, "%s is no IP address", quote(at.text))
	} else if l.listed[a] {
		l.warn(at, "remove one of the two lines", "%s is listed twice, and the first one wins", a)
		err = fmt.Errorf("listed")
	}
	ps := l.peer(ref)
	if ps == nil || err != nil {
		return
	}
	l.listed[a] = true
	p := ps.peer
	switch {
	case len(ps.listed) > 0:
		l.fail(ref, "write a section for each address: a peer has one", "peer %s is listed for %s in line %d already", clip(p.Name), p.Address, ps.listed[0].at.Line)
	case !p.Address.IsValid() && !ps.badAddr:
		p.Address = a
	case p.Address.IsValid() && p.Address != a:
		ps.badAddr = true
		l.fail(at, fmt.Sprintf("make them the same; Address= is in line %d", ps.view.get("Address").at.Line), "peer %s is listed here for %s, and its section has Address=%s", clip(p.Name), a, p.Address)
	}
	ps.listed = append(ps.listed, at)
}

// peer reads an ISAKMP-peer section, once.
func (l *loader) peer(ref value) *peerSection {
	v, ok := l.open(rolePeer, ref)
	if !ok {
		return nil
	}
	if ps, ok := l.peers[fold(v.name)]; ok {
		return ps
	}
	ps := l.readPeer(v)
	l.peers[fold(v.name)] = ps
	l.peerOrder = append(l.peerOrder, ps)
	return ps
}

func (l *loader) readPeer(v view) *peerSection {
	p := &Peer{Name: v.name, Pos: v.at.Pos, Generated: v.sec == nil, Mode: doi.ExchangeMain}
	ps := &peerSection{peer: p, view: v}
	l.phase(v, "1")
	if x := v.get("Transport"); x.text != "" && !strings.EqualFold(x.text, "udp") {
		l.fail(x, "write Transport=udp, or remove the line", "transport %s is not there", quote(x.text))
	}
	if x := v.get("Address"); x.text != "" {
		a, ok := l.address(x, "Address")
		p.Address, ps.badAddr = a, !ok
	}
	if x := v.get("Local-address"); x.text != "" {
		p.LocalAddress, _ = l.address(x, "Local-address")
	}
	p.Port = 500
	if x := v.get("Port"); x.text != "" {
		n, _ := l.number(x, "UDP port", 1, 65535)
		p.Port = uint16(n)
	}
	if x := v.get("Authentication"); x.text != "" {
		p.Key = l.key(x)
	}
	for _, x := range v.get("Flags").items() {
		p.IKECfg, _ = oneOf(l, x, "flag of a peer", []choice[bool]{{"ikecfg", true}})
	}
	if x := v.get("ID"); x.text != "" {
		p.ID = l.phase1ID(x)
	}
	if x := v.get("Remote-ID"); x.text != "" {
		p.RemoteID = l.phase1ID(x)
	}
	x := v.get("Configuration")
	if x.text == "" {
		x = value{text: defaultPhase1, at: v.at}
	}
	p.Configuration = x.text
	if c := l.phase1Configuration(x, p.Key != nil); c != nil {
		p.Configuration, p.Mode, p.Transforms = c.name, c.mode, c.transforms
	}
	return ps
}

// phase checks the tag that tells peers and connections apart.
func (l *loader) phase(v view, want string) {
	x, ok := l.need(v, "Phase", "write Phase="+want)
	if ok && x.text != want {
		l.fail(x, "write Phase="+want, "[%s] is used as %s and has Phase=%s", clip(v.name), v.role.what, clip(x.text))
	}
}

// printedKeys are keys that stand in manuals, and are tried first.
var printedKeys = map[string]bool{
	"mekmitasdigoat": true, "mekmitasdigoatfoo": true, "secret": true, "password": true, "passphrase": true, "test": true, "12345678": true,
}

// shortKey is how many bytes a pre-shared key has at least before it is warned
// about: a shorter one is guessed off-line (CVE-2018-5389).
const shortKey = 8

// key reads a pre-shared key. Nothing that is said about it quotes it.
func (l *loader) key(v value) []byte {
	if digits, ok := strings.CutPrefix(fold(v.text), "0x"); ok {
		k, err := hex.DecodeString(digits)
		if err != nil || len(k) == 0 {
			l.fail(v, "write two digits 0-9a-f for every byte after 0x", "this key begins with 0x and is not hexadecimal")
			return nil
		}
		l.checkKey(v, k)
		return k
	}
	if n := len(v.text); n > 1 && (v.text[0] == '"' || v.text[0] == '\'') && v.text[n-1] == v.text[0] {
		l.warn(v, "remove the quotation marks, unless the other side has them too", "the quotation marks belong to this key")
	}
	l.checkKey(v, []byte(v.text))
	return []byte(v.text)
}

func (l *loader) checkKey(v value, k []byte) {
	const hint = "take some long random text, as `openssl rand -hex 20` writes it"
	switch {
	case printedKeys[fold(string(k))]:
		l.warn(v, hint, "this key stands in a manual, where everybody finds it")
	case len(k) < shortKey:
		l.warn(v, hint, "this key is short enough to be guessed")
	}
}

// checkPeers looks at what only all peers together show, and fills Config.Peers.
func (l *loader) checkPeers() {
	type place struct {
		remote, local netip.Addr
		port          uint16
	}
	seen := map[place]*peerSection{}
	for _, ps := range l.peerOrder {
		p := ps.peer
		if ps.view.sec != nil && !ps.isUsed() {
			l.unused = true
		}
		l.checkPeer(ps)
		l.unused = false
		if !ps.isUsed() {
			continue
		}
		if p.Address.IsValid() && !ps.badAddr {
			at := place{p.Address, p.LocalAddress, p.Port}
			if other := seen[at]; other != nil {
				l.fail(ps.view.head(), fmt.Sprintf("use one section for both; the other one is in line %d", other.view.at.Line), "peers %s and %s have the same address %s", clip(other.peer.Name), clip(p.Name), p.Address)
				continue
			}
			seen[at] = ps
			l.cfg.Peers = append(l.cfg.Peers, p)
		}
	}
}

func (ps *peerSection) isUsed() bool {
	return len(ps.listed) > 0 || ps.isDefault || len(ps.wanted) > 0
}

func (l *loader) checkPeer(ps *peerSection) {
	p, head := ps.peer, ps.view.head()
	if p.Address.IsValid() && p.LocalAddress.IsValid() {
		x := ps.view.get("Local-address")
		if p.Address == p.LocalAddress {
			l.fail(x, "Address= is the other side's, Local-address= this host's", "peer %s has the same address on both sides", clip(p.Name))
		} else if p.Address.Is4() != p.LocalAddress.Is4() {
			l.fail(x, "write two IPv4 addresses or two IPv6 addresses", "peer %s cannot be reached at %s from %s", clip(p.Name), p.Address, p.LocalAddress)
		}
	}
	l.checkListening(ps)
	if p.Address.IsValid() && len(ps.listed) == 0 && !l.unused {
		l.warn(head, fmt.Sprintf("write %s=%s under [Phase 1]", p.Address, clip(p.Name)), "peer %s is not listed in [Phase 1]", clip(p.Name))
	}
	if p.Address.IsValid() && ps.isDefault {
		l.warn(head, "leave Address= out, or write a section of its own for Default=", "peer %s has an address and is the default for all others too", clip(p.Name))
	}
	for _, at := range ps.wanted {
		if !p.Address.IsValid() && !ps.isDefault && !ps.badAddr {
			l.fail(at, fmt.Sprintf("write Address= into [%s] (line %d), and ADDRESS=%s under [Phase 1]", clip(p.Name), ps.view.at.Line, clip(p.Name)), "peer %s has no address", clip(p.Name))
			break
		}
	}
	l.checkAuthentication(ps)
	if !p.Address.IsValid() && ps.isDefault && p.Key != nil {
		if p.Mode == doi.ExchangeMain && p.usesKey() {
			l.warn(head, "write a section with an address and a key for each peer", "peer %s has one key for everybody: whoever knows it can be any of them", clip(p.Name))
		}
	}
	if p.Mode == doi.ExchangeAggressive && p.usesKey() && p.Key != nil {
		l.warn(head, "take EXCHANGE_TYPE=ID_PROT, or a long random key", "peer %s uses aggressive mode with a pre-shared key: a listener can try keys at leisure", clip(p.Name))
	}
	if len(p.Transforms) > 0 && !p.usesKey() && p.RemoteID == nil && !p.Generated && !l.unused {
		l.warn(head, "write Remote-ID=, or a policy with remote_id", "peer %s may have any certificate that the CA signed: nothing says whose", clip(p.Name))
	}
}

// checkListening compares a peer with Listen-on, as far as that has addresses.
func (l *loader) checkListening(ps *peerSection) {
	p, family, exact := ps.peer, false, false
	for _, on := range l.cfg.General.ListenOn {
		if on.Interface != "" {
			return
		}
		exact = exact || on.Addr == p.LocalAddress
		family = family || on.Addr.Is4() == p.Address.Is4()
	}
	if len(l.cfg.General.ListenOn) == 0 {
		return
	}
	listen := l.general.get("Listen-on").at.Line
	if p.LocalAddress.IsValid() && !exact {
		l.warn(ps.view.get("Local-address"), fmt.Sprintf("write the address into Listen-on= (line %d), or correct it here", listen), "isakmpd does not listen on %s", p.LocalAddress)
	} else if p.Address.IsValid() && !family {
		l.warn(ps.view.head(), fmt.Sprintf("write an address of its family into Listen-on= (line %d)", listen), "isakmpd listens on nothing from which peer %s at %s is reached", clip(p.Name), p.Address)
	}
}

// usesKey tells whether a transform of p authenticates by the pre-shared key.
func (p *Peer) usesKey() bool {
	for i := range p.Transforms {
		if a := p.Transforms[i].Auth; a == doi.AuthPSK || a == 0 && p.Key != nil {
			return true
		}
	}
	return false
}

// checkAuthentication compares the transforms with the key that there is.
func (l *loader) checkAuthentication(ps *peerSection) {
	p := ps.peer
	psk := ""
	for i := range p.Transforms {
		if p.Transforms[i].Auth == doi.AuthPSK {
			psk = p.Transforms[i].Name
			break
		}
	}
	fromInitiator := p.Mode == doi.ExchangeAggressive && len(l.cfg.InitiatorIDs) > 0
	switch {
	case p.Key == nil && psk != "" && !ps.view.has("Authentication") && !fromInitiator:
		l.fail(ps.view.head(), l.orMisspelled(ps.view, "Authentication", "write Authentication= with the key that the other side has, or take a transform that ends in -RSA_SIG"),
			"peer %s has no Authentication, and transform %s wants a pre-shared key", clip(p.Name), clip(psk))
	case p.Key != nil && len(p.Transforms) > 0 && !p.usesKey():
		l.warn(ps.view.get("Authentication"), "remove it, or take a transform without -RSA_SIG", "the key of peer %s is not used: its transforms authenticate by RSA signatures", clip(p.Name))
	}
}

// readGeneratedPeer makes the peer that every configuration has.
func (l *loader) readGeneratedPeer() {
	if l.cfg.DefaultPeer != nil {
		return
	}
	ref := value{text: generatedPeer, at: diag.Range{Pos: diag.Pos{File: l.file.Name}}}
	sec := l.file.Section(generatedPeer)
	if sec != nil { // written to become the default
		if ps := l.peer(ref); ps != nil {
			l.cfg.DefaultPeer, ps.isDefault = ps.peer, true
		}
		return
	}
	v, ok := l.open(rolePeer, ref)
	if ok {
		l.cfg.GeneratedPeer = l.readPeer(v).peer
	}
}
