package daemon

import (
	"net/netip"
	"strings"
	"testing"

	"oakley/internal/conf"
	"oakley/internal/dataplane"
	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
	"oakley/internal/policy"
)

// translated loads a configuration for a host without starting anything.
func translated(t *testing.T, text string, change ...func(*Options)) (*loaded, error) {
	t.Helper()
	h := newFakeHost(netio.NewHub(), east.own)
	opt, _ := options(h, newLines())
	for _, c := range change {
		c(&opt)
	}
	h.put(confPath, text)
	return (&Daemon{opt: opt, host: h}).load()
}

func mustTranslate(t *testing.T, text string, change ...func(*Options)) *loaded {
	t.Helper()
	l, err := translated(t, text, change...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAConnectionThatNeedsALaterFeatureIsRefusedByName(t *testing.T) {
	suite := func(name string) string {
		return strings.Replace(east.conf(), "QM-ESP-AES-SHA2-256-PFS-GRP31-SUITE", name, 1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"certificates": {strings.Replace(east.conf(), "AES-SHA2-256-GRP31", "AES-SHA-RSA_SIG", 1), "certificates (RSA_SIG)"},
		"aggressive":   {strings.Replace(east.conf(), "ID_PROT", "AGGRESSIVE", 1), "aggressive mode"},
		"mode-config":  {strings.Replace(east.conf(), "Phase= 1\n", "Phase= 1\nFlags= ikecfg\n", 1), "mode-config"},
		"bare ESP":     {suite("QM-ESP-AES-SUITE"), "ESP without authentication"},
		"NAT-ID":       {strings.Replace(east.conf(), "ISAKMP-peer=", "NAT-ID= here\nISAKMP-peer=", 1), "NAT-ID"},
		"PF-Tag":       {strings.Replace(east.conf(), "ISAKMP-peer=", "PF-Tag= vpn\nISAKMP-peer=", 1), "PF-Tag"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := translated(t, c.text)
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, part := range []string{"connection tunnel", confPath + ":", c.want, "does not have yet"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
		})
	}
}

func TestSuitesThatComeLaterAreLeftOutWhenOthersRemain(t *testing.T) {
	text := strings.Replace(east.conf(), "QM-ESP-AES-SHA2-256-PFS-GRP31-SUITE", "QM-ESP-AESCTR-SUITE,QM-ESP-AES-SHA-SUITE", 1)
	l := mustTranslate(t, text)
	if s := l.engine.Connections[0].Suites; len(s) != 1 || s[0].Name != "QM-ESP-AES-SHA-SUITE" {
		t.Errorf("suites %+v", s)
	}
	if w := strings.Join(l.warnings, "\n"); !strings.Contains(w, "left out are the suites QM-ESP-AESCTR-SUITE") {
		t.Errorf("warnings: %s", w)
	}
}

func TestWishesThatATunnelWorksWithoutAreWarnedAbout(t *testing.T) {
	s := east
	s.general = "DPD-check-interval= 30"
	if w := strings.Join(mustTranslate(t, s.conf()).warnings, "\n"); !strings.Contains(w, "DPD") {
		t.Errorf("warnings: %s", w)
	}
	s.general = "Acquire-Only= yes"
	if _, err := translated(t, s.conf()); err == nil || !strings.Contains(err.Error(), "Acquire-Only") {
		t.Errorf("Acquire-Only: %v", err)
	}
}

func TestTheEngineGetsWhatTheFileSays(t *testing.T) {
	s := east
	s.general = "Retransmits= 7\nExchange-max-time= 33\nLoglevel= 2=40,7=99\nLogverbose= yes"
	l := mustTranslate(t, s.conf(), func(o *Options) {
		o.Verbose = false
		if err := o.Debug.Set("2=60"); err != nil {
			t.Fatal(err)
		}
	})
	c := l.engine
	if c.Retransmits != 7 || c.ExchangeMaxTime.Seconds() != 33 || c.Port != 500 || c.EncapPort != 4500 || !c.NATT {
		t.Errorf("general: %+v", c)
	}
	if !l.verbose || l.debug[ClassMessage] != 60 || l.debug[ClassExchange] != 99 || l.debug[ClassMisc] != 0 {
		t.Errorf("log: verbose %t, levels %v", l.verbose, l.debug)
	}
	p := c.Peers[0]
	if p.Name != "far" || p.Address.String() != west.own || p.Local.String() != east.own || string(p.Key) != "8e5c39d30b4d4e2f" {
		t.Errorf("peer %+v", p)
	}
	if x := p.Transforms[0]; x.Cipher != doi.CipherAES || x.Hash != doi.HashSHA2256 || x.Group != doi.GroupCurve25519 || x.KeyLength != (ike.Range{Offer: 128, Min: 128, Max: 256}) || x.Seconds.Offer != 3600 {
		t.Errorf("transform %+v", x)
	}
	n := c.Connections[0]
	if n.Peer != p || !n.Active || n.Local.Prefix.String() != "10.1.0.0/24" {
		t.Errorf("connection %+v", n)
	}
}

func TestEachConnectionHasAFlowInEachDirection(t *testing.T) {
	s := east
	s.names, s.more = ", second, alike", second+strings.Replace(second, "[second]", "[alike]", 1)[:strings.Index(second, "[elsewhere]")-1]
	l := mustTranslate(t, s.conf())
	if len(l.flows) != 6 {
		t.Fatalf("%d flows for 3 connections", len(l.flows))
	}
	out, in := l.flows[0], l.flows[1]
	want := ipsec.Selector{Src: netip.MustParsePrefix("10.1.0.0/24"), Dst: netip.MustParsePrefix("10.2.0.0/24")}
	if out.ID != "tunnel/out" || out.Dir != ipsec.Out || out.Selector != want || out.Type != ipsec.FlowRequire || out.Local.String() != east.own || out.Remote.String() != west.own {
		t.Errorf("out: %+v", out)
	}
	if in.ID != "tunnel/in" || in.Dir != ipsec.In || in.Selector != want.Reverse() || connOf(in.ID) != "tunnel" {
		t.Errorf("in: %+v", in)
	}
	if a, b := l.flows[2], l.flows[4]; a.Selector != b.Selector || a.Order >= b.Order {
		t.Errorf("of two connections for the same traffic the first is not before the second: %+v, %+v", a, b)
	}
}

func TestAConnectionWithoutIDsIsBetweenTheTunnelsEnds(t *testing.T) {
	text := strings.NewReplacer("Local-ID= here\n", "", "Remote-ID= there\n", "").Replace(east.conf())
	l := mustTranslate(t, text)
	if f := l.flows[0]; f.Mode != ipsec.Tunnel || f.Proto != ipsec.ProtoESP {
		t.Errorf("%+v", f)
	}
	hosts := mustTranslate(t, strings.Replace(text, "QM-ESP-AES-SHA2-256-PFS-GRP31-SUITE", "QM-AH-TRP-SHA-SUITE", 1))
	for _, f := range hosts.flows {
		if f.Mode != ipsec.Transport || f.Proto != ipsec.ProtoAH {
			t.Errorf("%+v", f)
		}
	}
	want := ipsec.Selector{Src: netip.MustParsePrefix("192.0.2.1/32"), Dst: netip.MustParsePrefix("192.0.2.2/32")}
	if len(l.flows) != 2 || l.flows[0].Selector != want {
		t.Errorf("flows %+v", l.flows)
	}
}

func TestListenOnTakesInterfaces(t *testing.T) {
	text := strings.Replace(east.conf(), "Listen-on= 192.0.2.1", "Listen-on= eth0", 1)
	if l := mustTranslate(t, text); len(l.listen) != 1 || l.listen[0].String() != east.own {
		t.Errorf("listening on %v", l.listen)
	}
	if _, err := translated(t, strings.Replace(text, "eth0", "eth7", 1)); err == nil || !strings.Contains(err.Error(), "eth7") {
		t.Errorf("an interface that is not there: %v", err)
	}
}

func TestIdentitiesBecomePayloads(t *testing.T) {
	for _, c := range []struct {
		id   conf.ID
		want string
	}{
		{conf.ID{Type: doi.IDIPv4Addr, Prefix: netip.MustParsePrefix("192.0.2.9/32")}, "192.0.2.9"},
		{conf.ID{Type: doi.IDIPv4Subnet, Prefix: netip.MustParsePrefix("10.0.0.0/8")}, "10.0.0.0/8"},
		{conf.ID{Type: doi.IDIPv6Addr, Prefix: netip.MustParsePrefix("2001:db8::9/128")}, "2001:db8::9"},
		{conf.ID{Type: doi.IDFQDN, Name: "gw.example.org"}, "fqdn gw.example.org"},
		{conf.ID{Type: doi.IDUserFQDN, Name: "user@example.org"}, "user@example.org"},
		{conf.ID{Type: doi.IDKeyID, Name: "sales"}, "key-id sales"},
	} {
		got := phase1ID(&c.id)
		if got.Type != c.id.Type || got.String() != c.want || got.Check() != nil {
			t.Errorf("%+v became %s", c.id, got)
		}
	}
	if phase1ID(nil) != nil {
		t.Error("no ID became one")
	}
}

func TestThePolicyAllowsWhatTheConnectionOffersAndNothingElse(t *testing.T) {
	l := mustTranslate(t, east.conf())
	d := &Daemon{cfg: l, log: NewLog(newLines())}
	good := func() ike.QueryPolicy {
		return ike.QueryPolicy{
			ID: 5, Peer: "far", Conn: "tunnel",
			LocalAddr: netip.MustParseAddrPort("192.0.2.1:500"), Remote: netip.MustParseAddrPort("192.0.2.2:500"),
			Selector: ipsec.Selector{Src: netip.MustParsePrefix("10.1.0.0/24"), Dst: netip.MustParsePrefix("10.2.0.0/24")},
			Proposals: []ike.PolicyProposal{{PFS: doi.GroupCurve25519, Protocols: []ike.PolicyProtocol{{
				Proto: doi.ProtoESP, ID: uint8(doi.ESPAES), Auth: doi.AuthHMACSHA2256, KeyBits: 128,
			}}}},
		}
	}
	if a := d.judge(good()); a.ID != 5 || len(a.Allow) != 1 || !a.Allow[0] || a.Reason != "" {
		t.Errorf("what the connection offers: %+v", a)
	}
	for name, change := range map[string]func(*ike.QueryPolicy){
		"no connection":       func(q *ike.QueryPolicy) { q.Conn = "" },
		"unknown connection":  func(q *ike.QueryPolicy) { q.Conn = "other" },
		"another peer":        func(q *ike.QueryPolicy) { q.Peer = "else" },
		"wider local net":     func(q *ike.QueryPolicy) { q.Selector.Src = netip.MustParsePrefix("10.0.0.0/8") },
		"another remote net":  func(q *ike.QueryPolicy) { q.Selector.Dst = netip.MustParsePrefix("10.9.0.0/24") },
		"one protocol alone":  func(q *ike.QueryPolicy) { q.Selector.Proto = 6 },
		"one port alone":      func(q *ike.QueryPolicy) { q.Selector.Proto, q.Selector.DstPort = 6, 80 },
		"another cipher":      func(q *ike.QueryPolicy) { q.Proposals[0].Protocols[0].ID = uint8(doi.ESPDES) },
		"another hash":        func(q *ike.QueryPolicy) { q.Proposals[0].Protocols[0].Auth = doi.AuthHMACMD5 },
		"no authentication":   func(q *ike.QueryPolicy) { q.Proposals[0].Protocols[0].Auth = 0 },
		"no PFS":              func(q *ike.QueryPolicy) { q.Proposals[0].PFS = 0 },
		"a short key":         func(q *ike.QueryPolicy) { q.Proposals[0].Protocols[0].KeyBits = 64 },
		"transport mode":      func(q *ike.QueryPolicy) { q.Proposals[0].Protocols[0].Mode = ipsec.Transport },
		"another protocol":    func(q *ike.QueryPolicy) { q.Proposals[0].Protocols[0].Proto = doi.ProtoAH },
		"one protocol more":   func(q *ike.QueryPolicy) { p := &q.Proposals[0]; p.Protocols = append(p.Protocols, p.Protocols[0]) },
		"an empty proposal":   func(q *ike.QueryPolicy) { q.Proposals[0].Protocols = nil },
		"nothing is proposed": func(q *ike.QueryPolicy) { q.Proposals = nil },
	} {
		q := good()
		change(&q)
		a := d.judge(q)
		if len(a.Allow) != len(q.Proposals) || len(a.Allow) > 0 && a.Allow[0] || a.Reason == "" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	q := good()
	everybody, _ := policy.Load("p", []byte("Authorizer: \"POLICY\"\n"))
	with := *l
	with.policy = &rules{rules: everybody}
	if a := (&Daemon{cfg: &with, log: d.log}).judge(q); a.Allow[0] || !strings.HasPrefix(a.Reason, "phase 1 gave no ") {
		t.Errorf("a peer that the policy cannot know: %+v", a)
	}
	l.engine.Connections[0].ActiveOnly = true
	if a := d.judge(q); a.Allow[0] {
		t.Error("an Active-only connection was allowed to the peer")
	}
	q.Initiator = true
	if a := d.judge(q); !a.Allow[0] {
		t.Errorf("an Active-only connection was refused to ourselves: %s", a.Reason)
	}
}

func TestADataPlaneThatLacksACipherIsNamed(t *testing.T) {
	l := mustTranslate(t, east.conf())
	info := dataplane.Info{Name: "small", Ciphers: []ipsec.Cipher{ipsec.CipherAESCBC}, Auths: []ipsec.Auth{ipsec.AuthHMACSHA256}}
	if err := l.fits(info); err != nil {
		t.Error(err)
	}
	info.Auths = []ipsec.Auth{ipsec.AuthHMACMD5}
	err := l.fits(info)
	if err == nil || !strings.Contains(err.Error(), "connection tunnel cannot be served: suite QM-ESP-AES-SHA2-256-PFS-GRP31-SUITE needs HMAC-SHA2-256, which the data plane small does not have") {
		t.Errorf("%v", err)
	}
	info.Ciphers = []ipsec.Cipher{ipsec.CipherNull}
	if err := l.fits(info); err == nil || !strings.Contains(err.Error(), "AES (CBC)") {
		t.Errorf("%v", err)
	}
}

// TestASuiteThatTheKernelLacksIsLeftOut: the others serve the connection, and the
// warning names the module that is missing.
func TestASuiteThatTheKernelLacksIsLeftOut(t *testing.T) {
	text := strings.Replace(east.conf(), "QM-ESP-AES-SHA2-256-PFS-GRP31-SUITE", "QM-ESP-BLF-SHA-SUITE,QM-ESP-AES-SHA-SUITE", 1)
	l := mustTranslate(t, text)
	info := dataplane.Info{
		Name: "kernel", Kernel: true, CarriesData: true, Transport: true,
		Ciphers: []ipsec.Cipher{ipsec.CipherAESCBC}, Lacks: []string{ipsec.CipherBlowfish.String() + " (modules blowfish_generic)"},
	}
	if err := l.trim(info); err != nil {
		t.Fatal(err)
	}
	if s := l.engine.Connections[0].Suites; len(s) != 1 || s[0].Name != "QM-ESP-AES-SHA-SUITE" {
		t.Errorf("%+v", s)
	}
	if w := strings.Join(l.warnings, "\n"); !strings.Contains(w, "suite QM-ESP-BLF-SHA-SUITE needs "+info.Lacks[0]+", which the data plane kernel does not have; Data-plane=ipsecd in [General] has it") {
		t.Errorf("warnings: %s", w)
	}
}

func TestAnXFRMInterfaceTakesTheKernel(t *testing.T) {
	l := mustTranslate(t, strings.Replace(east.conf(), "[tunnel]", "[tunnel]\nXFRM-interface= 7", 1))
	if l.flows[0].Interface != 7 || l.flows[1].Interface != 7 || l.engine.Connections[0].Interface != 7 {
		t.Errorf("%+v", l.flows)
	}
	info := dataplane.Info{Name: "kernel", Kernel: true, CarriesData: true}
	if err := l.fits(info); err != nil {
		t.Error(err)
	}
	info.Kernel = false
	if err := l.fits(info); err == nil || !strings.Contains(err.Error(), "Data-plane=kernel") {
		t.Errorf("%v", err)
	}
}

// TestBundlesComeInTheOrderInWhichTheyAreApplied: whatever the file's order, the
// engine and the policy count from the plain packet outwards.
func TestBundlesComeInTheOrderInWhichTheyAreApplied(t *testing.T) {
	s := east
	s.more = "[mine]\nProtocols= QM-AH-SHA-PFS-GRP31,QM-IPCOMP-DEFLATE,QM-ESP-AES-PFS-GRP31\n"
	l := mustTranslate(t, strings.Replace(s.conf(), "QM-ESP-AES-SHA2-256-PFS-GRP31-SUITE", "mine", 1))
	var got []doi.Protocol
	for _, p := range l.engine.Connections[0].Suites[0].Protocols {
		got = append(got, p.Proto)
		if g := p.Transforms[0].Group; g != doi.GroupCurve25519 {
			t.Errorf("%s has the group %s", p.Proto, g)
		}
	}
	if len(got) != 3 || got[0] != doi.ProtoIPComp || got[1] != doi.ProtoESP || got[2] != doi.ProtoAH {
		t.Errorf("%v", got)
	}
	lacking := dataplane.Info{Name: "small", Protos: []ipsec.Proto{ipsec.ProtoESP, ipsec.ProtoAH}}
	if err := l.fits(lacking); err == nil || !strings.Contains(err.Error(), "needs IPCOMP, which the data plane small does not have") {
		t.Errorf("%v", err)
	}
	lacking.Protos = nil
	lacking.Ciphers, lacking.Auths = []ipsec.Cipher{ipsec.CipherAESCBC}, []ipsec.Auth{ipsec.AuthHMACMD5}
	if err := l.fits(lacking); err == nil || !strings.Contains(err.Error(), "needs HMAC-SHA1, which the data plane small does not have") {
		t.Errorf("%v", err)
	}
}

func TestAPeerOfTheOtherFamilyIsWarnedAbout(t *testing.T) {
	text := strings.NewReplacer("Listen-on= 192.0.2.1", "").Replace(east.conf())
	l := mustTranslate(t, text, func(o *Options) { o.IPv6 = true })
	if w := strings.Join(l.warnings, "\n"); !strings.Contains(w, "peer far has an address of the other family") {
		t.Errorf("warnings: %s", w)
	}
	if len(l.listen) != 1 || !l.listen[0].Is6() {
		t.Errorf("listening on %v", l.listen)
	}
}
