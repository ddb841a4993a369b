package doi

// SAAttr is an attribute class of IPsec transforms (RFC 2407 section 4.5).
type SAAttr uint16

// Phase 2 attribute classes.
const (
	SALifeType       SAAttr = 1
	SALifeDuration   SAAttr = 2
	SAGroup          SAAttr = 3
	SAEncapsulation  SAAttr = 4
	SAAuthentication SAAttr = 5
	SAKeyLength      SAAttr = 6
	SAKeyRounds      SAAttr = 7
	SACompressDict   SAAttr = 8
	SACompressAlg    SAAttr = 9
	SAECNTunnel      SAAttr = 10
	SAExtendedSeq    SAAttr = 11
)

// Encapsulation is the value of SAEncapsulation (RFC 2407 section 4.5,
// RFC 3947 section 5.1).
type Encapsulation uint16

// Encapsulation modes.
const (
	EncapTunnel            Encapsulation = 1
	EncapTransport         Encapsulation = 2
	EncapUDPTunnel         Encapsulation = 3
	EncapUDPTransport      Encapsulation = 4
	EncapUDPTunnelDraft    Encapsulation = 61443
	EncapUDPTransportDraft Encapsulation = 61444
)

// ESP is an ESP transform identifier (RFC 2407 section 4.4.4 and its registry).
type ESP uint8

// ESP transforms.
const (
	ESPDESIV64     ESP = 1
	ESPDES         ESP = 2
	ESP3DES        ESP = 3
	ESPRC5         ESP = 4
	ESPIDEA        ESP = 5
	ESPCAST        ESP = 6
	ESPBlowfish    ESP = 7
	ESPNull        ESP = 11
	ESPAES         ESP = 12
	ESPAESCTR      ESP = 13
	ESPAESCCM8     ESP = 14
	ESPAESCCM12    ESP = 15
	ESPAESCCM16    ESP = 16
	ESPAESGCM8     ESP = 18
	ESPAESGCM12    ESP = 19
	ESPAESGCM16    ESP = 20
	ESPNullAESGMAC ESP = 23
)

// ESP transforms of private use (RFC 2407 section 4.4.4 leaves 249 to 255 to
// whoever agrees on them) for ciphers that have no number in this DOI. They mean
// this only to a peer that has sent our vendor ID.
const (
	ESPSkipjack         ESP = 249
	ESPChaCha20Poly1305 ESP = 250
)

// AH is an AH transform identifier (RFC 2407 section 4.4.3 and its registry).
type AH uint8

// AH transforms.
const (
	AHMD5        AH = 2
	AHSHA1       AH = 3
	AHDES        AH = 4
	AHSHA2256    AH = 5
	AHSHA2384    AH = 6
	AHSHA2512    AH = 7
	AHRIPEMD     AH = 8
	AHAESXCBC    AH = 9
	AHAESGMAC128 AH = 11
	AHAESGMAC192 AH = 12
	AHAESGMAC256 AH = 13
)

// IPComp is an IPComp transform identifier (RFC 2407 section 4.4.5).
type IPComp uint8

// IPComp transforms.
const (
	IPCompOUI     IPComp = 1
	IPCompDeflate IPComp = 2
	IPCompLZS     IPComp = 3
)

// AuthAlg is the value of SAAuthentication (RFC 2407 section 4.5 and its
// registry).
type AuthAlg uint16

// Authentication algorithms.
const (
	AuthHMACMD5     AuthAlg = 1
	AuthHMACSHA1    AuthAlg = 2
	AuthDESMAC      AuthAlg = 3
	AuthKPDK        AuthAlg = 4
	AuthHMACSHA2256 AuthAlg = 5
	AuthHMACSHA2384 AuthAlg = 6
	AuthHMACSHA2512 AuthAlg = 7
	AuthHMACRIPEMD  AuthAlg = 8
	AuthAESXCBC     AuthAlg = 9
	AuthAESGMAC128  AuthAlg = 11
	AuthAESGMAC192  AuthAlg = 12
	AuthAESGMAC256  AuthAlg = 13
)
