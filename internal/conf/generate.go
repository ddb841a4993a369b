package conf

import (
	"strings"
)

// Generated names: what isakmpd knows without its being written down. A file
// overrides them tag by tag.

// named is one word of a generated name and the tags that it stands for.
type named struct {
	word string
	tags map[string]string
}

var mainCiphers = []named{
	{"AES-128", map[string]string{"ENCRYPTION_ALGORITHM": "AES_CBC", "KEY_LENGTH": "128,128:128"}},
	{"AES-192", map[string]string{"ENCRYPTION_ALGORITHM": "AES_CBC", "KEY_LENGTH": "192,192:192"}},
	{"AES-256", map[string]string{"ENCRYPTION_ALGORITHM": "AES_CBC", "KEY_LENGTH": "256,256:256"}},
	{"AES", map[string]string{"ENCRYPTION_ALGORITHM": "AES_CBC", "KEY_LENGTH": "128,128:256"}},
	{"3DES", map[string]string{"ENCRYPTION_ALGORITHM": "3DES_CBC"}},
	{"DES", map[string]string{"ENCRYPTION_ALGORITHM": "DES_CBC"}},
	{"BLF", map[string]string{"ENCRYPTION_ALGORITHM": "BLOWFISH_CBC", "KEY_LENGTH": "128,96:192"}},
	{"CAST", map[string]string{"ENCRYPTION_ALGORITHM": "CAST_CBC"}},
}

var hashWords = []string{"MD5", "SHA2-256", "SHA2-384", "SHA2-512", "SHA"}

// groupWords lead from the name of a group in a generated name to the tag.
var groupWords = []named{
	{"GRP14", group("MODP_2048")}, {"GRP15", group("MODP_3072")}, {"GRP16", group("MODP_4096")}, {"GRP17", group("MODP_6144")},
	{"GRP18", group("MODP_8192")}, {"GRP19", group("ECP_256")}, {"GRP20", group("ECP_384")}, {"GRP21", group("ECP_521")},
	{"GRP25", group("ECP_192")}, {"GRP26", group("ECP_224")}, {"GRP27", group("BP_224")}, {"GRP28", group("BP_256")},
	{"GRP29", group("BP_384")}, {"GRP30", group("BP_512")}, {"GRP31", group("CURVE25519")},
	{"GRP1", group("MODP_768")}, {"GRP2", group("MODP_1024")}, {"GRP5", group("MODP_1536")},
}

func group(name string) map[string]string { return map[string]string{"GROUP_DESCRIPTION": name} }

var espCiphers = []named{
	{"AES-128", map[string]string{"TRANSFORM_ID": "AES", "KEY_LENGTH": "128,128:128"}},
	{"AES-192", map[string]string{"TRANSFORM_ID": "AES", "KEY_LENGTH": "192,192:192"}},
	{"AES-256", map[string]string{"TRANSFORM_ID": "AES", "KEY_LENGTH": "256,256:256"}},
	{"AESCTR-128", map[string]string{"TRANSFORM_ID": "AES_CTR", "KEY_LENGTH": "128,128:128"}},
	{"AESCTR-192", map[string]string{"TRANSFORM_ID": "AES_CTR", "KEY_LENGTH": "192,192:192"}},
	{"AESCTR-256", map[string]string{"TRANSFORM_ID": "AES_CTR", "KEY_LENGTH": "256,256:256"}},
	{"AESCTR", map[string]string{"TRANSFORM_ID": "AES_CTR", "KEY_LENGTH": "128,128:256"}},
	{"AESGCM-128", map[string]string{"TRANSFORM_ID": "AES_GCM_16", "KEY_LENGTH": "128,128:128", combined: "yes"}},
	{"AESGCM-192", map[string]string{"TRANSFORM_ID": "AES_GCM_16", "KEY_LENGTH": "192,192:192", combined: "yes"}},
	{"AESGCM-256", map[string]string{"TRANSFORM_ID": "AES_GCM_16", "KEY_LENGTH": "256,256:256", combined: "yes"}},
	{"AESGMAC-128", map[string]string{"TRANSFORM_ID": "AES_GMAC", "KEY_LENGTH": "128,128:128", combined: "yes"}},
	{"AESGMAC-192", map[string]string{"TRANSFORM_ID": "AES_GMAC", "KEY_LENGTH": "192,192:192", combined: "yes"}},
	{"AESGMAC-256", map[string]string{"TRANSFORM_ID": "AES_GMAC", "KEY_LENGTH": "256,256:256", combined: "yes"}},
	{"AES", map[string]string{"TRANSFORM_ID": "AES", "KEY_LENGTH": "128,128:256"}},
	{"3DES", map[string]string{"TRANSFORM_ID": "3DES"}},
	{"DES", map[string]string{"TRANSFORM_ID": "DES"}},
	{"CAST", map[string]string{"TRANSFORM_ID": "CAST"}},
	{"BLF", map[string]string{"TRANSFORM_ID": "BLOWFISH", "KEY_LENGTH": "128,96:192"}},
	{"NULL", map[string]string{"TRANSFORM_ID": "NULL"}},
}

// combined marks the ciphers that authenticate on their own; it is no tag.
const combined = " combined"

var phase2Hashes = []string{"MD5", "SHA2-256", "SHA2-384", "SHA2-512", "SHA", "RIPEMD"}

// cut takes a word off the front of a name whose words are separated by
// hyphens.
func cut(name, word string) (string, bool) {
	rest, ok := strings.CutPrefix(name, word)
	switch {
	case !ok:
		return name, false
	case rest == "":
		return "", true
	case rest[0] == '-':
		return rest[1:], true
	}
	return name, false
}

func cutNamed(name string, words []named) (named, string, bool) {
	for _, w := range words {
		if rest, ok := cut(name, w.word); ok {
			return w, rest, true
		}
	}
	return named{}, name, false
}

func cutWord(name string, words []string) (string, string, bool) {
	for _, w := range words {
		if rest, ok := cut(name, w); ok {
			return w, rest, true
		}
	}
	return "", name, false
}

// generated gives the tags of a section that nobody wrote, nil when there is
// no such name.
func generated(name string, general func(tag string) string) map[string]string {
	n := strings.ToUpper(name)
	switch n {
	case "LIFE_MAIN_MODE":
		return map[string]string{"LIFE_TYPE": "SECONDS", "LIFE_DURATION": general("Default-phase-1-lifetime")}
	case "LIFE_QUICK_MODE":
		return map[string]string{"LIFE_TYPE": "SECONDS", "LIFE_DURATION": general("Default-phase-2-lifetime")}
	case "DEFAULT-PHASE-1-CONFIGURATION":
		return map[string]string{"EXCHANGE_TYPE": "ID_PROT", "Transforms": defaultTransforms}
	case "DEFAULT-PHASE-1":
		return map[string]string{"Phase": "1", "Configuration": "Default-phase-1-configuration"}
	}
	if strings.HasPrefix(n, "QM-") {
		return generatedQuick(n)
	}
	return generatedMain(n)
}

// defaultTransforms stands for 3DES-SHA where the peer has a key and for
// 3DES-SHA-RSA_SIG where it has none.
const defaultTransforms = "3DES-SHA or 3DES-SHA-RSA_SIG"

func generatedMain(n string) map[string]string {
	c, rest, ok := cutNamed(n, mainCiphers)
	if !ok {
		return nil
	}
	hash, rest, ok := cutWord(rest, hashWords)
	if !ok {
		return nil
	}
	tags := copyTags(c.tags, map[string]string{
		"HASH_ALGORITHM": strings.ReplaceAll(hash, "-", "_"), "AUTHENTICATION_METHOD": "PRE_SHARED", "GROUP_DESCRIPTION": "MODP_1024",
		"Life": "LIFE_MAIN_MODE",
	})
	if g, after, ok := cutNamed(rest, groupWords); ok {
		tags, rest = copyTags(tags, g.tags), after
	}
	if after, ok := cut(rest, "RSA_SIG"); ok {
		tags["AUTHENTICATION_METHOD"], rest = "RSA_SIG", after
	}
	if rest != "" {
		return nil
	}
	return tags
}

// generatedQuick knows suites (-SUITE), their protocols (no ending) and their
// transforms (-XF), all with one stem.
func generatedQuick(n string) map[string]string {
	stem, suite := strings.CutSuffix(n, "-SUITE")
	if suite {
		if quickTransform(stem) == nil {
			return nil
		}
		return map[string]string{"Protocols": stem}
	}
	stem, xf := strings.CutSuffix(n, "-XF")
	tags := quickTransform(stem)
	switch {
	case tags == nil:
		return nil
	case xf:
		return tags
	}
	proto := "IPSEC_ESP"
	if strings.HasPrefix(stem, "QM-AH") {
		proto = "IPSEC_AH"
	}
	return map[string]string{"PROTOCOL_ID": proto, "Transforms": stem + "-XF"}
}

func quickTransform(stem string) map[string]string {
	proto, rest, ok := cutWord(strings.TrimPrefix(stem, "QM-"), []string{"ESP", "AH"})
	if !ok {
		return nil
	}
	tags := map[string]string{"ENCAPSULATION_MODE": "TUNNEL", "Life": "LIFE_QUICK_MODE"}
	if after, ok := cut(rest, "TRP"); ok {
		tags["ENCAPSULATION_MODE"], rest = "TRANSPORT", after
	}
	needHash := true
	if proto == "ESP" {
		c, after, ok := cutNamed(rest, espCiphers)
		if !ok {
			return nil
		}
		needHash = c.tags[combined] == ""
		tags, rest = copyTags(tags, c.tags), after
		delete(tags, combined)
	}
	hash, after, have := cutWord(rest, phase2Hashes)
	if have != needHash {
		return nil
	}
	if rest = after; have {
		h := strings.ReplaceAll(hash, "-", "_")
		tags["AUTHENTICATION_ALGORITHM"] = "HMAC_" + h
		if proto == "AH" {
			tags["TRANSFORM_ID"] = h
		}
	}
	if after, ok := cut(rest, "PFS"); ok {
		rest = after
		tags["GROUP_DESCRIPTION"] = "MODP_1024"
		if g, after, ok := cutNamed(rest, groupWords); ok {
			tags, rest = copyTags(tags, g.tags), after
		}
	}
	if rest != "" {
		return nil
	}
	return tags
}

func copyTags(ms ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range ms {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// allGenerated lists every generated transform and suite, for suggestions.
func allGenerated() (transforms, suites []string) {
	for _, c := range mainCiphers {
		for _, h := range hashWords {
			transforms = append(transforms, c.word+"-"+h)
			for _, g := range groupWords {
				transforms = append(transforms, c.word+"-"+h+"-"+g.word)
			}
		}
	}
	pfs := func(stem string) {
		suites = append(suites, stem+"-SUITE", stem+"-PFS-SUITE")
		for _, g := range groupWords {
			suites = append(suites, stem+"-PFS-"+g.word+"-SUITE")
		}
	}
	for _, mode := range []string{"", "-TRP"} {
		for _, c := range espCiphers {
			if c.tags[combined] != "" {
				pfs("QM-ESP" + mode + "-" + c.word)
				continue
			}
			for _, h := range phase2Hashes {
				pfs("QM-ESP" + mode + "-" + c.word + "-" + h)
			}
		}
		for _, h := range phase2Hashes {
			pfs("QM-AH" + mode + "-" + h)
		}
	}
	return transforms, suites
}
