package doi

// IKEAttr is an attribute class of phase 1 transforms (RFC 2409 appendix A).
type IKEAttr uint16

// Phase 1 attribute classes.
const (
	IKEEncryption   IKEAttr = 1
	IKEHash         IKEAttr = 2
	IKEAuthMethod   IKEAttr = 3
	IKEGroup        IKEAttr = 4
	IKEGroupType    IKEAttr = 5
	IKEGroupPrime   IKEAttr = 6
	IKEGroupGen1    IKEAttr = 7
	IKEGroupGen2    IKEAttr = 8
	IKEGroupCurveA  IKEAttr = 9
	IKEGroupCurveB  IKEAttr = 10
	IKELifeType     IKEAttr = 11
	IKELifeDuration IKEAttr = 12
	IKEPRF          IKEAttr = 13
	IKEKeyLength    IKEAttr = 14
	IKEFieldSize    IKEAttr = 15
	IKEGroupOrder   IKEAttr = 16
)

// IKETransformKEY is KEY_IKE, the one transform of PROTO_ISAKMP (RFC 2407
// section 4.4.2).
const IKETransformKEY uint8 = 1

// Cipher is a phase 1 encryption algorithm (RFC 2409 appendix A; 7 is AES-CBC).
type Cipher uint16

// Phase 1 encryption algorithms.
const (
	CipherDES      Cipher = 1
	CipherIDEA     Cipher = 2
	CipherBlowfish Cipher = 3
	CipherRC5      Cipher = 4
	Cipher3DES     Cipher = 5
	CipherCAST     Cipher = 6
	CipherAES      Cipher = 7
)

// Hash is a phase 1 hash algorithm (RFC 2409 appendix A; 4-6 are SHA-2).
type Hash uint16

// Phase 1 hash algorithms.
const (
	HashMD5     Hash = 1
	HashSHA1    Hash = 2
	HashTiger   Hash = 3
	HashSHA2256 Hash = 4
	HashSHA2384 Hash = 5
	HashSHA2512 Hash = 6
)

// AuthMethod is a phase 1 authentication method (RFC 2409 appendix A).
type AuthMethod uint16

// Authentication methods; those from 64221 up are of drafts that never became
// RFCs (hybrid and XAUTH).
const (
	AuthPSK           AuthMethod = 1
	AuthDSS           AuthMethod = 2
	AuthRSASig        AuthMethod = 3
	AuthRSAEnc        AuthMethod = 4
	AuthRSARevEnc     AuthMethod = 5
	AuthECDSA256      AuthMethod = 9
	AuthECDSA384      AuthMethod = 10
	AuthECDSA521      AuthMethod = 11
	AuthHybridInitRSA AuthMethod = 64221
	AuthHybridRespRSA AuthMethod = 64222
	AuthXAuthInitPSK  AuthMethod = 65001
	AuthXAuthRespPSK  AuthMethod = 65002
	AuthXAuthInitRSA  AuthMethod = 65005
	AuthXAuthRespRSA  AuthMethod = 65006
)

// Group is a Diffie-Hellman group number (RFC 2409 section 6, RFC 3526,
// RFC 5903, RFC 5114, RFC 6932; 31 is Curve25519, as peers use it).
type Group uint16

// Groups.
const (
	GroupMODP768    Group = 1
	GroupMODP1024   Group = 2
	GroupEC2N155    Group = 3
	GroupEC2N185    Group = 4
	GroupMODP1536   Group = 5
	GroupMODP2048   Group = 14
	GroupMODP3072   Group = 15
	GroupMODP4096   Group = 16
	GroupMODP6144   Group = 17
	GroupMODP8192   Group = 18
	GroupECP256     Group = 19
	GroupECP384     Group = 20
	GroupECP521     Group = 21
	GroupECP192     Group = 25
	GroupECP224     Group = 26
	GroupBP224      Group = 27
	GroupBP256      Group = 28
	GroupBP384      Group = 29
	GroupBP512      Group = 30
	GroupCurve25519 Group = 31
)

// LifeType is the unit of a life duration, the same numbers in both phases
// (RFC 2409 appendix A, RFC 2407 section 4.5).
type LifeType uint16

// Units of a life duration. A kilobyte is 1024 bytes.
const (
	LifeSeconds   LifeType = 1
	LifeKilobytes LifeType = 2
)
