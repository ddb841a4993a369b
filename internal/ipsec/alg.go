package ipsec

// Cipher is an ESP encryption algorithm as the data planes know it. The
// lengths of its keys are in CipherInfo.
type Cipher uint8

// Ciphers. CipherNone is AH's and the zero value; CipherNull is ESP's NULL
// (RFC 2410).
const (
	CipherNone Cipher = iota
	CipherNull
	CipherDES
	Cipher3DES
	CipherBlowfish
	CipherCAST
	CipherSkipjack
	CipherAESCBC
	CipherAESCTR
	CipherAESGCM8
	CipherAESGCM12
	CipherAESGCM16
	CipherAESGMAC
	CipherChaCha20Poly1305
	cipherEnd
)

// Auth is an authentication algorithm of ESP or AH.
type Auth uint8

// Authentication algorithms. AuthNone is that of combined-mode ciphers.
const (
	AuthNone Auth = iota
	AuthHMACMD5
	AuthHMACSHA1
	AuthHMACRIPEMD160
	AuthHMACSHA256
	AuthHMACSHA384
	AuthHMACSHA512
	AuthAESXCBC
	AuthAESGMAC
	authEnd
)

// CipherInfo says what is fixed about a cipher. All lengths are bytes.
type CipherInfo struct {
	Name    string // the name that logs and tables print
	MinKey  int    // shortest key, salt not counted
	MaxKey  int    // longest key, salt not counted
	KeyStep int    // key lengths are MinKey + n*KeyStep; 0: MinKey alone
	DefKey  int    // key length when nobody names one
	Salt    int    // bytes of keying material after the key (RFC 4106 section 4)
	Block   int    // block size, and what the ciphertext is padded to
	IV      int    // explicit IV in the packet
	ICV     int    // ICV of a combined mode; 0: an Auth is needed
}

var ciphers = [cipherEnd]CipherInfo{
	CipherNone:             {Name: "none"},
	CipherNull:             {Name: "NULL", Block: 4},
	CipherDES:              {Name: "DES", MinKey: 8, MaxKey: 8, DefKey: 8, Block: 8, IV: 8},
	Cipher3DES:             {Name: "3DES", MinKey: 24, MaxKey: 24, DefKey: 24, Block: 8, IV: 8},
	CipherBlowfish:         {Name: "Blowfish", MinKey: 5, MaxKey: 56, KeyStep: 1, DefKey: 16, Block: 8, IV: 8},
	CipherCAST:             {Name: "Cast-128", MinKey: 5, MaxKey: 16, KeyStep: 1, DefKey: 16, Block: 8, IV: 8},
	CipherSkipjack:         {Name: "Skipjack", MinKey: 10, MaxKey: 10, DefKey: 10, Block: 8, IV: 8},
	CipherAESCBC:           {Name: "AES (CBC)", MinKey: 16, MaxKey: 32, KeyStep: 8, DefKey: 16, Block: 16, IV: 16},
	CipherAESCTR:           {Name: "AES (CTR)", MinKey: 16, MaxKey: 32, KeyStep: 8, DefKey: 16, Salt: 4, Block: 4, IV: 8},
	CipherAESGCM8:          {Name: "AES (GCM-8)", MinKey: 16, MaxKey: 32, KeyStep: 8, DefKey: 16, Salt: 4, Block: 4, IV: 8, ICV: 8},
	CipherAESGCM12:         {Name: "AES (GCM-12)", MinKey: 16, MaxKey: 32, KeyStep: 8, DefKey: 16, Salt: 4, Block: 4, IV: 8, ICV: 12},
	CipherAESGCM16:         {Name: "AES (GCM)", MinKey: 16, MaxKey: 32, KeyStep: 8, DefKey: 16, Salt: 4, Block: 4, IV: 8, ICV: 16},
	CipherAESGMAC:          {Name: "AES (GMAC)", MinKey: 16, MaxKey: 32, KeyStep: 8, DefKey: 16, Salt: 4, Block: 4, IV: 8, ICV: 16},
	CipherChaCha20Poly1305: {Name: "ChaCha20-Poly1305", MinKey: 32, MaxKey: 32, DefKey: 32, Salt: 4, Block: 4, IV: 8, ICV: 16},
}

// Info returns what is fixed about c; an unknown cipher has the zero value and
// the name "unknown".
func (c Cipher) Info() CipherInfo {
	if c >= cipherEnd {
		return CipherInfo{Name: "unknown"}
	}
	return ciphers[c]
}

func (c Cipher) String() string { return c.Info().Name }

// KeyLenOK tells whether a key of n bytes, salt not counted, fits c.
func (c Cipher) KeyLenOK(n int) bool {
	i := c.Info()
	if n < i.MinKey || n > i.MaxKey {
		return false
	}
	return i.KeyStep == 0 || (n-i.MinKey)%i.KeyStep == 0
}

// AuthInfo says what is fixed about an authentication algorithm, in bytes.
type AuthInfo struct {
	Name string
	Key  int // key length
	ICV  int // truncated length in the packet
}

var auths = [authEnd]AuthInfo{
	AuthNone:          {Name: "none"},
	AuthHMACMD5:       {Name: "HMAC-MD5", Key: 16, ICV: 12},        // RFC 2403
	AuthHMACSHA1:      {Name: "HMAC-SHA1", Key: 20, ICV: 12},       // RFC 2404
	AuthHMACRIPEMD160: {Name: "HMAC-RIPEMD-160", Key: 20, ICV: 12}, // RFC 2857
	AuthHMACSHA256:    {Name: "HMAC-SHA2-256", Key: 32, ICV: 16},   // RFC 4868
	AuthHMACSHA384:    {Name: "HMAC-SHA2-384", Key: 48, ICV: 24},
	AuthHMACSHA512:    {Name: "HMAC-SHA2-512", Key: 64, ICV: 32},
	AuthAESXCBC:       {Name: "AES-XCBC", Key: 16, ICV: 12}, // RFC 3566
	AuthAESGMAC:       {Name: "AES-GMAC", Key: 16, ICV: 16}, // RFC 4543, AH alone
}

// Info returns what is fixed about a; an unknown algorithm has the zero value
// and the name "unknown".
func (a Auth) Info() AuthInfo {
	if a >= authEnd {
		return AuthInfo{Name: "unknown"}
	}
	return auths[a]
}

func (a Auth) String() string { return a.Info().Name }

// Comp is a compression algorithm of IPComp (RFC 3173).
type Comp uint8

// Compression algorithms. CompNone is that of SAs that are no IPComp.
const (
	CompNone    Comp = iota
	CompDeflate      // RFC 2394
)

func (c Comp) String() string {
	switch c {
	case CompNone:
		return "none"
	case CompDeflate:
		return "deflate"
	}
	return "unknown"
}

// CPIDeflate is the well-known CPI of deflate (RFC 2407 section 4.4.5 and RFC
// 3173 section 3.3), which needs no negotiation.
const CPIDeflate SPI = 2
