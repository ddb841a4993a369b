package policy

import "oakley/internal/doi"

// algorithm is what the attributes say of a transform of ESP.
type algorithm struct{ name, mode string }

// The values of esp_enc_alg and esp_enc_mode. Numbers without a name in package
// doi are of RFC 2407 section 4.4.4.
var espAlgorithms = map[doi.ESP]algorithm{
	doi.ESPDESIV64:          {"des-iv64", "cbc"},
	doi.ESPDES:              {"des", "cbc"},
	doi.ESP3DES:             {"3des", "cbc"},
	doi.ESPRC5:              {"rc5", "cbc"},
	doi.ESPIDEA:             {"idea", "cbc"},
	doi.ESPCAST:             {"cast", "cbc"},
	doi.ESPBlowfish:         {"blowfish", "cbc"},
	8:                       {"3idea", "cbc"},
	9:                       {"des-iv32", "cbc"},
	10:                      {"rc4", ""},
	doi.ESPNull:             {"null", ""},
	doi.ESPAES:              {"aes", "cbc"},
	doi.ESPAESCTR:           {"aes", "ctr"},
	doi.ESPAESCCM8:          {"aes", "ccm"},
	doi.ESPAESCCM12:         {"aes", "ccm"},
	doi.ESPAESCCM16:         {"aes", "ccm"},
	doi.ESPAESGCM8:          {"aes", "gcm"},
	doi.ESPAESGCM12:         {"aes", "gcm"},
	doi.ESPAESGCM16:         {"aes", "gcm"},
	doi.ESPNullAESGMAC:      {"aes", "gmac"},
	doi.ESPSkipjack:         {"skipjack", "cbc"},
	doi.ESPChaCha20Poly1305: {"chacha20-poly1305", ""},
}

// The values of ah_hash_alg.
var ahHashes = map[doi.AH]string{
	doi.AHMD5:        "md5",
	doi.AHSHA1:       "sha",
	doi.AHDES:        "des",
	doi.AHSHA2256:    "sha2-256",
	doi.AHSHA2384:    "sha2-384",
	doi.AHSHA2512:    "sha2-512",
	doi.AHRIPEMD:     "ripemd",
	doi.AHAESXCBC:    "aes-xcbc",
	doi.AHAESGMAC128: "aes-gmac",
	doi.AHAESGMAC192: "aes-gmac",
	doi.AHAESGMAC256: "aes-gmac",
}

// The values of ah_auth_alg and esp_auth_alg.
var authAlgorithms = map[doi.AuthAlg]string{
	doi.AuthHMACMD5:     "hmac-md5",
	doi.AuthHMACSHA1:    "hmac-sha",
	doi.AuthDESMAC:      "des-mac",
	doi.AuthKPDK:        "kpdk",
	doi.AuthHMACSHA2256: "hmac-sha2-256",
	doi.AuthHMACSHA2384: "hmac-sha2-384",
	doi.AuthHMACSHA2512: "hmac-sha2-512",
	doi.AuthHMACRIPEMD:  "hmac-ripemd",
	doi.AuthAESXCBC:     "aes-xcbc-mac",
	doi.AuthAESGMAC128:  "aes-gmac",
	doi.AuthAESGMAC192:  "aes-gmac",
	doi.AuthAESGMAC256:  "aes-gmac",
}

// The values of comp_alg.
var compressions = map[doi.IPComp]string{
	doi.IPCompOUI:     "oui",
	doi.IPCompDeflate: "deflate",
	doi.IPCompLZS:     "lzs",
	4:                 "v42bis",
}

// The values of phase_1.
var phase1Exchanges = map[doi.Exchange]string{
	doi.ExchangeMain:       "main",
	doi.ExchangeAggressive: "aggressive",
}
