// Package doi holds the numbers of ISAKMP, the IPsec DOI and IKE as named
// types: RFC 2407, RFC 2408, RFC 2409 and the registries that grew from them.
//
// It has no behaviour beyond naming: every package that speaks about a number
// on the wire uses these types, so that a log line and a capture show the same
// word for it.
package doi

// IPsec is the IPsec domain of interpretation (RFC 2407 section 4.2), and
// ISAKMP the generic one (RFC 2408 section 2.2).
const (
	ISAKMP uint32 = 0
	IPsec  uint32 = 1
)

// SituationIdentityOnly is SIT_IDENTITY_ONLY, the one situation of RFC 2407
// section 4.2.1 that carries no labels.
const SituationIdentityOnly uint32 = 1

// Payload is a next-payload number (RFC 2408 section 3.1).
type Payload uint8

// Payload types; 20 and 21 are those of RFC 3947 section 3.2 and 5.2,
// the attribute payload and the fragment never became RFCs.
const (
	PayloadNone       Payload = 0
	PayloadSA         Payload = 1
	PayloadProposal   Payload = 2
	PayloadTransform  Payload = 3
	PayloadKE         Payload = 4
	PayloadID         Payload = 5
	PayloadCert       Payload = 6
	PayloadCertReq    Payload = 7
	PayloadHash       Payload = 8
	PayloadSig        Payload = 9
	PayloadNonce      Payload = 10
	PayloadNotify     Payload = 11
	PayloadDelete     Payload = 12
	PayloadVendor     Payload = 13
	PayloadAttributes Payload = 14
	PayloadNATD       Payload = 20
	PayloadNATOA      Payload = 21
	PayloadFragment   Payload = 132
)

// Exchange is an exchange type (RFC 2408 section 3.1, RFC 2409 appendix A).
type Exchange uint8

// Exchange types.
const (
	ExchangeNone          Exchange = 0
	ExchangeBase          Exchange = 1
	ExchangeMain          Exchange = 2
	ExchangeAuthOnly      Exchange = 3
	ExchangeAggressive    Exchange = 4
	ExchangeInformational Exchange = 5
	ExchangeTransaction   Exchange = 6
	ExchangeQuick         Exchange = 32
	ExchangeNewGroup      Exchange = 33
)

// Protocol is a security protocol identifier (RFC 2407 section 4.4.1).
type Protocol uint8

// Protocol identifiers.
const (
	ProtoISAKMP Protocol = 1
	ProtoAH     Protocol = 2
	ProtoESP    Protocol = 3
	ProtoIPComp Protocol = 4
)

// IDType is an identification type (RFC 2407 section 4.6.2.1).
type IDType uint8

// Identification types.
const (
	IDIPv4Addr   IDType = 1
	IDFQDN       IDType = 2
	IDUserFQDN   IDType = 3
	IDIPv4Subnet IDType = 4
	IDIPv6Addr   IDType = 5
	IDIPv6Subnet IDType = 6
	IDIPv4Range  IDType = 7
	IDIPv6Range  IDType = 8
	IDASN1DN     IDType = 9
	IDASN1GN     IDType = 10
	IDKeyID      IDType = 11
)

// CertEncoding is a certificate encoding (RFC 2408 section 3.9).
type CertEncoding uint8

// Certificate encodings; KeyNote's is the one isakmpd uses.
const (
	CertNone      CertEncoding = 0
	CertPKCS7     CertEncoding = 1
	CertPGP       CertEncoding = 2
	CertDNS       CertEncoding = 3
	CertX509Sig   CertEncoding = 4
	CertX509KeyEx CertEncoding = 5
	CertKerberos  CertEncoding = 6
	CertCRL       CertEncoding = 7
	CertARL       CertEncoding = 8
	CertSPKI      CertEncoding = 9
	CertX509Attr  CertEncoding = 10
	CertRawRSA    CertEncoding = 11
	CertKeyNote   CertEncoding = 16
)
