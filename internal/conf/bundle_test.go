package conf_test

import (
	"strings"
	"testing"

	"oakley/internal/conf"
	"oakley/internal/diag"
	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

const soundSuite = "QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE"

// withSuite is the sound file with a suite of its own and the sections that it
// needs.
func withSuite(t *testing.T, protocols, more string, pairs ...string) string {
	t.Helper()
	return edit(t, append([]string{soundSuite, "mine", "[net-east]", "[mine]\nProtocols= " + protocols + "\n" + more + "\n[net-east]"}, pairs...)...)
}

// transform is a protocol "p" with one transform.
func transform(id, tags string) string {
	return "[p]\nPROTOCOL_ID= " + id + "\nTransforms= x\n[x]\n" + tags
}

func TestBundles(t *testing.T) {
	const (
		esp, ah, comp = ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPComp
		hosts         = "Local-ID= net-east\nRemote-ID= net-west\n"
	)
	for _, x := range []struct {
		protocols string
		want      []ipsec.Proto
		transport bool
		edit      []string
	}{
		{"QM-AH-SHA,QM-ESP-AES-SHA", []ipsec.Proto{ah, esp}, false, nil},
		{"QM-ESP-AES,QM-AH-SHA2-256", []ipsec.Proto{esp, ah}, false, nil},
		{"QM-ESP-AES-SHA,QM-AH-TRP-SHA", []ipsec.Proto{esp, ah}, false, nil},
		{"QM-IPCOMP-DEFLATE,QM-ESP-AES-SHA-PFS-GRP14", []ipsec.Proto{comp, esp}, false, nil},
		{"qm-ah-md5,qm-ipcomp-deflate,qm-esp-trp-aes-sha", []ipsec.Proto{ah, comp, esp}, false, nil},
		{"QM-IPCOMP-TRP-DEFLATE,QM-ESP-TRP-AES-SHA,QM-AH-TRP-SHA", []ipsec.Proto{comp, esp, ah}, true, []string{hosts, ""}},
	} {
		c := load(t, withSuite(t, x.protocols, "", x.edit...))
		s := c.Connections[0].Suites[0]
		var got []ipsec.Proto
		for _, p := range s.Protocols {
			got = append(got, p.Proto)
		}
		if len(got) != len(x.want) {
			t.Fatalf("%s: %v", x.protocols, got)
		}
		for i := range got {
			if got[i] != x.want[i] {
				t.Errorf("%s: %v", x.protocols, got)
			}
		}
		if s.Transport() != x.transport || s.Needs() != 0 {
			t.Errorf("%s: transport %t, needs %s", x.protocols, s.Transport(), s.Needs())
		}
	}
}

func TestTransformsWithoutAGeneratedName(t *testing.T) {
	fixed := func(n int) conf.Range { return conf.Range{Offer: n, Min: n, Max: n} }
	any := conf.Range{Offer: 128, Min: 128, Max: 256}
	for _, x := range []struct {
		id, tags string
		want     conf.Phase2Transform
	}{
		{"IPSEC_ESP", "TRANSFORM_ID= AES_GCM_8\nKEY_LENGTH= 256", conf.Phase2Transform{ESP: doi.ESPAESGCM8, KeyLength: fixed(256)}},
		{"IPSEC_ESP", "TRANSFORM_ID= ESP_AES_GCM_12", conf.Phase2Transform{ESP: doi.ESPAESGCM12, KeyLength: any}},
		{"IPSEC_ESP", "TRANSFORM_ID= CHACHA20_POLY1305", conf.Phase2Transform{ESP: doi.ESPChaCha20Poly1305}},
		{"IPSEC_ESP", "TRANSFORM_ID= SKIPJACK\nAUTHENTICATION_ALGORITHM= HMAC_SHA", conf.Phase2Transform{ESP: doi.ESPSkipjack, Auth: doi.AuthHMACSHA1}},
		{"IPSEC_ESP", "TRANSFORM_ID= CAST\nKEY_LENGTH= 80\nAUTHENTICATION_ALGORITHM= HMAC_MD5", conf.Phase2Transform{ESP: doi.ESPCAST, KeyLength: fixed(80), Auth: doi.AuthHMACMD5}},
		{"IPSEC_ESP", "TRANSFORM_ID= BLOWFISH\nKEY_LENGTH= 448\nAUTHENTICATION_ALGORITHM= HMAC_RIPEMD", conf.Phase2Transform{ESP: doi.ESPBlowfish, KeyLength: fixed(448), Auth: doi.AuthHMACRIPEMD}},
		{"IPSEC_ESP", "TRANSFORM_ID= AES\nAUTHENTICATION_ALGORITHM= AES_XCBC_MAC\nEXTENDED_SEQUENCE_NUMBERS= yes", conf.Phase2Transform{ESP: doi.ESPAES, KeyLength: any, Auth: doi.AuthAESXCBC, ESN: true}},
		{"IPSEC_AH", "TRANSFORM_ID= AES_XCBC", conf.Phase2Transform{AH: doi.AHAESXCBC, Auth: doi.AuthAESXCBC}},
		{"IPSEC_AH", "TRANSFORM_ID= AES_256_GMAC\nAUTHENTICATION_ALGORITHM= AES_256_GMAC\nEXTENDED_SEQUENCE_NUMBERS= no", conf.Phase2Transform{AH: doi.AHAESGMAC256, Auth: doi.AuthAESGMAC256}},
		{"IPSEC_AH", "TRANSFORM_ID= AH_RIPEMD\nEXTENDED_SEQUENCE_NUMBERS= Yes", conf.Phase2Transform{AH: doi.AHRIPEMD, Auth: doi.AuthHMACRIPEMD, ESN: true}},
	} {
		s := load(t, withSuite(t, "p", transform(x.id, x.tags))).Connections[0].Suites[0]
		x.want.Name, x.want.Proto = "x", s.Protocols[0].Proto
		if got := s.Protocols[0].Transforms[0]; got != x.want {
			t.Errorf("%s: %+v, wanted %+v", x.tags, got, x.want)
		}
	}
}

// TestMistakesInBundles is TestMistakes for what protocols have to do with each
// other.
func TestMistakesInBundles(t *testing.T) {
	for name, x := range map[string]struct {
		src               string
		at, summary, hint string
	}{
		"compression alone":       {withSuite(t, "QM-IPCOMP-DEFLATE", ""), "QM-IPCOMP-DEFLATE", "does not protect", "ESP or AH"},
		"no suite of compression": {edit(t, soundSuite, "QM-IPCOMP-DEFLATE-SUITE"), "QM-IPCOMP-DEFLATE-SUITE", "no section", ""},
		"tunnel around transport": {withSuite(t, "QM-ESP-TRP-AES-SHA,QM-AH-SHA", ""), "QM-ESP-TRP-AES-SHA,QM-AH-SHA", "around transport mode in QM-ESP-TRP-AES-SHA", "innermost"},
		"twice":                   {withSuite(t, "QM-AH-SHA,QM-AH-MD5", ""), "QM-AH-MD5", "has ah twice", "alternatives"},
		"two groups":              {withSuite(t, "QM-ESP-AES-SHA-PFS-GRP14,QM-AH-SHA", ""), "mine", "with PFS", ""},
		"a compression with keys": {withSuite(t, "QM-ESP-AES-SHA,p", transform("IPCOMP", "TRANSFORM_ID= DEFLATE\nKEY_LENGTH= 128")), "128", "no key", "remove KEY_LENGTH"},
		"an unknown compression":  {withSuite(t, "QM-ESP-AES-SHA,p", transform("IPCOMP", "TRANSFORM_ID= LZS")), "LZS", "no TRANSFORM_ID of IPComp", "DEFLATE"},
		"an unknown protocol":     {withSuite(t, "p", transform("IPSEC_IPCOMP", "TRANSFORM_ID= DEFLATE")), "IPSEC_IPCOMP", "no PROTOCOL_ID", "IPCOMP"},
		"neither yes nor no":      {withSuite(t, "p", transform("IPSEC_ESP", "TRANSFORM_ID= AES_GCM_16\nEXTENDED_SEQUENCE_NUMBERS= 64")), "64", "EXTENDED_SEQUENCE_NUMBERS", "yes or no"},
		"GMAC behind a cipher":    {withSuite(t, "p", transform("IPSEC_ESP", "TRANSFORM_ID= AES\nAUTHENTICATION_ALGORITHM= AES_128_GMAC")), "AES_128_GMAC", "AH alone", "AES_GMAC"},
		"AH with a key length":    {withSuite(t, "p", transform("IPSEC_AH", "TRANSFORM_ID= AES_128_GMAC\nKEY_LENGTH= 128")), "128", "no cipher", "remove"},
		"transport of networks":   {edit(t, soundSuite, "QM-ESP-TRP-AES-SHA-SUITE", "Local-ID= net-east\n", ""), "net-west", "Remote-ID is 10.2.0.0/24", "remove Remote-ID"},
		"transport past the peer": {edit(t, soundSuite, "QM-ESP-TRP-AES-SHA-SUITE", "Local-ID= net-east\n", "", "IPV4_ADDR_SUBNET\nNetwork= 10.2.0.0\nNetmask= 255.255.255.0", "IPV4_ADDR\nAddress= 192.0.2.3"), "net-west", "Remote-ID is 192.0.2.3", "the peer's address"},
	} {
		t.Run(name, func(t *testing.T) {
			c, list := conf.Load("test.conf", []byte(x.src), nil)
			if c != nil || list.Count(diag.Error) != 1 {
				t.Fatalf("one mistake, and this is said:\n%s", list)
			}
			for _, d := range list {
				if d.Severity == diag.Error && (underlined(d) != x.at || !strings.Contains(d.Summary, x.summary) || !strings.Contains(d.Hint, x.hint)) {
					t.Errorf("wanted %q at %q with the hint %q:\n%s", x.summary, x.at, x.hint, list)
				}
			}
		})
	}
}
