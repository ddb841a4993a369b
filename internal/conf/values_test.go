package conf_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"oakley/internal/conf"
	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

func TestTheHowToLoadsOnceItsSlipIsMended(t *testing.T) {
	c := load(t, read(t, "testdata/howto/ragweed.conf"))
	g := c.General
	if g.Retransmits != 5 || g.ExchangeMaxTime != 120*time.Second || len(g.ListenOn) != 1 || g.ListenOn[0].Addr != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("[General] is %+v", g)
	}
	p := c.Peers[0]
	if p.Name != "Slippery" || string(p.Key) != "mekmitasdigoat" || p.Mode != doi.ExchangeMain || p.Port != 500 || p.Configuration != "Default-main-mode" {
		t.Errorf("the peer is %+v", p)
	}
	n := c.Connections[0]
	if n.Name != "Ragweed-Slippery" || n.Peer != p || !n.Active || n.Local.Name != "NET-Badplants" || n.Remote.Prefix != netip.MustParsePrefix("10.2.0.0/24") {
		t.Errorf("the connection is %+v", n)
	}
	if len(n.Suites) != 2 || n.Suites[0].Protocols[0].Transforms[0].ESP != doi.ESP3DES || n.Suites[1].Protocols[0].Transforms[0].Auth != doi.AuthHMACMD5 {
		t.Errorf("its suites are %+v", n.Suites)
	}
	if n.Needs() != 0 || c.DefaultPeer != nil || c.GeneratedPeer == nil || !c.GeneratedPeer.Needs().Has(conf.FeatureCertificates) {
		t.Errorf("needs %v; default %v, generated %+v", n.Needs(), c.DefaultPeer, c.GeneratedPeer)
	}
}

func TestDefaults(t *testing.T) {
	c := load(t, strings.Replace(sound, "Listen-on= 192.0.2.1\n", "", 1))
	want := conf.General{
		CheckInterval: time.Minute, DefaultPhase1Lifetime: lengths(3600, 60, 86400), DefaultPhase2Lifetime: lengths(1200, 60, 86400),
		DeleteSAs: true, ExchangeMaxTime: 2 * time.Minute, NATTKeepalive: 20 * time.Second, PolicyFile: "/etc/isakmpd/isakmpd.policy",
		PubkeyDirectory: "/etc/isakmpd/pubkeys", Retransmits: 3, UseKeynote: true,
	}
	suites := c.General.DefaultPhase2Suites
	if len(suites) != 1 || suites[0].Name != "QM-ESP-3DES-SHA-PFS-SUITE" {
		t.Errorf("suites %+v", suites)
	}
	if c.General.DefaultPhase2Suites = nil; !reflect.DeepEqual(c.General, want) {
		t.Errorf("[General] is\n%+v, wanted\n%+v", c.General, want)
	}
	if c.KeyNote.CredentialDirectory != "/etc/isakmpd/keynote/" {
		t.Errorf("[KeyNote] is %+v", c.KeyNote)
	}
	if want := (conf.X509{
		CADirectory: "/etc/isakmpd/ca/", CertDirectory: "/etc/isakmpd/certs/", CRLDirectory: "/etc/isakmpd/crls/",
		PrivateKey: "/etc/isakmpd/private/local.key", PrivateKeyDirectory: "/etc/isakmpd/private/",
	}); c.X509 != want {
		t.Errorf("[X509-certificates] is %+v", c.X509)
	}
}

func TestTheDefaultConfigurationFollowsTheKey(t *testing.T) {
	withKey := load(t, edit(t, "Configuration= main-mode\n", "", "[main-mode]\nEXCHANGE_TYPE= ID_PROT\nTransforms= AES-128-SHA2-256-GRP14\n", ""))
	if x := withKey.Peers[0].Transforms; len(x) != 1 || x[0].Name != "3DES-SHA" {
		t.Errorf("with a key: %+v", x)
	}
	without := load(t, edit(t, "Configuration= main-mode\nAuthentication= correct horse battery staple\n", "", "[main-mode]\nEXCHANGE_TYPE= ID_PROT\nTransforms= AES-128-SHA2-256-GRP14\n", ""))
	if x := without.Peers[0].Transforms; len(x) != 1 || x[0].Name != "3DES-SHA-RSA_SIG" {
		t.Errorf("without a key: %+v", x)
	}
	overridden := load(t, edit(t, "Configuration= main-mode\n", "", "[main-mode]\nEXCHANGE_TYPE= ID_PROT\n", "[default-PHASE-1-configuration]\n"))
	if p := overridden.Peers[0]; p.Transforms[0].Name != "AES-128-SHA2-256-GRP14" || p.Mode != doi.ExchangeMain {
		t.Errorf("overridden in part: %+v", p)
	}
}

// TestTheFileOverridesGeneratedValuesTagByTag: one tag is changed, the others
// stay.
func TestTheFileOverridesGeneratedValuesTagByTag(t *testing.T) {
	c := load(t, edit(
		t, "[quick-mode]", "[AES-128-SHA2-256-GRP14]\nHASH_ALGORITHM= SHA2_512\n"+
			"[qm-esp-aes-128-sha2-256-pfs-grp14-xf]\nGROUP_DESCRIPTION= ECP_256\nKEY_LENGTH= 256\n"+
			"[QM-ESP-AES-128-SHA2-256-PFS-GRP14]\nReplayWindow= 256\n"+
			"[LIFE_QUICK_MODE]\nLIFE_DURATION= 100,50:200\n"+
			"[quick-mode]",
	))
	x := c.Peers[0].Transforms[0]
	if x.Hash != doi.HashSHA2512 || x.Cipher != doi.CipherAES || x.Group != 14 || x.Auth != doi.AuthPSK {
		t.Errorf("phase 1: %+v", x)
	}
	p := c.Connections[0].Suites[0].Protocols[0]
	y := p.Transforms[0]
	if p.Replay != 256 || y.Group != doi.GroupECP256 || y.KeyLength != lengths(256, 256, 256) || y.Auth != doi.AuthHMACSHA2256 || y.LifeSeconds != lengths(100, 50, 200) {
		t.Errorf("phase 2: %+v", p)
	}
}

func TestLifetimesOfGeneral(t *testing.T) {
	c := load(t, edit(t, "Listen-on", "Default-phase-1-lifetime= 300,200:400\ndefault-PHASE-2-lifetime= 30\nListen-on"))
	if r := c.Peers[0].Transforms[0].LifeSeconds; r != lengths(300, 200, 400) {
		t.Errorf("phase 1: %+v", r)
	}
	if r := c.Connections[0].Suites[0].Protocols[0].Transforms[0].LifeSeconds; r != lengths(30, 30, 30) {
		t.Errorf("phase 2: %+v", r)
	}
}

func TestTheFirstValueWins(t *testing.T) {
	c := load(t, edit(t, "Listen-on", "Retransmits= 7\nRETRANSMITS= 8\nListen-on", "[net-west]", "[general]\nretransmits= 9\n[net-west]"))
	if c.General.Retransmits != 7 {
		t.Errorf("%d", c.General.Retransmits)
	}
}

// TestRanges: what is offered is accepted, what is outside is not, and the text
// is read as it was written, blanks and all.
func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.IntRange(1, 1<<32-1).Draw(t, "low")
		high := rapid.IntRange(low, 1<<32-1).Draw(t, "high")
		offer := rapid.IntRange(low, high).Draw(t, "offer")
		gap := rapid.SampledFrom([]string{"", " ", "\t"})
		text := fmt.Sprintf("%d%s,%s%d%s:%s%d", offer, gap.Draw(t, "a"), gap.Draw(t, "b"), low, gap.Draw(t, "c"), gap.Draw(t, "d"), high)
		src := strings.Replace(sound, "Listen-on", "Default-phase-1-lifetime= "+text+"\nListen-on", 1)
		c, list := conf.Load("", []byte(src), nil)
		if len(list) != 0 {
			t.Fatalf("%s: %s", text, list)
		}
		r := c.Peers[0].Transforms[0].LifeSeconds
		if r != lengths(offer, low, high) || !r.Accepts(offer) || !r.Accepts(low) || !r.Accepts(high) || r.Accepts(low-1) || r.Accepts(high+1) {
			t.Fatalf("%s is %+v", text, r)
		}
	})
}

func TestRangesThatSayNothingAcceptEverything(t *testing.T) {
	if (conf.Range{}).Accepts(0) != true || (conf.Range{Any: true}).Accepts(77) != true || !(conf.Range{}).IsZero() {
		t.Error("the zero range and ANY accept everything")
	}
}

func TestKeysInHexadecimal(t *testing.T) {
	c := load(t, edit(t, "correct horse battery staple", "0X00fF102030405060"))
	if k := string(c.Peers[0].Key); k != "\x00\xff\x10\x20\x30\x40\x50\x60" {
		t.Errorf("%x", k)
	}
}

func TestContinuedLinesAreOneValue(t *testing.T) {
	c := load(t, edit(t, "Transforms= AES-128-SHA2-256-GRP14\n", "Transforms= AES-128-SHA2-256-GRP14,\\\n\t3DES-SHA,\\\r\n  AES-SHA\r\n"))
	var names []string
	for _, x := range c.Peers[0].Transforms {
		names = append(names, x.Name)
	}
	if got := strings.Join(names, " "); got != "AES-128-SHA2-256-GRP14 3DES-SHA AES-SHA" {
		t.Error(got)
	}
}

// machine is a Resolver with two interfaces.
type machine struct{ noRoute bool }

func (machine) InterfaceAddrs(name string) ([]netip.Prefix, error) {
	switch name {
	case "lan0":
		return []netip.Prefix{netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("10.7.1.1/20"), netip.MustParsePrefix("fd00:7::1/56")}, nil
	case "wan0":
		return []netip.Prefix{netip.MustParsePrefix("192.0.2.1/30")}, nil
	}
	return nil, errors.New("no such interface")
}

func (m machine) DefaultInterface(bool) (string, error) {
	if m.noRoute {
		return "", errors.New("no route")
	}
	return "wan0", nil
}

func TestInterfacesForAddresses(t *testing.T) {
	const subnet = "ID-type= IPV4_ADDR_SUBNET\nNetwork= 10.1.0.0\nNetmask= 255.255.255.0\n"
	for _, x := range []struct{ id, want, err string }{
		{"ID-type= IPV4_ADDR\nAddress= lan0", "10.7.1.1/32", ""},
		{"ID-type= IPV4_ADDR\nAddress= default", "192.0.2.1/32", ""},
		{"ID-type= IPV4_ADDR_SUBNET\nNetwork= lan0\nNetmask= lan0", "10.7.0.0/20", ""},
		{"ID-type= IPV4_ADDR_SUBNET\nNetwork= lan0", "10.7.0.0/20", ""},
		{"ID-type= IPV4_ADDR_SUBNET\nNetwork= lan0\nNetmask= 255.255.255.0", "10.7.1.0/24", ""},
		{"ID-type= IPV4_ADDR_SUBNET\nNetwork= 10.9.9.9\nNetmask= default", "10.9.9.8/30", ""},
		{"ID-type= IPV4_ADDR\nAddress= eth9", "", "no such interface"},
		{"ID-type= IPV6_ADDR\nAddress= wan0", "", "no address for ID-type IPV6_ADDR"},
		{"ID-type= IPV4_ADDR\nAddress= no-such-interface-name", "", "is no IP address"},
	} {
		src := edit(t, subnet, x.id+"\n")
		c, list := conf.Load("", []byte(src), machine{})
		if x.err != "" {
			if c != nil || !strings.Contains(list.String(), x.err) {
				t.Errorf("%s: wanted %q, not:\n%s", x.id, x.err, list)
			}
			continue
		}
		if c == nil {
			t.Errorf("%s:\n%s", x.id, list)
			continue
		}
		if n := c.Connections[0].Local; n.Prefix.String() != x.want || n.Interface == "" {
			t.Errorf("%s is %+v", x.id, n)
		}
		if c, list = conf.Load("", []byte(src), nil); c == nil || c.Connections[0].Local.Prefix.IsValid() || c.Connections[0].Local.String() == "" {
			t.Errorf("%s without the machine:\n%s", x.id, list)
		}
	}
	if c, list := conf.Load("", []byte(edit(t, subnet, "ID-type= IPV4_ADDR\nAddress= default\n")), machine{noRoute: true}); c != nil || !strings.Contains(list.String(), "default route") {
		t.Errorf("without a route:\n%s", list)
	}
}

func TestSharedSADBAsksForNoReplayWindow(t *testing.T) {
	c := load(t, edit(t, "Listen-on", "Shared-SADB= yes\nListen-on"))
	if p := c.Connections[0].Suites[0].Protocols[0]; p.Replay != 0 || !c.Needs().Has(conf.FeatureSharedSADB) {
		t.Errorf("%+v, needs %s", p, c.Needs())
	}
}

func TestWhatAConnectionNeeds(t *testing.T) {
	for _, x := range []struct {
		edit []string
		want conf.Features
	}{
		{nil, 0},
		{[]string{"GRP14\n", "GRP14-RSA_SIG\n"}, conf.FeatureCertificates},
		{[]string{"ID_PROT", "AGGRESSIVE"}, conf.FeatureAggressive},
		{[]string{"Phase= 1", "Phase= 1\nFlags= ikecfg"}, conf.FeatureModeConfig},
		{[]string{"QM-ESP-AES-128-SHA2-256-PFS-GRP14", "QM-AH-SHA"}, 0},
		{[]string{"QM-ESP-AES-128-SHA2-256-PFS-GRP14", "QM-ESP-AESGCM-128"}, 0},
		{[]string{"QM-ESP-AES-128-SHA2-256-PFS-GRP14", "QM-ESP-3DES"}, conf.FeatureUnauthenticated},
		{[]string{"Phase= 2", "Phase= 2\nNAT-ID= net-east"}, conf.FeatureNATID},
		{[]string{"Phase= 2", "Phase= 2\nPF-Tag= x"}, conf.FeaturePFTag},
		{[]string{"QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE", "both", "[net-east]", "[both]\nProtocols= QM-AH-TRP-MD5,QM-ESP-AES\n[net-east]"}, 0},
	} {
		c := load(t, edit(t, x.edit...))
		if got := c.Connections[0].Needs(); got != x.want {
			t.Errorf("%q needs %q, not %q", x.edit, got, x.want)
		}
	}
}

func TestIDsAsPayloads(t *testing.T) {
	for _, x := range []struct{ id, data, words string }{
		{"ID-type= IPV4_ADDR\nAddress= 192.0.2.1", "\xc0\x00\x02\x01", "IPV4_ADDR 192.0.2.1"},
		{"ID-type= IPV4_ADDR_SUBNET\nNetwork= 10.0.0.0\nNetmask= 255.255.128.0", "\x0a\x00\x00\x00\xff\xff\x80\x00", "IPV4_ADDR_SUBNET 10.0.0.0/17"},
		{"ID-type= IPV6_ADDR\nAddress= ::1", strings.Repeat("\x00", 15) + "\x01", "IPV6_ADDR ::1"},
		{"ID-type= FQDN\nName= gw.example.org", "gw.example.org", "FQDN gw.example.org"},
		{"ID-type= USER_FQDN\nName= me@example.org", "me@example.org", "USER_FQDN me@example.org"},
		{"ID-type= KEY_ID\nName= group", "group", "KEY_ID group"},
		{"ID-type= ASN1_DN", "", "ASN1_DN"},
	} {
		c := load(t, edit(t, "Phase= 1", "Phase= 1\nID= me\n", "[quick-mode]", "[me]\n"+x.id+"\n[quick-mode]"))
		if id := c.Peers[0].ID; string(id.Data()) != x.data || id.String() != x.words {
			t.Errorf("%s is %x, %s", x.id, id.Data(), id)
		}
	}
}

func TestProtocolsAndPorts(t *testing.T) {
	c := load(t, edit(t, "Network= 10.2.0.0", "Protocol= 6\nPort= printer\nNetwork= 10.2.0.0", "Network= 10.1.0.0", "Protocol= TCP\nPort= 0\nNetwork= 10.1.0.0"))
	n := c.Connections[0]
	if n.Remote.Proto != 6 || n.Remote.Port != 515 || n.Local.Proto != 6 || n.Local.Port != 0 {
		t.Errorf("%+v %+v", n.Local, n.Remote)
	}
	if n.Suites[0].Protocols[0].Proto != ipsec.ProtoESP {
		t.Errorf("%+v", n.Suites)
	}
}

func TestPlaneOptions(t *testing.T) {
	want := conf.PlaneOptions{
		MTU: 1300, OuterMTU: 1400, DF: "copy", NoClampMSS: true, NoOffload: true, Spread: true,
		Hold: true, Hash: "24/16", Hash6: "64/48", Mark: "0x10/0xff", OutMark: "0x20/0xffffffff",
	}
	c := load(t, edit(t, "Listen-on", "Data-plane-options= Outer-MTU=1400, df = COPY, no-clamp-mss,no_offload, spread, mtu=1300,"+
		"hold, hash=24/16, hash6=64/48, mark=16/0xff, out-mark=0x20\nListen-on"))
	if c.General.PlaneOptions != want {
		t.Errorf("%+v", c.General.PlaneOptions)
	}
	if !strings.Contains(c.String(), "options of the data plane: mtu=1300, outer-mtu=1400, df=copy, no-clamp-mss, no-offload, spread, hold, hash=24/16, hash6=64/48, mark=0x10/0xff, out-mark=0x20/0xffffffff\n") {
		t.Errorf("described as\n%s", c)
	}
	again := load(t, edit(t, "Listen-on", "Data-plane-options= "+want.String()+"\nListen-on"))
	if again.General.PlaneOptions != want {
		t.Errorf("what was written down is read as %+v", again.General.PlaneOptions)
	}
}

func TestInterface(t *testing.T) {
	c := load(t, edit(t, "Phase= 2", "Phase= 2\nXFRM-interface= 4294967295"))
	if n := c.Connections[0]; n.Interface != 1<<32-1 || !strings.Contains(c.String(), "  xfrm interface: if_id 4294967295\n") {
		t.Errorf("%d in\n%s", n.Interface, c)
	}
}

func TestDataPlane(t *testing.T) {
	for text, want := range map[string]conf.DataPlane{
		"": conf.PlaneChoose, "Data-plane= auto\n": conf.PlaneChoose, "Data-plane= Kernel\n": conf.PlaneKernel,
		"Data-plane= ipsecd\n": conf.PlaneProcess, "Data-plane= ISAKMPD\n": conf.PlaneInside,
	} {
		if c := load(t, edit(t, "Listen-on", text+"Listen-on")); c.General.DataPlane != want {
			t.Errorf("%q: %s", text, c.General.DataPlane)
		}
	}
}
