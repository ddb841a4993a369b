package conf

import (
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"oakley/internal/doi"
)

// tags are the values of a generated section, by folded tag name. A file
// overrides them one by one.
type tags map[string]string

// part is one word of a generated name and what it puts into the section.
type part struct {
	word string
	tags tags
	// whole says that the word stands for encryption and authentication both:
	// no hash may follow (RFC 4106, RFC 4543).
	whole bool
}

func cipherPart(word, tag, id, keyLength string) part {
	t := tags{fold(tag): id}
	if keyLength != "" {
		t["key_length"] = keyLength
	}
	return part{word: word, tags: t}
}

func aead(word, id, keyLength string) part {
	p := cipherPart(word, "TRANSFORM_ID", id, keyLength)
	p.whole = true
	return p
}

const (
	aesLengths      = "128,128:256"
	blowfishLengths = "128,96:192"
)

var mainCiphers = []part{
	cipherPart("DES", "ENCRYPTION_ALGORITHM", "DES_CBC", ""),
	cipherPart("BLF", "ENCRYPTION_ALGORITHM", "BLOWFISH_CBC", blowfishLengths),
	cipherPart("3DES", "ENCRYPTION_ALGORITHM", "3DES_CBC", ""),
	cipherPart("CAST", "ENCRYPTION_ALGORITHM", "CAST_CBC", ""),
	cipherPart("AES", "ENCRYPTION_ALGORITHM", "AES_CBC", aesLengths),
	cipherPart("AES-128", "ENCRYPTION_ALGORITHM", "AES_CBC", "128,128:128"),
	cipherPart("AES-192", "ENCRYPTION_ALGORITHM", "AES_CBC", "192,192:192"),
	cipherPart("AES-256", "ENCRYPTION_ALGORITHM", "AES_CBC", "256,256:256"),
}

var mainHashes = []string{"MD5", "SHA", "SHA2-256", "SHA2-384", "SHA2-512"}

var espCiphers = []part{
	cipherPart("DES", "TRANSFORM_ID", "DES", ""),
	cipherPart("3DES", "TRANSFORM_ID", "3DES", ""),
	cipherPart("CAST", "TRANSFORM_ID", "CAST", ""),
	cipherPart("BLF", "TRANSFORM_ID", "BLOWFISH", blowfishLengths),
	cipherPart("AES", "TRANSFORM_ID", "AES", aesLengths),
	cipherPart("AES-128", "TRANSFORM_ID", "AES", "128,128:128"),
	cipherPart("AES-192", "TRANSFORM_ID", "AES", "192,192:192"),
	cipherPart("AES-256", "TRANSFORM_ID", "AES", "256,256:256"),
	cipherPart("AESCTR", "TRANSFORM_ID", "AES_CTR", aesLengths),
	cipherPart("AESCTR-128", "TRANSFORM_ID", "AES_CTR", "128,128:128"),
	cipherPart("AESCTR-192", "TRANSFORM_ID", "AES_CTR", "192,192:192"),
	cipherPart("AESCTR-256", "TRANSFORM_ID", "AES_CTR", "256,256:256"),
	aead("AESGCM-128", "AES_GCM_16", "128,128:128"),
	aead("AESGCM-192", "AES_GCM_16", "192,192:192"),
	aead("AESGCM-256", "AES_GCM_16", "256,256:256"),
	aead("AESGMAC-128", "AES_GMAC", "128,128:128"),
	aead("AESGMAC-192", "AES_GMAC", "192,192:192"),
	aead("AESGMAC-256", "AES_GMAC", "256,256:256"),
	cipherPart("NULL", "TRANSFORM_ID", "NULL", ""),
}

var quickHashes = []string{"MD5", "SHA", "RIPEMD", "SHA2-256", "SHA2-384", "SHA2-512"}

// groupWords are the groups that a name may end in; 31 is not the original's.
var groupWords = []doi.Group{
	doi.GroupMODP768, doi.GroupMODP1024, doi.GroupMODP1536,
	doi.GroupMODP2048, doi.GroupMODP3072, doi.GroupMODP4096, doi.GroupMODP6144, doi.GroupMODP8192,
	doi.GroupECP256, doi.GroupECP384, doi.GroupECP521, doi.GroupECP192, doi.GroupECP224,
	doi.GroupBP224, doi.GroupBP256, doi.GroupBP384, doi.GroupBP512, doi.GroupCurve25519,
}

// defaultGroup is that of names without one.
const defaultGroup = doi.GroupMODP1024

// generatedNames are the generated sections of one kind. There are thousands, of
// which a file uses two or three: only those are written out.
type generatedNames struct {
	section func(key string) tags // by folded name; nil: there is none
	names   iter.Seq[string]      // in their order, for suggestions
}

// merged are the tags of all, of which the later ones count.
func merged(all ...tags) tags {
	m := tags{}
	for _, t := range all {
		maps.Copy(m, t)
	}
	return m
}

// mainTransforms are CIPHER-HASH[-GROUP][-RSA_SIG].
var mainTransforms = sync.OnceValue(func() *generatedNames {
	var names []string
	sections := map[string]func() tags{}
	for _, auth := range []struct{ suffix, method string }{{"", "PRE_SHARED"}, {"-RSA_SIG", "RSA_SIG"}} {
		for _, group := range append([]doi.Group{0}, groupWords...) {
			for _, c := range mainCiphers {
				for _, h := range mainHashes {
					name := c.word + "-" + h + groupSuffix(group) + auth.suffix
					names = append(names, name)
					sections[fold(name)] = func() tags {
						return merged(c.tags, tags{
							"hash_algorithm":        strings.ReplaceAll(h, "-", "_"),
							"authentication_method": auth.method,
							"group_description":     groupOr(group).String(),
							"life":                  lifeMain,
						})
					}
				}
			}
		}
	}
	return &generatedNames{names: slices.Values(names), section: func(key string) tags {
		if s := sections[key]; s != nil {
			return s()
		}
		return nil
	}}
})

func groupSuffix(g doi.Group) string {
	if g == 0 {
		return ""
	}
	return "-GRP" + strconv.Itoa(int(g))
}

func groupOr(g doi.Group) doi.Group {
	if g == 0 {
		return defaultGroup
	}
	return g
}

// Names of quick mode are QM-PROTO[-TRP]-CIPHER[-HASH][-PFS[-GROUP]] with an
// ending for transforms and suites.
var (
	quickTransforms = quickNames("-XF", true, func(b *quickBase) tags { return merged(b.tags[:]...) })
	quickProtocols  = quickNames("", true, func(b *quickBase) tags { return tags{"protocol_id": b.protocol(), "transforms": b.word + "-XF"} })
	quickSuites     = quickNames("-SUITE", false, func(b *quickBase) tags { return tags{"protocols": b.word} })
)

// quickNames are those with an ending; compression alone protects nothing, so that
// there is no suite of it.
func quickNames(ending string, compression bool, section func(*quickBase) tags) func() *generatedNames {
	known := func(b *quickBase) bool { return compression || b.protocol() != "IPCOMP" }
	return func() *generatedNames {
		return &generatedNames{
			section: func(key string) tags {
				word, ok := strings.CutSuffix(key, fold(ending))
				b := quickBases().words[word]
				if !ok || b == nil || !known(b) {
					return nil
				}
				return section(b)
			},
			names: func(yield func(string) bool) {
				for i := range quickBases().all {
					if b := &quickBases().all[i]; known(b) && !yield(b.word+ending) {
						return
					}
				}
			},
		}
	}
}

// quickBase is the name of a quick mode's protection and what its parts put into
// the section of its transform.
type quickBase struct {
	word string
	tags [4]tags
}

func (b *quickBase) protocol() string {
	switch {
	case strings.HasPrefix(b.word, "QM-AH-"):
		return "IPSEC_AH"
	case strings.HasPrefix(b.word, "QM-IPCOMP-"):
		return "IPCOMP"
	}
	return "IPSEC_ESP"
}

// allBases are in their order, and by folded word.
type allBases struct {
	all   []quickBase
	words map[string]*quickBase
}

// quickBases are those without PFS first, and compressions last.
var quickBases = sync.OnceValue(func() *allBases {
	q := &allBases{}
	life, algs := tags{"life": lifeQuick}, slices.Concat(espParts(), ahParts())
	for _, pfs := range pfsParts() {
		for _, mode := range []part{
			{word: "", tags: tags{"encapsulation_mode": "TUNNEL"}},
			{word: "-TRP", tags: tags{"encapsulation_mode": "TRANSPORT"}},
		} {
			for _, alg := range algs {
				proto, rest, _ := strings.Cut(alg.word, "-")
				q.all = append(q.all, quickBase{"QM-" + proto + mode.word + "-" + rest + pfs.word, [...]tags{life, alg.tags, mode.tags, pfs.tags}})
			}
		}
	}
	for _, c := range compressions {
		q.all = append(q.all, quickBase{c.word, [4]tags{c.tags}})
	}
	q.words = make(map[string]*quickBase, len(q.all))
	for i := range q.all {
		q.words[fold(q.all[i].word)] = &q.all[i]
	}
	return q
})

// compressions are for suites of several protocols: alone they protect nothing,
// so there is no suite of them. The group is that of the others.
var compressions = []part{
	{word: "QM-IPCOMP-DEFLATE", tags: tags{"transform_id": "DEFLATE", "encapsulation_mode": "TUNNEL", "life": lifeQuick}},
	{word: "QM-IPCOMP-TRP-DEFLATE", tags: tags{"transform_id": "DEFLATE", "encapsulation_mode": "TRANSPORT", "life": lifeQuick}},
}

func pfsParts() []part {
	l := []part{{word: ""}, {word: "-PFS", tags: tags{"group_description": defaultGroup.String()}}}
	for _, g := range groupWords {
		l = append(l, part{word: "-PFS" + groupSuffix(g), tags: tags{"group_description": g.String()}})
	}
	return l
}

func espParts() []part {
	var l []part
	for _, c := range espCiphers {
		if c.word != "NULL" { // neither encrypted nor authenticated is not allowed (RFC 2406 section 5)
			l = append(l, part{word: "ESP-" + c.word, tags: c.tags})
		}
		if c.whole {
			continue
		}
		for _, h := range quickHashes {
			t := tags{"authentication_algorithm": hmacName(h)}
			for k, v := range c.tags {
				t[k] = v
			}
			l = append(l, part{word: "ESP-" + c.word + "-" + h, tags: t})
		}
	}
	return l
}

func ahParts() []part {
	var l []part
	for _, h := range quickHashes {
		l = append(l, part{word: "AH-" + h, tags: tags{
			"transform_id":             strings.ReplaceAll(h, "-", "_"),
			"authentication_algorithm": hmacName(h),
		}})
	}
	return l
}

func hmacName(hash string) string { return "HMAC_" + strings.ReplaceAll(hash, "-", "_") }

// Names of the generated lifetimes and sections.
const (
	lifeMain      = "LIFE_MAIN_MODE"
	lifeQuick     = "LIFE_QUICK_MODE"
	generatedPeer = "Default-phase-1"
	defaultPhase1 = "Default-phase-1-configuration"
)

// defaults are the generated values of sections with a fixed name.
var defaults = map[string]tags{
	"general": {
		"check-interval":           "60",
		"default-phase-1-lifetime": "3600,60:86400",
		"default-phase-2-lifetime": "1200,60:86400",
		"default-phase-2-suites":   "QM-ESP-3DES-SHA-PFS-SUITE",
		"delete-sas":               "yes",
		"dpd-check-interval":       "0",
		"exchange-max-time":        "120",
		"nat-t-keepalive":          "20",
		"policy-file":              "/etc/isakmpd/isakmpd.policy",
		"pubkey-directory":         "/etc/isakmpd/pubkeys",
		"retransmits":              "3",
		"use-keynote":              "yes",
	},
	"keynote": {"credential-directory": "/etc/isakmpd/keynote/"},
	"x509-certificates": {
		"ca-directory":          "/etc/isakmpd/ca/",
		"cert-directory":        "/etc/isakmpd/certs/",
		"crl-directory":         "/etc/isakmpd/crls/",
		"private-key":           "/etc/isakmpd/private/local.key",
		"private-key-directory": "/etc/isakmpd/private/",
	},
	fold(generatedPeer): {"phase": "1", "configuration": defaultPhase1},
	// Its Transforms depend on the peer: see phase1Configuration.
	fold(defaultPhase1): {"doi": "IPSEC", "exchange_type": "ID_PROT"},
}
