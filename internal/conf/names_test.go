package conf_test

import (
	"fmt"
	"strings"
	"testing"

	"oakley/internal/conf"
	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// lengths is a range of key lengths as a test writes it.
func lengths(offer, low, high int) conf.Range { return conf.Range{Offer: offer, Min: low, Max: high} }

var (
	anyAES   = lengths(128, 128, 256)
	blowfish = lengths(128, 96, 192)
	none     conf.Range
)

type group struct {
	word string
	g    doi.Group
}

var groups = []group{
	{"", doi.GroupMODP1024},
	{"-GRP1", 1},
	{"-GRP2", 2},
	{"-GRP5", 5},
	{"-GRP14", 14},
	{"-GRP15", 15},
	{"-GRP16", 16},
	{"-GRP17", 17},
	{"-GRP18", 18},
	{"-GRP19", 19},
	{"-GRP20", 20},
	{"-GRP21", 21},
	{"-GRP25", 25},
	{"-GRP26", 26},
	{"-GRP27", 27},
	{"-GRP28", 28},
	{"-GRP29", 29},
	{"-GRP30", 30},
	{"-GRP31", 31},
}

// in255 cuts names into lists that one proposal has room for.
func in255(names []string) (lists []string) {
	for len(names) > 0 {
		n := min(len(names), 255)
		lists = append(lists, strings.Join(names[:n], ","))
		names = names[n:]
	}
	return lists
}

// TestEveryGeneratedTransformOfPhase1 spells all names out by itself and
// compares what each is with what it says.
func TestEveryGeneratedTransformOfPhase1(t *testing.T) {
	want := map[string]conf.Phase1Transform{}
	var names []string
	for _, c := range []struct {
		word string
		c    doi.Cipher
		k    conf.Range
	}{
		{"DES", doi.CipherDES, none},
		{"BLF", doi.CipherBlowfish, blowfish},
		{"3DES", doi.Cipher3DES, none},
		{"CAST", doi.CipherCAST, none},
		{"AES", doi.CipherAES, anyAES},
		{"AES-128", doi.CipherAES, lengths(128, 128, 128)},
		{"AES-192", doi.CipherAES, lengths(192, 192, 192)},
		{"AES-256", doi.CipherAES, lengths(256, 256, 256)},
	} {
		for _, h := range []struct {
			word string
			h    doi.Hash
		}{{"MD5", 1}, {"SHA", 2}, {"SHA2-256", 4}, {"SHA2-384", 5}, {"SHA2-512", 6}} {
			for _, g := range groups {
				for _, a := range []struct {
					word string
					a    doi.AuthMethod
				}{{"", doi.AuthPSK}, {"-RSA_SIG", doi.AuthRSASig}} {
					name := c.word + "-" + h.word + g.word + a.word
					names = append(names, name)
					want[name] = conf.Phase1Transform{
						Name: name, Cipher: c.c, KeyLength: c.k, Hash: h.h, Auth: a.a, Group: g.g, LifeSeconds: lengths(3600, 60, 86400),
					}
				}
			}
		}
	}
	if len(names) != 8*5*19*2 {
		t.Fatalf("%d names", len(names))
	}
	seen := 0
	for _, list := range in255(names) {
		for _, x := range load(t, edit(t, "AES-128-SHA2-256-GRP14\n", list+"\n")).Peers[0].Transforms {
			seen++
			if x != want[x.Name] {
				t.Errorf("%s is %+v", x.Name, x)
			}
		}
	}
	if seen != len(names) {
		t.Errorf("%d of %d transforms came", seen, len(names))
	}
}

// TestEveryGeneratedSuite does the same for quick mode, through all four levels:
// configuration, suite, protocol and transform.
func TestEveryGeneratedSuite(t *testing.T) {
	type alg struct {
		word string
		t    conf.Phase2Transform
	}
	var algs []alg
	hashes := []struct {
		word string
		a    doi.AuthAlg
		ah   doi.AH
	}{{"MD5", 1, 2}, {"SHA", 2, 3}, {"SHA2-256", 5, 5}, {"SHA2-384", 6, 6}, {"SHA2-512", 7, 7}, {"RIPEMD", 8, 8}}
	for _, c := range []struct {
		word string
		e    doi.ESP
		k    conf.Range
	}{
		{"DES", 2, none},
		{"3DES", 3, none},
		{"CAST", 6, none},
		{"BLF", 7, blowfish},
		{"NULL", 11, none},
		{"AES", 12, anyAES},
		{"AES-128", 12, lengths(128, 128, 128)},
		{"AES-192", 12, lengths(192, 192, 192)},
		{"AES-256", 12, lengths(256, 256, 256)},
		{"AESCTR", 13, anyAES},
		{"AESCTR-128", 13, lengths(128, 128, 128)},
		{"AESCTR-192", 13, lengths(192, 192, 192)},
		{"AESCTR-256", 13, lengths(256, 256, 256)},
		{"AESGCM-128", 20, lengths(128, 128, 128)},
		{"AESGCM-192", 20, lengths(192, 192, 192)},
		{"AESGCM-256", 20, lengths(256, 256, 256)},
		{"AESGMAC-128", 23, lengths(128, 128, 128)},
		{"AESGMAC-192", 23, lengths(192, 192, 192)},
		{"AESGMAC-256", 23, lengths(256, 256, 256)},
	} {
		esp := conf.Phase2Transform{Proto: ipsec.ProtoESP, ESP: c.e, KeyLength: c.k}
		if c.word != "NULL" {
			algs = append(algs, alg{"ESP%s-" + c.word, esp})
		}
		if c.e == 20 || c.e == 23 {
			continue
		}
		for _, h := range hashes {
			esp.Auth = h.a
			algs = append(algs, alg{"ESP%s-" + c.word + "-" + h.word, esp})
		}
	}
	for _, h := range hashes {
		algs = append(algs, alg{"AH%s-" + h.word, conf.Phase2Transform{Proto: ipsec.ProtoAH, AH: h.ah, Auth: h.a}})
	}
	total := 0
	for _, g := range append([]group{{"none", 0}}, groups...) {
		want := map[string]conf.Phase2Transform{}
		var names []string
		for _, trp := range []string{"", "-TRP"} {
			for _, a := range algs {
				base := "QM-" + fmt.Sprintf(a.word, trp)
				if g.g != 0 {
					base += "-PFS" + g.word
				}
				x := a.t
				x.Name, x.Group, x.LifeSeconds = base+"-XF", g.g, lengths(1200, 60, 86400)
				if trp != "" {
					x.Mode = ipsec.Transport
				}
				names = append(names, base+"-SUITE")
				want[base+"-SUITE"] = x
			}
		}
		for _, list := range in255(names) {
			for _, s := range load(t, edit(t, "QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE", list, "Local-ID= net-east\nRemote-ID= net-west\n", "")).Connections[0].Suites {
				total++
				x := want[s.Name]
				base := strings.TrimSuffix(s.Name, "-SUITE")
				if len(s.Protocols) != 1 || len(s.Protocols[0].Transforms) != 1 {
					t.Fatalf("%s is %+v", s.Name, s)
				}
				p := s.Protocols[0]
				if p.Name != base || p.Proto != x.Proto || p.Replay != 64 || p.Transforms[0] != x {
					t.Errorf("%s is %+v, wanted %+v", s.Name, p, x)
				}
			}
		}
	}
	if want := 20 * 2 * (12*7 + 6 + 6 + 6); total != want {
		t.Errorf("%d suites, not %d", total, want)
	}
}

func TestGeneratedNamesAreReadWithoutRegardToCase(t *testing.T) {
	c := load(t, edit(t, "AES-128-SHA2-256-GRP14\n", "aes-128-Sha2-256-grp14-rsa_sig,3des-SHA\n"))
	if x := c.Peers[0].Transforms[0]; x.Cipher != doi.CipherAES || x.Auth != doi.AuthRSASig || x.Group != 14 {
		t.Errorf("%+v", x)
	}
}

// TestNamesThatAreNotGenerated are near to those that are.
func TestNamesThatAreNotGenerated(t *testing.T) {
	for _, name := range []string{
		"QM-ESP-NULL-SUITE", "QM-AH-3DES-SHA-SUITE", "QM-AH-SUITE", "QM-ESP-AESGCM-128-SHA-SUITE", "QM-ESP-AESGCM-SUITE",
		"QM-ESP-AES-SHA-GRP14-SUITE", "QM-ESP-AES-SHA-PFS-GRP3-SUITE", "QM-ESP-AES-SHA-PFS-GRP14", "ESP-AES-SHA-SUITE", "QM-ESP-SHA-AES-SUITE",
	} {
		if c, list := conf.Load("", []byte(edit(t, "QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE", name)), nil); c != nil || list.Count(1) != 1 {
			t.Errorf("%s is taken:\n%s", name, list)
		}
	}
	for _, name := range []string{"AES-RIPEMD", "AES-SHA-GRP3", "AES-SHA-GRP22", "AES-SHA-RSA_SIG-GRP2", "3DES", "SHA", "NULL-SHA", "AES-SHA-PSK"} {
		if c, list := conf.Load("", []byte(edit(t, "AES-128-SHA2-256-GRP14\n", name+"\n")), nil); c != nil || list.Count(1) != 1 {
			t.Errorf("%s is taken:\n%s", name, list)
		}
	}
}
