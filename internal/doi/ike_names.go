package doi

import "strings"

var ikeAttrs = map[IKEAttr]string{
	IKEEncryption:   "ENCRYPTION_ALGORITHM",
	IKEHash:         "HASH_ALGORITHM",
	IKEAuthMethod:   "AUTHENTICATION_METHOD",
	IKEGroup:        "GROUP_DESCRIPTION",
	IKEGroupType:    "GROUP_TYPE",
	IKEGroupPrime:   "GROUP_PRIME",
	IKEGroupGen1:    "GROUP_GENERATOR_1",
	IKEGroupGen2:    "GROUP_GENERATOR_2",
	IKEGroupCurveA:  "GROUP_CURVE_A",
	IKEGroupCurveB:  "GROUP_CURVE_B",
	IKELifeType:     "LIFE_TYPE",
	IKELifeDuration: "LIFE_DURATION",
	IKEPRF:          "PRF",
	IKEKeyLength:    "KEY_LENGTH",
	IKEFieldSize:    "FIELD_SIZE",
	IKEGroupOrder:   "GROUP_ORDER",
}

// String is the class's name as a configuration's tag.
func (a IKEAttr) String() string { return nameOf(ikeAttrs, a, "attribute") }

var ciphers = map[Cipher]string{
	CipherDES:      "DES_CBC",
	CipherIDEA:     "IDEA_CBC",
	CipherBlowfish: "BLOWFISH_CBC",
	CipherRC5:      "RC5_R16_B64_CBC",
	Cipher3DES:     "3DES_CBC",
	CipherCAST:     "CAST_CBC",
	CipherAES:      "AES_CBC",
}

func (c Cipher) String() string { return nameOf(ciphers, c, "cipher") }

// ParseCipher is the phase 1 cipher with that name: 3DES_CBC, AES_CBC.
func ParseCipher(name string) (Cipher, bool) {
	return valueOf(ciphers, map[string]Cipher{"RC5_CBC": CipherRC5}, name)
}

var hashes = map[Hash]string{
	HashMD5:     "MD5",
	HashSHA1:    "SHA",
	HashTiger:   "TIGER",
	HashSHA2256: "SHA2_256",
	HashSHA2384: "SHA2_384",
	HashSHA2512: "SHA2_512",
}

func (h Hash) String() string { return nameOf(hashes, h, "hash") }

// ParseHash is the phase 1 hash with that name: SHA, SHA2_256.
func ParseHash(name string) (Hash, bool) {
	return valueOf(hashes, map[string]Hash{"SHA1": HashSHA1}, name)
}

var authMethods = map[AuthMethod]string{
	AuthPSK:           "PRE_SHARED",
	AuthDSS:           "DSS",
	AuthRSASig:        "RSA_SIG",
	AuthRSAEnc:        "RSA_ENC",
	AuthRSARevEnc:     "RSA_ENC_REV",
	AuthECDSA256:      "ECDSA_256",
	AuthECDSA384:      "ECDSA_384",
	AuthECDSA521:      "ECDSA_521",
	AuthHybridInitRSA: "HYBRID_INIT_RSA",
	AuthHybridRespRSA: "HYBRID_RESP_RSA",
	64223:             "HYBRID_INIT_DSS",
	64224:             "HYBRID_RESP_DSS",
	AuthXAuthInitPSK:  "XAUTH_INIT_PRE_SHARED",
	AuthXAuthRespPSK:  "XAUTH_RESP_PRE_SHARED",
	65003:             "XAUTH_INIT_DSS",
	65004:             "XAUTH_RESP_DSS",
	AuthXAuthInitRSA:  "XAUTH_INIT_RSA",
	AuthXAuthRespRSA:  "XAUTH_RESP_RSA",
}

// String is the method's name in a configuration; Words is its name for people.
func (a AuthMethod) String() string { return nameOf(authMethods, a, "authentication method") }

var authWords = map[AuthMethod]string{
	AuthPSK:           "pre-shared key",
	AuthDSS:           "DSS signatures",
	AuthRSASig:        "RSA signatures",
	AuthRSAEnc:        "RSA encryption",
	AuthRSARevEnc:     "revised RSA encryption",
	AuthECDSA256:      "ECDSA signatures on P-256",
	AuthECDSA384:      "ECDSA signatures on P-384",
	AuthECDSA521:      "ECDSA signatures on P-521",
	AuthHybridInitRSA: "hybrid, RSA signatures, from the initiator",
	AuthHybridRespRSA: "hybrid, RSA signatures, from the responder",
	AuthXAuthInitPSK:  "pre-shared key and XAUTH of the initiator",
	AuthXAuthRespPSK:  "pre-shared key and XAUTH of the responder",
	AuthXAuthInitRSA:  "RSA signatures and XAUTH of the initiator",
	AuthXAuthRespRSA:  "RSA signatures and XAUTH of the responder",
}

// Words is the method's name in sentences: "pre-shared key".
func (a AuthMethod) Words() string { return nameOf(authWords, a, "authentication method") }

// ParseAuthMethod is the authentication method with that name: PRE_SHARED,
// RSA_SIG.
func ParseAuthMethod(name string) (AuthMethod, bool) { return valueOf(authMethods, nil, name) }

var groups = map[Group]string{
	GroupMODP768:    "MODP_768",
	GroupMODP1024:   "MODP_1024",
	GroupEC2N155:    "EC2N_155",
	GroupEC2N185:    "EC2N_185",
	GroupMODP1536:   "MODP_1536",
	GroupMODP2048:   "MODP_2048",
	GroupMODP3072:   "MODP_3072",
	GroupMODP4096:   "MODP_4096",
	GroupMODP6144:   "MODP_6144",
	GroupMODP8192:   "MODP_8192",
	GroupECP256:     "ECP_256",
	GroupECP384:     "ECP_384",
	GroupECP521:     "ECP_521",
	GroupECP192:     "ECP_192",
	GroupECP224:     "ECP_224",
	GroupBP224:      "BP_224",
	GroupBP256:      "BP_256",
	GroupBP384:      "BP_384",
	GroupBP512:      "BP_512",
	GroupCurve25519: "CURVE25519",
}

func (g Group) String() string { return nameOf(groups, g, "group") }

// ParseGroup is the group with that name (MODP_1024, ECP_256, BP_256,
// CURVE25519), or with the name GRP2 that generated transforms have.
func ParseGroup(name string) (Group, bool) {
	if n, ok := strings.CutPrefix(plain(name), "GRP"); ok {
		for g := range groups {
			if n == decimal(g) {
				return g, true
			}
		}
		return 0, false
	}
	return valueOf(groups, nil, name)
}

var lifeTypes = map[LifeType]string{
	LifeSeconds:   "SECONDS",
	LifeKilobytes: "KILOBYTES",
}

func (l LifeType) String() string { return nameOf(lifeTypes, l, "life type") }

// ParseLifeType is SECONDS or KILOBYTES.
func ParseLifeType(name string) (LifeType, bool) { return valueOf(lifeTypes, nil, name) }
