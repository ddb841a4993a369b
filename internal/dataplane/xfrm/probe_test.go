package xfrm

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// TestLesserKernels: what a kernel does not take is said with the modules that have
// it, at the start and by an SA that needs it; the rest is used.
func TestLesserKernels(t *testing.T) {
	protos := func(all ...ipsec.Proto) []ipsec.Proto { return all }
	six := func(w *wire.SA) bool { return w.Family == wire.FamilyIPv6 }
	of := func(w *wire.SA, proto ipsec.Proto) bool { return w.Proto == uint8(proto) }
	for _, c := range []struct {
		name   string
		lacks  func(w *wire.SA) bool
		errno  unix.Errno
		protos []ipsec.Proto
		says   string
		usable bool
		sa     func(sa *ipsec.SA) // makes of ESP with AES-GCM over IPv4 what is refused
	}{
		{
			"no esp6", func(w *wire.SA) bool { return six(w) && of(w, ipsec.ProtoESP) }, unix.EPROTONOSUPPORT,
			protos(ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPComp), "esp over IPv6 (modules esp4, esp6)", true,
			func(sa *ipsec.SA) {
				sa.Src, sa.ID.Dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
			},
		},
		{
			"no esp4", func(w *wire.SA) bool { return !six(w) && of(w, ipsec.ProtoESP) }, unix.EPROTONOSUPPORT,
			protos(ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPComp), "esp over IPv4 (modules esp4, esp6)", true,
			func(*ipsec.SA) {},
		},
		{
			"no ESP", func(w *wire.SA) bool { return of(w, ipsec.ProtoESP) }, unix.EPROTONOSUPPORT,
			protos(ipsec.ProtoAH, ipsec.ProtoIPComp), "esp over IPv4 (modules esp4, esp6)", false, func(*ipsec.SA) {},
		},
		{
			"no AH, no IPComp", func(w *wire.SA) bool { return !of(w, ipsec.ProtoESP) }, unix.EPROTONOSUPPORT,
			protos(ipsec.ProtoESP), "ipcomp over IPv6 (modules ipcomp, ipcomp6, deflate)", true,
			func(sa *ipsec.SA) {
				sa.ID.Proto, sa.Cipher, sa.Key, sa.Salt, sa.Auth, sa.AuthKey = ipsec.ProtoAH, ipsec.CipherNone, nil, nil, ipsec.AuthHMACSHA1, filled(20)
			},
		},
		{
			"no GCM", func(w *wire.SA) bool { return w.AEAD != nil && strings.Contains(w.AEAD.Name, "gcm") }, unix.ENOSYS,
			protos(ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPComp), "(modules aes, gcm, seqiv)", true, func(*ipsec.SA) {},
		},
		{
			"no SHA2-512", func(w *wire.SA) bool { return w.Auth != nil && w.Auth.Name == "hmac(sha512)" }, unix.ENOSYS,
			protos(ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPComp), "(modules sha512_generic, hmac)", true,
			func(sa *ipsec.SA) {
				sa.Cipher, sa.Key, sa.Salt, sa.Auth, sa.AuthKey = ipsec.CipherAESCBC, filled(16), nil, ipsec.AuthHMACSHA512, filled(64)
			},
		},
		{
			"no ESN", func(w *wire.SA) bool { return w.Flags&wire.FlagESN != 0 }, unix.EINVAL,
			protos(ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPComp), "extended sequence numbers (modules authencesn)", true,
			func(sa *ipsec.SA) { sa.ESN = true },
		},
	} {
		k := newFake()
		k.refuse = func(typ wire.Type, data []byte) error {
			w, err := wire.ParseSA(data)
			if typ == wire.NewSA && (err != nil || c.lacks(w)) {
				return c.errno
			}
			return nil
		}
		can, err := probe(k)
		must(t, err)
		if sas, _ := k.count(); sas != 0 {
			t.Errorf("%s: %d SAs are left", c.name, sas)
		}
		if !slices.Equal(can.Protos, c.protos) || (can.Usable() == nil) != c.usable ||
			!slices.ContainsFunc(can.Lacks, func(s string) bool { return strings.Contains(s, c.says) }) {
			t.Errorf("%s: %+v", c.name, can)
		}
		if c.usable && len(can.Auths) < len(kernelAuths)-1 || c.usable && len(can.Ciphers) < len(kernelCiphers)-4 {
			t.Errorf("%s: ciphers %v, hashes %v", c.name, can.Ciphers, can.Auths)
		}
		p := planeOn(t, k, func(o *Options) { o.Abilities = can })
		sa := espOut("c", 0x1001)
		sa.Flow = ""
		c.sa(sa)
		_, modules, _ := strings.Cut(strings.TrimSuffix(c.says, ")"), "modules ")
		if sa.ID.Proto == ipsec.ProtoAH {
			modules = "ah4, ah6"
		}
		err = p.AddSA(ctx, sa)
		if err == nil || !strings.Contains(err.Error(), modules) || !errors.Is(err, dataplane.ErrUnsupported) {
			t.Errorf("%s: an SA that needs it: %v, want the modules %s", c.name, err, modules)
		}
	}
}

// TestProbedByTwo: the SAs of another process that asks, or that was killed over
// it, do not look as though the kernel took none.
func TestProbedByTwo(t *testing.T) {
	k := newFake()
	other := &prober{k: k, spi: 0x0a71, a: &Abilities{}}
	const theirs = 40
	for i := range theirs {
		w := encode(other.base(ipsec.ProtoESP, [][2]netip.Addr{probe4, probe6}[i%2]), encoding{})
		must(t, k.as(othersPID, wire.NewSA, w.Append(nil)))
	}
	can, err := probe(k)
	must(t, err)
	if len(can.Protos) != 3 || len(can.Ciphers) != len(kernelCiphers) || len(can.Auths) != len(kernelAuths) || !can.ESN {
		t.Errorf("%+v", can)
	}
	if sas, _ := k.count(); sas != theirs {
		t.Errorf("%d SAs, want those of the other", sas)
	}
}

// TestProbingIsRefused: who may not ask hears that, and not that the kernel can do
// nothing.
func TestProbingIsRefused(t *testing.T) {
	k := newFake()
	k.refuse = func(wire.Type, []byte) error { return unix.EPERM }
	if _, err := probe(k); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Error(err)
	}
}
