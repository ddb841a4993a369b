package doi

var saAttrs = map[SAAttr]string{
	SALifeType:       "SA_LIFE_TYPE",
	SALifeDuration:   "SA_LIFE_DURATION",
	SAGroup:          "GROUP_DESCRIPTION",
	SAEncapsulation:  "ENCAPSULATION_MODE",
	SAAuthentication: "AUTHENTICATION_ALGORITHM",
	SAKeyLength:      "KEY_LENGTH",
	SAKeyRounds:      "KEY_ROUNDS",
	SACompressDict:   "COMPRESS_DICTIONARY_SIZE",
	SACompressAlg:    "COMPRESS_PRIVATE_ALGORITHM",
	SAECNTunnel:      "ECN_TUNNEL",
	SAExtendedSeq:    "EXTENDED_SEQUENCE_NUMBER",
}

// String is the class's name as a configuration's tag.
func (a SAAttr) String() string { return nameOf(saAttrs, a, "attribute") }

var encapsulations = map[Encapsulation]string{
	EncapTunnel:            "TUNNEL",
	EncapTransport:         "TRANSPORT",
	EncapUDPTunnel:         "UDP_ENCAP_TUNNEL",
	EncapUDPTransport:      "UDP_ENCAP_TRANSPORT",
	EncapUDPTunnelDraft:    "UDP_ENCAP_TUNNEL_DRAFT",
	EncapUDPTransportDraft: "UDP_ENCAP_TRANSPORT_DRAFT",
}

func (e Encapsulation) String() string { return nameOf(encapsulations, e, "encapsulation") }

// ParseEncapsulation is TUNNEL, TRANSPORT or their variants in UDP.
func ParseEncapsulation(name string) (Encapsulation, bool) {
	return valueOf(encapsulations, nil, name)
}

var espTransforms = map[ESP]string{
	ESPDESIV64:     "ESP_DES_IV64",
	ESPDES:         "ESP_DES",
	ESP3DES:        "ESP_3DES",
	ESPRC5:         "ESP_RC5",
	ESPIDEA:        "ESP_IDEA",
	ESPCAST:        "ESP_CAST",
	ESPBlowfish:    "ESP_BLOWFISH",
	8:              "ESP_3IDEA",
	9:              "ESP_DES_IV32",
	10:             "ESP_RC4",
	ESPNull:        "ESP_NULL",
	ESPAES:         "ESP_AES",
	ESPAESCTR:      "ESP_AES_CTR",
	ESPAESCCM8:     "ESP_AES_CCM_8",
	ESPAESCCM12:    "ESP_AES_CCM_12",
	ESPAESCCM16:    "ESP_AES_CCM_16",
	ESPAESGCM8:     "ESP_AES_GCM_8",
	ESPAESGCM12:    "ESP_AES_GCM_12",
	ESPAESGCM16:    "ESP_AES_GCM_16",
	ESPNullAESGMAC: "ESP_NULL_AES_GMAC",

	ESPSkipjack:         "ESP_SKIPJACK",
	ESPChaCha20Poly1305: "ESP_CHACHA20_POLY1305",
}

// String is the name of RFC 2407 section 4.4.4 or of the registry.
func (e ESP) String() string { return nameOf(espTransforms, e, "ESP transform") }

// ParseESP is the ESP transform with that name, with ESP_ before it or not;
// AES_GMAC is taken too.
func ParseESP(name string) (ESP, bool) {
	return prefixed(espTransforms, map[string]ESP{"ESP_AES_GMAC": ESPNullAESGMAC}, "ESP_", name)
}

var ahTransforms = map[AH]string{
	AHMD5:        "AH_MD5",
	AHSHA1:       "AH_SHA",
	AHDES:        "AH_DES",
	AHSHA2256:    "AH_SHA2_256",
	AHSHA2384:    "AH_SHA2_384",
	AHSHA2512:    "AH_SHA2_512",
	AHRIPEMD:     "AH_RIPEMD",
	AHAESXCBC:    "AH_AES_XCBC",
	AHAESGMAC128: "AH_AES_128_GMAC",
	AHAESGMAC192: "AH_AES_192_GMAC",
	AHAESGMAC256: "AH_AES_256_GMAC",
}

// String is the name of RFC 2407 section 4.4.3 or of the registry.
func (a AH) String() string { return nameOf(ahTransforms, a, "AH transform") }

// ParseAH is the AH transform with that name, with AH_ before it or not.
func ParseAH(name string) (AH, bool) { return prefixed(ahTransforms, nil, "AH_", name) }

var ipcompTransforms = map[IPComp]string{
	IPCompOUI:     "IPCOMP_OUI",
	IPCompDeflate: "IPCOMP_DEFLATE",
	IPCompLZS:     "IPCOMP_LZS",
}

// String is the name of RFC 2407 section 4.4.5.
func (c IPComp) String() string { return nameOf(ipcompTransforms, c, "IPComp transform") }

// ParseIPComp is the IPComp transform with that name, with IPCOMP_ before it or
// not.
func ParseIPComp(name string) (IPComp, bool) { return prefixed(ipcompTransforms, nil, "IPCOMP_", name) }

var authAlgs = map[AuthAlg]string{
	AuthHMACMD5:     "HMAC_MD5",
	AuthHMACSHA1:    "HMAC_SHA",
	AuthDESMAC:      "DES_MAC",
	AuthKPDK:        "KPDK",
	AuthHMACSHA2256: "HMAC_SHA2_256",
	AuthHMACSHA2384: "HMAC_SHA2_384",
	AuthHMACSHA2512: "HMAC_SHA2_512",
	AuthHMACRIPEMD:  "HMAC_RIPEMD",
	AuthAESXCBC:     "AES_XCBC_MAC",
	AuthAESGMAC128:  "AES_128_GMAC",
	AuthAESGMAC192:  "AES_192_GMAC",
	AuthAESGMAC256:  "AES_256_GMAC",
}

func (a AuthAlg) String() string { return nameOf(authAlgs, a, "authentication algorithm") }

// ParseAuthAlg is the authentication algorithm with that name: HMAC_SHA,
// HMAC_SHA2_256.
func ParseAuthAlg(name string) (AuthAlg, bool) {
	return valueOf(authAlgs, map[string]AuthAlg{"HMAC_SHA1": AuthHMACSHA1}, name)
}
