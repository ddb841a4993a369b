package conf

import (
	"strings"

	"oakley/internal/doi"
)

// config1 is an ISAKMP-configuration section.
type config1 struct {
	name       string
	mode       doi.Exchange
	transforms []Phase1Transform
}

// maxTransforms is how many transforms one proposal can number (RFC 2408
// section 3.6: one byte, and nobody counts from 0).
const maxTransforms = 255

// phase1Configuration reads an ISAKMP-configuration section. The generated one
// offers 3DES-SHA, and to a peer without a key 3DES-SHA-RSA_SIG.
func (l *loader) phase1Configuration(ref value, hasKey bool) *config1 {
	v, ok := l.open(roleConfig1, ref)
	if !ok {
		return nil
	}
	list, memoName := v.get("Transforms"), fold(v.name)
	if list.text == "" && memoName == fold(defaultPhase1) {
		list = value{text: "3DES-SHA", at: v.at}
		if !hasKey {
			list.text += "-RSA_SIG"
		}
		memoName += "/" + list.text
	}
	if c, ok := l.configs1[memoName]; ok {
		return c
	}
	c := &config1{name: v.name}
	l.configs1[memoName] = c
	l.interpretation(v)
	if x, ok := l.need(v, "EXCHANGE_TYPE", "write EXCHANGE_TYPE=ID_PROT, which is main mode"); ok {
		c.mode, _ = oneOf(l, x, "EXCHANGE_TYPE of phase 1", []choice[doi.Exchange]{
			{"ID_PROT", doi.ExchangeMain}, {"AGGRESSIVE", doi.ExchangeAggressive},
		})
	}
	if list.text == "" {
		l.need(v, "Transforms", "write Transforms=AES-128-SHA2-256-GRP14, or several with commas between them")
		return c
	}
	l.readTransforms1(c, list)
	return c
}

// interpretation checks the DOI, which is IPSEC or left out.
func (l *loader) interpretation(v view) {
	if x := v.get("DOI"); x.text != "" && !strings.EqualFold(x.text, "IPSEC") {
		l.fail(x, "write DOI=IPSEC, or remove the line", "%s is no DOI of isakmpd", quote(x.text))
	}
}

func (l *loader) readTransforms1(c *config1, list value) {
	items := list.items()
	if len(items) > maxTransforms {
		l.fail(list, "the peer takes the first that it knows: the later ones are never reached", "%d transforms; a proposal has room for %d", len(items), maxTransforms)
		items = items[:maxTransforms]
	}
	if len(items) == 0 {
		l.fail(list, "write Transforms=AES-128-SHA2-256-GRP14", "this list is empty")
	}
	seen := map[string]bool{}
	weak := false
	for _, x := range items {
		if seen[fold(x.text)] {
			l.warn(x, "name it once", "%s is in this list twice", clip(x.text))
			continue
		}
		seen[fold(x.text)] = true
		t := l.transform1(x)
		if t == nil {
			continue
		}
		if len(c.transforms) > 0 && c.mode == doi.ExchangeAggressive && t.Group != c.transforms[0].Group {
			l.fail(x, "aggressive mode sends its key share with the offer: take one group, or EXCHANGE_TYPE=ID_PROT",
				"%s has group %s where %s has %s", clip(x.text), groupWord(t.Group), clip(c.transforms[0].Name), groupWord(c.transforms[0].Group))
		}
		if !weak {
			weak = l.weakCipher(x, t.Cipher == doi.CipherDES) || l.weakGroup(x, t.Group)
		}
		c.transforms = append(c.transforms, *t)
	}
}

func groupWord(g doi.Group) string {
	if g == 0 {
		return "ANY"
	}
	return g.String()
}

// weakCipher and weakGroup warn of what has been broken in public, once a list.
func (l *loader) weakCipher(x value, des bool) bool {
	if des {
		l.warn(x, "take AES where the peer can, or 3DES", "%s is single DES, which is broken in a day", clip(x.text))
	}
	return des
}

func (l *loader) weakGroup(x value, g doi.Group) bool {
	weak := g == doi.GroupMODP768
	if weak {
		l.warn(x, "take GRP14 or better where the peer can", "%s uses MODP_768, a group of a size that has been broken", clip(x.text))
	}
	return weak
}

var cipherChoices = []choice[doi.Cipher]{
	{"DES_CBC", doi.CipherDES},
	{"3DES_CBC", doi.Cipher3DES},
	{"BLOWFISH_CBC", doi.CipherBlowfish},
	{"CAST_CBC", doi.CipherCAST},
	{"AES_CBC", doi.CipherAES},
	{"ANY", 0},
}

var hashChoices = []choice[doi.Hash]{
	{"MD5", doi.HashMD5},
	{"SHA", doi.HashSHA1},
	{"SHA2_256", doi.HashSHA2256},
	{"SHA2_384", doi.HashSHA2384},
	{"SHA2_512", doi.HashSHA2512},
	{"ANY", 0},
}

var authChoices = []choice[doi.AuthMethod]{
	{"PRE_SHARED", doi.AuthPSK},
	{"RSA_SIG", doi.AuthRSASig},
	{"ANY", 0},
}

// groupChoices are the names of groups, and GRPn for each.
var groupChoices = func() []choice[doi.Group] {
	var names, numbers []choice[doi.Group]
	for _, g := range groupWords {
		names = append(names, choice[doi.Group]{g.String(), g})
		numbers = append(numbers, choice[doi.Group]{groupSuffix(g)[1:], g})
	}
	return append(names, numbers...)
}()

// transform1 reads an ISAKMP-transform section.
func (l *loader) transform1(ref value) *Phase1Transform {
	v, ok := l.open(roleTransform1, ref)
	if !ok {
		return nil
	}
	if t, ok := l.transforms1[fold(v.name)]; ok {
		return t
	}
	t := &Phase1Transform{Name: v.name}
	l.transforms1[fold(v.name)] = t
	if x, ok := l.need(v, "ENCRYPTION_ALGORITHM", "write ENCRYPTION_ALGORITHM=AES_CBC"); ok {
		t.Cipher, ok = oneOf(l, x, "ENCRYPTION_ALGORITHM", cipherChoices)
		if ok {
			t.KeyLength = l.keyLength(v, cipherKeys[t.Cipher])
		}
	}
	if x, ok := l.need(v, "HASH_ALGORITHM", "write HASH_ALGORITHM=SHA2_256"); ok {
		t.Hash, _ = oneOf(l, x, "HASH_ALGORITHM", hashChoices)
	}
	if x, ok := l.need(v, "AUTHENTICATION_METHOD", "write AUTHENTICATION_METHOD=PRE_SHARED"); ok {
		t.Auth, _ = oneOf(l, x, "AUTHENTICATION_METHOD", authChoices)
	}
	t.Group = defaultGroup
	if x := v.get("GROUP_DESCRIPTION"); isAny(x) {
		t.Group = 0
	} else if x.text != "" {
		t.Group, _ = l.group(x)
	} else {
		l.warn(v.head(), "write GROUP_DESCRIPTION=MODP_2048 or another", "transform %s names no group; %s is taken", clip(v.name), defaultGroup)
	}
	if x := v.get("PRF"); x.text != "" && !isAny(x) {
		l.warn(x, "remove the line: no PRF was ever given a number (RFC 2409 appendix A)", "PRF is ignored; HMAC with the hash is what all peers use")
	}
	t.LifeSeconds, t.LifeKilobytes = l.lifetimes(v)
	return t
}

// group reads a group's name.
func (l *loader) group(x value) (doi.Group, bool) {
	names := groupChoices[:len(groupWords)]
	for _, c := range groupChoices[len(groupWords):] {
		if strings.EqualFold(c.word, x.text) {
			return c.means, true
		}
	}
	return oneOf(l, x, "group", names)
}

// keys says which key lengths a cipher has, in bits.
type keys struct {
	fixed    bool // one length, which is never sent (RFC 2409 appendix A)
	min, max int
	step     int
	unsaid   Range // when there is no KEY_LENGTH
}

var (
	aesKeys      = keys{min: 128, max: 256, step: 64, unsaid: Range{Offer: 128, Min: 128, Max: 256}}
	blowfishKeys = keys{min: 40, max: 448, step: 8}
	castKeys     = keys{min: 40, max: 128, step: 8}
	oneKey       = keys{fixed: true}
	anyKeys      = keys{min: 40, max: 448, step: 8}
)

var cipherKeys = map[doi.Cipher]keys{
	doi.CipherDES: oneKey, doi.Cipher3DES: oneKey, doi.CipherBlowfish: blowfishKeys, doi.CipherCAST: castKeys, doi.CipherAES: aesKeys, 0: anyKeys,
}

// keyLength reads KEY_LENGTH.
func (l *loader) keyLength(v view, k keys) Range {
	x := v.get("KEY_LENGTH")
	if x.text == "" {
		return k.unsaid
	}
	if k.fixed {
		l.fail(x, "remove KEY_LENGTH: the peer would refuse it (RFC 2409 appendix A)", "this cipher has one length of key")
		return Range{}
	}
	r, ok := l.rangeOf(x, "KEY_LENGTH in bits", k.min, k.max)
	if ok && !r.Any && (r.Offer-k.min)%k.step != 0 {
		hint := "its keys have a multiple of 8 bits"
		if k.step == aesKeys.step {
			hint = "its keys have 128, 192 or 256 bits"
		}
		l.fail(x, hint, "this cipher has no key of %d bits", r.Offer)
	}
	return r
}
