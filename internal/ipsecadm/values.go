package ipsecadm

import (
	"encoding/hex"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"oakley/internal/ipsec"
)

// idType is what kind of identity a text is.
type idType uint8

const (
	idAny idType = iota
	idPrefix
	idFQDN
	idUserFQDN
)

func (f *form) address(name, text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil && strings.Contains(text, "/"):
		f.mistake("%s %s: an address is wanted, not a network; networks are for -addr of a flow", name, quote(text))
	case err != nil:
		f.mistake("%s %s is no address: write it as 192.0.2.1 or 2001:db8::1; names are not looked up", name, quote(text))
	case a.Zone() != "":
		f.mistake("%s %s: an address without an interface (%%%s) is wanted", name, a.WithZone(""), a.Zone())
	case a.IsMulticast():
		f.mistake("%s %s is a multicast address, and SAs have two ends", name, a)
	default:
		return a.Unmap()
	}
	return netip.Addr{}
}

// spiOf reads an SPI, whose protocol is known by now.
func (f *form) spiOf(name, text string, p ipsec.Proto) ipsec.SPI {
	if !f.has(name) {
		return 0 // that has been said
	}
	most, what, rfc := uint64(math.MaxUint32), "100 to ffffffff", "RFC 4303 section 2.1"
	if p == ipsec.ProtoIPComp {
		most, what, rfc = math.MaxUint16, "100 to ffff, or 2 (deflate, wherever it is),", "RFC 3173 section 3.3"
	}
	n, err := strconv.ParseUint(text, 16, 64)
	switch {
	case strings.HasPrefix(strings.ToLower(text), "0x"):
		f.mistake("%s %s: write the hexadecimal number without 0x: %s %s", name, quote(text), name, quote(text[2:]))
	case err != nil:
		f.mistake("%s %s is no hexadecimal number: %s are right", name, quote(text), what)
	case p == ipsec.ProtoIPComp && ipsec.SPI(n) == ipsec.CPIDeflate:
		return ipsec.CPIDeflate
	case n < 0x100:
		f.mistake("%s %s: numbers below 100 (hexadecimal) are reserved (%s): %s are right", name, text, rfc, what)
	case n > most:
		f.mistake("%s %s is too large: %s are right", name, text, what)
	default:
		return ipsec.SPI(n)
	}
	return 0
}

func (f *form) protocol(name, text string) ipsec.Proto {
	if p, ok := lookUp(protos, text); ok {
		return p
	}
	if n, err := strconv.ParseUint(text, 10, 8); err == nil && nameOf(protos, ipsec.Proto(n)) != "" {
		return ipsec.Proto(n)
	}
	f.mistake("%s %s is no IPsec protocol: esp (50), ah (51), ip4 (4) or ipcomp (108) is", name, quote(text))
	return 0
}

func setCipher(f *form, name string, w []string) {
	c, ok := lookUp(ciphers, w[0])
	switch {
	case ok:
		f.cipher = c
	case isCounter(w[0]):
		f.mistake("%s %s: a cipher in counter mode must never see a counter twice with one key, and a key that is typed comes back with the same counter after a restart (RFC 3686 section 3, RFC 4106 section 2): take -enc aes with -auth sha2-256, or let isakmpd negotiate", name, quote(w[0]))
	default:
		f.mistake("%s %s is no cipher: %s is", name, quote(w[0]), either(names(ciphers)))
	}
}

func setAuth(f *form, name string, w []string) {
	a, ok := lookUp(auths, w[0])
	switch {
	case ok:
		f.auth = a
	case isCounter(w[0]):
		f.mistake("%s %s: GMAC must never see a counter twice with one key, and a key that is typed comes back with the same counter after a restart (RFC 4543 section 9): take -auth sha2-256, or let isakmpd negotiate", name, quote(w[0]))
	default:
		f.mistake("%s %s is no hash: %s is", name, quote(w[0]), either(names(auths)))
	}
}

func setComp(f *form, name string, w []string) {
	c, ok := lookUp(comps, w[0])
	switch {
	case ok:
		f.comp = c
	case strings.EqualFold(w[0], "lzs"):
		f.mistake("%s lzs: there is no LZS here; deflate is what both ends can do", name)
	default:
		f.mistake("%s %s is no compression: deflate is", name, quote(w[0]))
	}
}

// hexKey reads a key. The text is never shown.
func (f *form) hexKey(name, text string) []byte {
	if strings.HasPrefix(strings.ToLower(text), "0x") {
		f.mistake("%s: write the hexadecimal digits without 0x", name)
		return nil
	}
	key, err := hex.DecodeString(text)
	switch {
	case err != nil && strings.Trim(text, "0123456789abcdefABCDEF") == "":
		f.mistake("%s has %d hexadecimal digits, an odd number: two make a byte", name, len(text))
		return nil
	case err != nil:
		at := strings.IndexFunc(text, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) })
		f.mistake("%s: character %d is no hexadecimal digit: 0 to 9 and a to f are", name, at+1)
		return nil
	case len(key) == 0:
		f.mistake("%s: there are no hexadecimal digits", name)
		return nil
	}
	return key
}

func (f *form) fileKey(name, path string) []byte {
	text, err := f.readFile(path)
	if err != nil {
		f.mistake("%s: %w", name, err)
		return nil
	}
	return f.hexKey(name+" "+path, strings.Join(strings.Fields(string(text)), ""))
}

func (f *form) port(name, network, text string) uint16 {
	if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 {
		return uint16(n)
	}
	if strings.Trim(text, "0123456789") != "" {
		if n, err := net.LookupPort(network, text); err == nil && n > 0 {
			return uint16(n)
		}
	}
	f.mistake("%s %s is no port: 1 to 65535, or a name from services(5), is", name, quote(text))
	return 0
}

func (f *form) idType(name, text string) idType {
	t, ok := lookUp(idTypes, text)
	if !ok {
		f.mistake("%s %s: %s is wanted", name, quote(text), either(names(idTypes)))
	}
	return t
}

func setAddr(f *form, name string, w []string) {
	if len(w) == 2 {
		f.near, f.far = f.cidr(name, w[0]), f.cidr(name, w[1])
	} else {
		f.near, f.far = f.masked(name, w[0], w[1]), f.masked(name, w[2], w[3])
	}
	if f.near.IsValid() && f.far.IsValid() && f.near.Addr().Is4() != f.far.Addr().Is4() {
		f.mistake("%s: %s and %s are of two address families", name, f.near, f.far)
	}
}

// cidr reads a network with its length.
func (f *form) cidr(name, text string) netip.Prefix {
	p, err := netip.ParsePrefix(text)
	if err == nil && !p.Addr().Is4In6() {
		return f.network(name, p)
	}
	f.mistake("%s %s is no network: write it as 10.1.0.0/16, or a host as 192.0.2.1/32", name, quote(text))
	return netip.Prefix{}
}

// masked reads a network with its mask.
func (f *form) masked(name, addr, mask string) netip.Prefix {
	a, err := netip.ParseAddr(addr)
	m, maskErr := netip.ParseAddr(mask)
	a, m = a.Unmap(), m.Unmap()
	switch {
	case err != nil || a.Zone() != "":
		f.mistake("%s %s is no address: address, mask, address and mask are wanted, or two networks as 10.1.0.0/16", name, quote(addr))
	case maskErr != nil || m.Is4() != a.Is4():
		f.mistake("%s %s %s: the second is no mask of %s: write 255.255.255.0 or the like, or %s/24 and the like without a mask", name, addr, quote(mask), addr, addr)
	default:
		bits, ok := maskBits(m.AsSlice())
		if ok {
			return f.network(name, netip.PrefixFrom(a, bits))
		}
		f.mistake("%s: the mask %s has holes: ones come first, then zeros", name, mask)
	}
	return netip.Prefix{}
}

func (f *form) network(name string, p netip.Prefix) netip.Prefix {
	if p != p.Masked() {
		f.notice("%s: %s is an address in %s; the network is taken", name, p, p.Masked())
	}
	return p.Masked()
}

// maskBits counts the leading ones of a mask; ok is false when ones follow a zero.
func maskBits(mask []byte) (bits int, ok bool) {
	zero := false
	for _, b := range mask {
		for i := 7; i >= 0; i-- {
			one := b>>i&1 == 1
			if one && zero {
				return 0, false
			}
			zero = zero || !one
			if one {
				bits++
			}
		}
	}
	return bits, true
}

func setTransport(f *form, name string, w []string) {
	if p, ok := lookUp(transports, w[0]); ok {
		f.transport = p
		return
	}
	n, err := strconv.ParseUint(w[0], 10, 8)
	if err != nil || n == 0 {
		f.mistake("%s %s is no protocol: 1 to 255, or a name as tcp, udp or icmp, is", name, quote(w[0]))
	}
	f.transport = uint8(n)
}

func setOrder(f *form, name string, w []string) {
	n, err := strconv.ParseUint(w[0], 10, 32)
	if err != nil {
		f.mistake("%s %s is no number: 0 to %d is", name, quote(w[0]), uint32(math.MaxUint32))
	}
	f.order = uint32(n)
}

func switched(f *form, word string) {
	f.proto = f.protocol(f.spec.name, word)
	f.given["operand"] = true
}
