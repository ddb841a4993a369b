package doi

var payloads = map[Payload]string{
	PayloadNone:       "NONE",
	PayloadSA:         "SA",
	PayloadProposal:   "PROPOSAL",
	PayloadTransform:  "TRANSFORM",
	PayloadKE:         "KE",
	PayloadID:         "ID",
	PayloadCert:       "CERT",
	PayloadCertReq:    "CERT_REQ",
	PayloadHash:       "HASH",
	PayloadSig:        "SIG",
	PayloadNonce:      "NONCE",
	PayloadNotify:     "NOTIFY",
	PayloadDelete:     "DELETE",
	PayloadVendor:     "VENDOR",
	PayloadAttributes: "ATTRIBUTE",
	PayloadNATD:       "NAT-D",
	PayloadNATOA:      "NAT-OA",
	130:               "NAT-D_DRAFT",
	131:               "NAT-OA_DRAFT",
	PayloadFragment:   "FRAGMENT",
}

// String is the payload's name. Those that version 2 alone has (RFC 7296 section
// 3.2) say so: a peer that sends them here is confused.
func (p Payload) String() string {
	if p >= 33 && p <= 54 {
		return nameOf(nil, p, "IKEv2 payload")
	}
	return nameOf(payloads, p, "payload")
}

var exchanges = map[Exchange]string{
	ExchangeNone:          "NONE",
	ExchangeBase:          "BASE",
	ExchangeMain:          "ID_PROT",
	ExchangeAuthOnly:      "AUTH_ONLY",
	ExchangeAggressive:    "AGGRESSIVE",
	ExchangeInformational: "INFO",
	ExchangeTransaction:   "TRANSACTION",
	ExchangeQuick:         "QUICK_MODE",
	ExchangeNewGroup:      "NEW_GROUP_MODE",
}

// String is the exchange's name as a configuration says it; Words is its name
// for people.
func (e Exchange) String() string { return nameOf(exchanges, e, "exchange") }

var exchangeWords = map[Exchange]string{
	ExchangeNone:          "no exchange",
	ExchangeBase:          "base exchange",
	ExchangeMain:          "main mode",
	ExchangeAuthOnly:      "authentication only exchange",
	ExchangeAggressive:    "aggressive mode",
	ExchangeInformational: "informational exchange",
	ExchangeTransaction:   "transaction exchange",
	ExchangeQuick:         "quick mode",
	ExchangeNewGroup:      "new group mode",
}

// Words is the exchange's name in sentences: "main mode".
func (e Exchange) Words() string { return nameOf(exchangeWords, e, "exchange type") }

// ParseExchange is the exchange with that name in a configuration: ID_PROT,
// AGGRESSIVE, QUICK_MODE.
func ParseExchange(name string) (Exchange, bool) { return valueOf(exchanges, nil, name) }

var protocols = map[Protocol]string{
	ProtoISAKMP: "ISAKMP",
	ProtoAH:     "IPSEC_AH",
	ProtoESP:    "IPSEC_ESP",
	ProtoIPComp: "IPCOMP",
}

func (p Protocol) String() string { return nameOf(protocols, p, "protocol") }

// ParseProtocol is the protocol with that name: ISAKMP, IPSEC_AH, IPSEC_ESP,
// IPCOMP, with PROTO_ of RFC 2407 section 4.4.1 before it or not.
func ParseProtocol(name string) (Protocol, bool) {
	return valueOf(protocols, map[string]Protocol{
		"PROTO_ISAKMP":    ProtoISAKMP,
		"PROTO_IPSEC_AH":  ProtoAH,
		"PROTO_IPSEC_ESP": ProtoESP,
		"PROTO_IPCOMP":    ProtoIPComp,
	}, name)
}

var idTypes = map[IDType]string{
	IDIPv4Addr:   "IPV4_ADDR",
	IDFQDN:       "FQDN",
	IDUserFQDN:   "USER_FQDN",
	IDIPv4Subnet: "IPV4_ADDR_SUBNET",
	IDIPv6Addr:   "IPV6_ADDR",
	IDIPv6Subnet: "IPV6_ADDR_SUBNET",
	IDIPv4Range:  "IPV4_ADDR_RANGE",
	IDIPv6Range:  "IPV6_ADDR_RANGE",
	IDASN1DN:     "ASN1_DN",
	IDASN1GN:     "ASN1_GN",
	IDKeyID:      "KEY_ID",
}

// String is the type's name in a configuration: that of RFC 2407 section
// 4.6.2.1 without DER_ and ID_.
func (t IDType) String() string { return nameOf(idTypes, t, "ID type") }

// ParseIDType is the ID type with that name; DER_ASN1_DN and DER_ASN1_GN are
// taken too.
func ParseIDType(name string) (IDType, bool) {
	return valueOf(idTypes, map[string]IDType{
		"DER_ASN1_DN": IDASN1DN,
		"DER_ASN1_GN": IDASN1GN,
	}, name)
}

var certEncodings = map[CertEncoding]string{
	CertNone:      "NONE",
	CertPKCS7:     "PKCS7",
	CertPGP:       "PGP",
	CertDNS:       "DNS",
	CertX509Sig:   "X509_SIG",
	CertX509KeyEx: "X509_KE",
	CertKerberos:  "KERBEROS",
	CertCRL:       "CRL",
	CertARL:       "ARL",
	CertSPKI:      "SPKI",
	CertX509Attr:  "X509_ATTR",
	CertRawRSA:    "RAW_RSA",
	CertKeyNote:   "KEYNOTE",
}

func (c CertEncoding) String() string { return nameOf(certEncodings, c, "certificate encoding") }
