package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// Abilities are what a kernel can do of what we know.
type Abilities struct {
	Kernel  string // its release
	Protos  []ipsec.Proto
	Ciphers []ipsec.Cipher // of ESP
	Auths   []ipsec.Auth   // of ESP and AH
	ESN     bool
	// Lacks says what is missing and which modules have it, one text each.
	Lacks []string
}

// ErrNoESP: the kernel knows policies, and no ESP to protect anything with.
var ErrNoESP = errors.New("this kernel has no ESP (modules esp4 and esp6): IPsec needs another kernel, or ipsecd, which needs none")

// Usable is ErrNoESP when nothing can be protected.
func (a *Abilities) Usable() error {
	if !slices.Contains(a.Protos, ipsec.ProtoESP) {
		return ErrNoESP
	}
	return nil
}

// Probe asks the kernel what it can do, by making SAs: /proc/crypto lists what
// was used so far, and what a module would bring shows up in no list at all. The
// SAs are in a network namespace that is made for it and is gone at the end, so
// that no packet and no other program meets them. Where making one is not
// allowed they are in ours, each for a moment, between addresses that nobody has
// (RFC 5737 TEST-NET-2 and the documentation prefix of RFC 3849).
//
// It needs CAP_NET_ADMIN, and lasts some milliseconds.
func Probe() (*Abilities, error) {
	type result struct {
		a   *Abilities
		err error
	}
	done := make(chan result, 1)
	go func() { // the thread ends with this goroutine: it is never unlocked
		runtime.LockOSThread()
		var r result
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			r.err = fmt.Errorf("no scratch namespace: %w", err)
			done <- r
			return
		}
		r.a, r.err = probeHere()
		done <- r
	}()
	r := <-done
	if r.a == nil && (errors.Is(r.err, unix.EPERM) || errors.Is(r.err, unix.ENOSYS) || errors.Is(r.err, unix.EINVAL)) {
		return probeHere()
	}
	return r.a, r.err
}

func probeHere() (*Abilities, error) {
	k, err := openKernel(0)
	if err != nil {
		return nil, err
	}
	defer k.close()
	return probe(k)
}

var (
	probe4 = [2]netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")}
	probe6 = [2]netip.Addr{netip.MustParseAddr("2001:db8:a71::1"), netip.MustParseAddr("2001:db8:a71::2")}
)

// prober tries SAs.
type prober struct {
	k    kernel
	spi  ipsec.SPI
	a    *Abilities
	ends [2]netip.Addr // between which it has ESP
}

func probe(k kernel) (*Abilities, error) {
	p := &prober{k: k, spi: 0x0a71, a: &Abilities{Kernel: release()}}
	for _, proto := range []ipsec.Proto{ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPComp} {
		if err := p.proto(proto); err != nil {
			return nil, err
		}
	}
	if slices.Contains(p.a.Protos, ipsec.ProtoESP) {
		if err := p.algorithms(); err != nil {
			return nil, err
		}
	}
	p.a.Lacks = append(p.a.Lacks, "IP in IP as an SA of its own (no module has it)", "Skipjack (no module has it)", "AES-GMAC in AH (no module has it)")
	return p.a, nil
}

// base is an SA that every kernel with its protocol takes: ESP with NULL and
// HMAC-SHA1.
func (p *prober) base(proto ipsec.Proto, ends [2]netip.Addr) *ipsec.SA {
	p.spi++
	sa := &ipsec.SA{
		ID: ipsec.SAID{Dir: ipsec.In, Proto: proto, SPI: p.spi, Dst: ends[1]}, Src: ends[0], Mode: ipsec.Tunnel,
		Auth: ipsec.AuthHMACSHA1, AuthKey: filled(20), Replay: 32,
	}
	switch proto {
	case ipsec.ProtoESP:
		sa.Cipher = ipsec.CipherNull
	case ipsec.ProtoIPComp:
		sa.Auth, sa.AuthKey, sa.Comp = ipsec.AuthNone, nil, ipsec.CompDeflate
	}
	return sa
}

// filled is a key in which no byte equals its neighbour: no weak one of DES.
func filled(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)*37 + 11
	}
	return b
}

// mostTaken is how many SPIs may be taken, one after the other, by somebody who
// asks the same at the same time, or was killed over it.
const mostTaken = 256

// try says whether the kernel takes sa; an error is one that has nothing to do
// with it.
func (p *prober) try(sa *ipsec.SA) (bool, error) {
	w := encode(sa, encoding{})
	err := p.k.do(wire.NewSA, w.Append(nil))
	for range mostTaken {
		if !errors.Is(err, unix.EEXIST) {
			break
		}
		p.spi++
		w.SPI = uint32(p.spi)
		err = p.k.do(wire.NewSA, w.Append(nil))
	}
	switch {
	case err == nil:
		id := wire.ID{Dst: w.Dst, SPI: w.SPI, Family: w.Family, Proto: w.Proto}
		return true, explain("taking an SA of the test away", p.k.do(wire.DelSA, id.Append(nil)))
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM), errors.Is(err, os.ErrClosed):
		return false, explain("trying an SA", err)
	}
	return false, nil
}

func (p *prober) proto(proto ipsec.Proto) error {
	has := false
	for _, ends := range [][2]netip.Addr{probe4, probe6} {
		ok, err := p.try(p.base(proto, ends))
		if err != nil {
			return err
		}
		switch {
		case ok && proto == ipsec.ProtoESP && !has:
			p.ends = ends
		case !ok:
			p.lacks(fmt.Sprintf("%s over %s", proto, familyName(ends[0])), protoModules[proto])
		}
		has = has || ok
	}
	if has {
		p.a.Protos = append(p.a.Protos, proto)
	}
	return nil
}

func (p *prober) lacks(what, modules string) {
	p.a.Lacks = append(p.a.Lacks, fmt.Sprintf("%s (modules %s)", what, modules))
}

func (p *prober) algorithms() error {
	for _, c := range kernelCiphers {
		i := c.cipher.Info()
		sa := p.base(ipsec.ProtoESP, p.ends)
		sa.Cipher, sa.Key, sa.Salt = c.cipher, filled(i.DefKey), filled(i.Salt)
		if c.aead {
			sa.Auth, sa.AuthKey = ipsec.AuthNone, nil
		}
		ok, err := p.try(sa)
		if err != nil {
			return err
		}
		if !ok {
			p.lacks(c.cipher.String(), c.modules)
			continue
		}
		p.a.Ciphers = append(p.a.Ciphers, c.cipher)
	}
	for _, a := range kernelAuths {
		sa := p.base(ipsec.ProtoESP, p.ends)
		sa.Auth, sa.AuthKey = a.auth, filled(a.auth.Info().Key)
		ok, err := p.try(sa)
		if err != nil {
			return err
		}
		if !ok {
			p.lacks(a.auth.String(), a.modules)
			continue
		}
		p.a.Auths = append(p.a.Auths, a.auth)
	}
	sa := p.base(ipsec.ProtoESP, p.ends)
	sa.ESN, sa.Cipher, sa.Key = true, ipsec.CipherAESCBC, filled(16)
	ok, err := p.try(sa)
	if !ok {
		p.lacks("extended sequence numbers", "authencesn")
	}
	p.a.ESN = ok
	return err
}

func familyName(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
