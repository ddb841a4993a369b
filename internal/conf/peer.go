package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"oakley/internal/diag"
	"oakley/internal/doi"
)

// phase1Peers reads [Phase 1]: an address or Default for each peer.
func (ld *loader) phase1Peers() {
	v := ld.root("Phase 1", kindPhase1)
	if v.sec == nil {
		return
	}
	byAddr := map[netip.Addr]string{}
	for _, t := range v.sec.Tags {
		x := value{text: t.Value, pos: t.ValuePos, width: len(t.Value), set: true}
		if x.text == "" {
			ld.fail(value{pos: t.Pos, width: len(t.Name)}, "name the peer's section", "%s names no peer", t.Name)
			continue
		}
		if key(t.Name) == "default" {
			ld.cfg.DefaultPeer = ld.peer(x, netip.Addr{})
			continue
		}
		a, err := netip.ParseAddr(t.Name)
		if err != nil {
			ld.fail(value{pos: t.Pos, width: len(t.Name)}, "write ADDRESS=PEER, or Default=PEER for any other address", "%q is no IP address", t.Name)
			continue
		}
		p := ld.peer(x, a.Unmap())
		if p == nil {
			continue
		}
		byAddr[a.Unmap()] = p.Name
		if p.Address != a.Unmap() {
			ld.fail(x, "make the two addresses the same", "peer %s is listed under %s, and its section says Address=%s", p.Name, a, p.Address)
		}
	}
}

// peer reads an ISAKMP-peer section. at is the address under which it is
// listed, if it is.
func (ld *loader) peer(ref value, at netip.Addr) *Peer {
	if p, ok := ld.peers[key(ref.text)]; ok {
		return p
	}
	v, ok := ld.open(kindPeer, ref)
	ld.peers[key(ref.text)] = nil
	if !ok {
		return nil
	}
	name := v.name
	if v.sec != nil {
		name = v.sec.Name
	}
	p := &Peer{Name: name, Pos: v.head().pos, Address: at}
	ld.peers[key(ref.text)] = p
	ld.phase(v, "1")
	if x := v.get("Transport"); !strings.EqualFold(x.text, "udp") {
		ld.fail(x, "Transport=udp is the only one there is", "transport %q is unknown", x.text)
	}
	if x := v.get("Address"); x.text != "" {
		p.Address = ld.address(x, "Address")
	}
	if x := v.get("Local-address"); x.text != "" {
		p.LocalAddress = ld.address(x, "Local-address")
		if p.Address.IsValid() && p.LocalAddress.IsValid() && p.Address.Is4() != p.LocalAddress.Is4() {
			ld.fail(x, "", "Local-address and Address of peer %s are of different families", name)
		}
	}
	p.Port = uint16(ld.number(v.get("Port"), "Port", 1, 65535))
	if x := v.get("Authentication"); x.text != "" {
		p.Key = ld.secret(x)
	}
	for _, x := range v.get("Flags").items() {
		if !strings.EqualFold(x.text, "ikecfg") {
			ld.fail(x, "known: ikecfg", "peer %s has an unknown flag %q", name, x.text)
			continue
		}
		p.IKECfg = true
	}
	if x := v.get("ID"); x.text != "" {
		p.ID = ld.phase1ID(x)
	} else {
		p.ID = ld.cfg.General.DefaultPhase1ID
	}
	if x := v.get("Remote-ID"); x.text != "" {
		p.RemoteID = ld.phase1ID(x)
	}
	ld.phase1Config(p, v.get("Configuration"))
	ld.checkPeer(p, v)
	if !slices.Contains(ld.cfg.Peers, p) {
		ld.cfg.Peers = append(ld.cfg.Peers, p)
	}
	return p
}

// phase checks the tag that says which phase a section is for.
func (ld *loader) phase(v view, want string) {
	if x := v.get("Phase"); x.text != want {
		ld.fail(x, "write Phase="+want, "section [%s] is used as %s and has Phase=%s", v.name, kinds[v.kind].name, x.text)
	}
}

// checkPeer looks for what does not go together.
func (ld *loader) checkPeer(p *Peer, v view) {
	for _, t := range p.Transforms {
		if t.Auth == doi.AuthPSK && p.Key == nil {
			ld.fail(v.head(), "write Authentication= with the key, or take a transform that ends in -RSA_SIG", "peer %s has no Authentication, and transform %s wants a pre-shared key", p.Name, t.Name)
			break
		}
	}
	for _, t := range p.Transforms {
		if t.Cipher == doi.CipherDES {
			ld.warn(v.get("Configuration"), "take AES-128-SHA2-256-GRP14 or better when the peer can", "transform %s of peer %s is single DES, which a desktop breaks", t.Name, p.Name)
			break
		}
	}
	if !p.Address.IsValid() && p.Key != nil && p.Exchange == MainMode {
		ld.warn(v.head(), "give each peer a section of its own with its address and key", "peer %s has one pre-shared key for everybody, whoever knows it may be any of them", p.Name)
	}
	if p.Exchange == AggressiveMode && p.Key != nil {
		ld.warn(v.get("Configuration"), "take EXCHANGE_TYPE=ID_PROT, or a long random key", "aggressive mode with a pre-shared key shows a hash of the key to everybody who asks")
	}
}

// phase1ID reads a Phase1-ID section.
func (ld *loader) phase1ID(ref value) *ID {
	if id, ok := ld.ids[key(ref.text)]; ok {
		return id
	}
	v, ok := ld.open(kindPhase1ID, ref)
	ld.ids[key(ref.text)] = nil
	if !ok {
		return nil
	}
	id := &ID{Name: v.name}
	ld.ids[key(ref.text)] = id
	x, ok := ld.need(v, "ID-type", "known: IPV4_ADDR, IPV6_ADDR, IPV4_ADDR_SUBNET, IPV6_ADDR_SUBNET, FQDN, USER_FQDN, KEY_ID, ASN1_DN")
	if !ok {
		return id
	}
	id.Type = word(ld, x, "ID type", doi.ParseIDType, []string{"IPV4_ADDR", "IPV6_ADDR", "IPV4_ADDR_SUBNET", "IPV6_ADDR_SUBNET", "FQDN", "USER_FQDN", "KEY_ID", "ASN1_DN"})
	switch id.Type {
	case doi.IDIPv4Addr, doi.IDIPv6Addr:
		if x, ok := ld.need(v, "Address", ""); ok {
			if a := ld.address(x, "Address"); a.IsValid() {
				id.Prefix = netip.PrefixFrom(a, a.BitLen())
				ld.family(x, id.Type, a)
			}
		}
	case doi.IDIPv4Subnet, doi.IDIPv6Subnet:
		id.Prefix = ld.network(v, id.Type)
	case doi.IDFQDN, doi.IDUserFQDN, doi.IDKeyID:
		if x, ok := ld.need(v, "Name", ""); ok {
			id.Text = x.text
			if id.Type == doi.IDUserFQDN && !strings.Contains(x.text, "@") {
				ld.warn(x, "a host's name alone is ID-type=FQDN", "a USER_FQDN without an @")
			}
		}
	}
	return id
}

// family checks that an address fits the ID type's family.
func (ld *loader) family(x value, t doi.IDType, a netip.Addr) {
	v4 := t == doi.IDIPv4Addr || t == doi.IDIPv4Subnet
	if a.IsValid() && a.Is4() != v4 {
		ld.fail(x, "change ID-type or the address", "%s does not fit ID-type %s", a, t)
	}
}

// network reads Network and Netmask.
func (ld *loader) network(v view, t doi.IDType) netip.Prefix {
	n, ok1 := ld.need(v, "Network", "")
	m, ok2 := ld.need(v, "Netmask", "")
	if !ok1 || !ok2 {
		return netip.Prefix{}
	}
	a, mask := ld.address(n, "Network"), ld.address(m, "Netmask")
	ld.family(n, t, a)
	if !a.IsValid() || !mask.IsValid() {
		return netip.Prefix{}
	}
	if a.Is4() != mask.Is4() {
		ld.fail(m, "", "Network and Netmask are of different families")
		return netip.Prefix{}
	}
	bits, ok := maskBits(mask)
	if !ok {
		ld.fail(m, "a mask is ones and then zeros, as 255.255.255.0", "%s is no netmask", m.text)
		return netip.Prefix{}
	}
	p := netip.PrefixFrom(a, bits)
	if p.Masked().Addr() != a {
		ld.warn(n, fmt.Sprintf("write Network=%s", p.Masked().Addr()), "Network %s has bits outside its Netmask; %s is taken", a, p.Masked())
	}
	return p.Masked()
}

func maskBits(m netip.Addr) (int, bool) {
	bits, zero := 0, false
	for _, b := range m.AsSlice() {
		for i := 7; i >= 0; i-- {
			one := b>>i&1 == 1
			if one && zero {
				return 0, false
			}
			if one {
				bits++
			}
			zero = zero || !one
		}
	}
	return bits, true
}

// phase1Config reads an ISAKMP-configuration section.
func (ld *loader) phase1Config(p *Peer, ref value) {
	v, ok := ld.open(kindPhase1Config, ref)
	if !ok {
		return
	}
	ld.doi(v)
	x := v.get("EXCHANGE_TYPE")
	switch strings.ToUpper(x.text) {
	case "ID_PROT", "":
	case "AGGRESSIVE":
		p.Exchange = AggressiveMode
	default:
		ld.fail(x, "known: ID_PROT, AGGRESSIVE", "EXCHANGE_TYPE %q is none of phase 1", x.text)
	}
	ts, ok := ld.need(v, "Transforms", "as Transforms=AES-128-SHA,3DES-SHA")
	if !ok {
		return
	}
	if ts.text == defaultTransforms {
		ts.text = "3DES-SHA"
		if p.Key == nil {
			ts.text = "3DES-SHA-RSA_SIG"
		}
	}
	for _, t := range ts.items() {
		p.Transforms = append(p.Transforms, ld.phase1Transform(t)...)
	}
	if p.Exchange == AggressiveMode {
		for _, t := range p.Transforms {
			if t.Group != p.Transforms[0].Group {
				ld.fail(ts, "the group is chosen before the peer can choose: take one group", "the transforms of an aggressive mode have different groups")
				break
			}
		}
	}
}

func (ld *loader) doi(v view) {
	if x := v.get("DOI"); x.text != "" && !strings.EqualFold(x.text, "IPSEC") {
		ld.fail(x, "write DOI=IPSEC", "DOI %q is unknown", x.text)
	}
}

// phase1Transform reads an ISAKMP-transform section; several lifetimes make one
// transform all the same.
func (ld *loader) phase1Transform(ref value) []Phase1Transform {
	if t, ok := ld.phase1[key(ref.text)]; ok {
		return t
	}
	v, ok := ld.open(kindPhase1Transform, ref)
	if !ok {
		return nil
	}
	t := Phase1Transform{Name: ref.text}
	if x, ok := ld.need(v, "ENCRYPTION_ALGORITHM", ""); ok && !anyValue(x) {
		t.Cipher = word(ld, x, "encryption algorithm", doi.ParseCipher, []string{"DES_CBC", "3DES_CBC", "BLOWFISH_CBC", "CAST_CBC", "AES_CBC", "ANY"})
		if t.Cipher == doi.CipherIDEA || t.Cipher == doi.CipherRC5 {
			ld.fail(x, "take AES_CBC or 3DES_CBC", "%s is not spoken here", t.Cipher)
		}
	}
	if x := v.get("KEY_LENGTH"); x.text != "" && !anyValue(x) {
		t.KeyLength = ld.rangeOf(x, "KEY_LENGTH", 448)
		if t.Cipher == doi.CipherDES || t.Cipher == doi.Cipher3DES {
			ld.fail(x, "remove KEY_LENGTH", "%s has one key length alone", t.Cipher)
		}
	}
	if x, ok := ld.need(v, "HASH_ALGORITHM", ""); ok && !anyValue(x) {
		t.Hash = word(ld, x, "hash algorithm", doi.ParseHash, []string{"MD5", "SHA", "SHA2_256", "SHA2_384", "SHA2_512", "ANY"})
	}
	if x, ok := ld.need(v, "AUTHENTICATION_METHOD", ""); ok && !anyValue(x) {
		t.Auth = word(ld, x, "authentication method", doi.ParseAuthMethod, []string{"PRE_SHARED", "RSA_SIG", "ANY"})
	}
	if x := v.get("GROUP_DESCRIPTION"); x.text != "" && !anyValue(x) {
		t.Group = ld.group(x)
	} else if x.text == "" {
		t.Group = doi.GroupMODP1024
	}
	if x := v.get("PRF"); x.text != "" {
		ld.warn(x, "remove it", "PRF is ignored: it is always the HMAC of the hash")
	}
	t.Seconds, t.Kilobytes = ld.lives(v)
	ld.phase1[key(ref.text)] = []Phase1Transform{t}
	return ld.phase1[key(ref.text)]
}

func anyValue(x value) bool { return strings.EqualFold(x.text, "ANY") }

var groupNames = []string{
	"MODP_768", "MODP_1024", "MODP_1536", "MODP_2048", "MODP_3072", "MODP_4096", "MODP_6144", "MODP_8192",
	"ECP_256", "ECP_384", "ECP_521", "ECP_192", "ECP_224", "BP_224", "BP_256", "BP_384", "BP_512", "CURVE25519",
}

func (ld *loader) group(x value) doi.Group {
	return word(ld, x, "group", doi.ParseGroup, groupNames)
}

// lives reads the Lifetime sections that a transform names.
func (ld *loader) lives(v view) (seconds, kilobytes Range) {
	for _, ref := range v.get("Life").items() {
		if anyValue(ref) {
			continue
		}
		lv, ok := ld.open(kindLifetime, ref)
		if !ok {
			continue
		}
		d, ok := ld.need(lv, "LIFE_DURATION", "as LIFE_DURATION=3600,60:86400")
		if !ok || anyValue(d) {
			continue
		}
		r := ld.rangeOf(d, "LIFE_DURATION", 1<<32-1)
		switch t := lv.get("LIFE_TYPE"); strings.ToUpper(t.text) {
		case "SECONDS", "":
			seconds = r
		case "KILOBYTES":
			kilobytes = r
		default:
			ld.report(diag.Error, t, "known: SECONDS, KILOBYTES", "LIFE_TYPE %q is unknown", t.text)
		}
	}
	return seconds, kilobytes
}
