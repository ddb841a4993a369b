package key

import (
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 RFC 2792 has DSA, and credentials that are in use are signed with it
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
)

// parsed is a principal whose text was read.
type parsed struct {
	name   string // as written, in lower case, for errors
	form   form   // its kind is never certificate: that became its key's
	public crypto.PublicKey
	bits   []byte // of a binary identifier and of a key of another algorithm
}

// parse reads a principal that is written as a key.
func parse(principal string) (*parsed, error) {
	name, text, _ := strings.Cut(principal, ":")
	name = strings.ToLower(name)
	if strings.HasPrefix(name, privatePrefix) {
		return nil, fmt.Errorf("%s: %w", name, ErrPrivate)
	}
	f, ok := keyForms[name]
	if !ok {
		return nil, fmt.Errorf("%s is the name of nobody's key: a key starts with one of %s and a colon", quoteShort(principal), names(keyForms))
	}
	bits, err := f.ascii.decode(name, text)
	if err != nil {
		return nil, err
	}
	k, err := decoders[f.kind](bits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	k.name = name
	return k, nil
}

// quoteShort is a text in quotes, with its end left out if it is long.
func quoteShort(s string) string {
	const most = 40
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q...", s[:most])
}

// decoders read the bits of each kind.
var decoders = map[kind]func([]byte) (*parsed, error){
	rsaKey:      decodeRSA,
	dsaKey:      decodeDSA,
	binaryID:    func(b []byte) (*parsed, error) { return &parsed{form: form{kind: binaryID}, bits: b}, nil },
	certificate: decodeCertificate,
	otherKey:    decodeSPKI,
}

// integers reads an ASN.1 SEQUENCE of n INTEGERs, none of them negative, and
// nothing after it.
func integers(der []byte, n int) ([]*big.Int, error) {
	var is []*big.Int
	rest, err := asn1.Unmarshal(der, &is)
	switch {
	case err != nil:
		return nil, errors.New("this is no ASN.1 SEQUENCE of INTEGERs, or its end is cut off")
	case len(rest) > 0:
		return nil, fmt.Errorf("%d bytes follow the ASN.1 SEQUENCE", len(rest))
	case len(is) != n:
		return nil, fmt.Errorf("the ASN.1 SEQUENCE has %d INTEGERs instead of %d", len(is), n)
	}
	for _, i := range is {
		if i.Sign() < 0 {
			return nil, errors.New("an INTEGER is negative")
		}
	}
	return is, nil
}

// decodeRSA reads the exponent and the modulus. RFC 2792 section 3.2 has them in
// this order; OpenBSD, and all who use PKCS #1, in the other. They cannot be
// confused: the modulus is the greater.
func decodeRSA(der []byte) (*parsed, error) {
	is, err := integers(der, 2)
	if err != nil {
		return nil, err
	}
	e, n := is[0], is[1]
	if e.Cmp(n) > 0 {
		e, n = n, e
	}
	if !e.IsInt64() || e.Int64() > math.MaxInt32 {
		return nil, fmt.Errorf("an RSA key with a public exponent of %d bits; those in use have 2 to 31", e.BitLen())
	}
	return of(&rsa.PublicKey{N: n, E: int(e.Int64())})
}

// decodeDSA reads y, p, q and g (RFC 2792 section 3.1).
func decodeDSA(der []byte) (*parsed, error) {
	is, err := integers(der, 4)
	if err != nil {
		return nil, err
	}
	return of(&dsa.PublicKey{Y: is[0], Parameters: dsa.Parameters{P: is[1], Q: is[2], G: is[3]}})
}

// certificateHead is a certificate as far as its public key (RFC 5280 section
// 4.1). Nothing else of it is of interest here, not even whether it is valid: who
// writes a certificate as a principal means its key.
type certificateHead struct {
	TBS struct {
		Version   int `asn1:"optional,explicit,default:0,tag:0"`
		Serial    *big.Int
		Algorithm asn1.RawValue
		Issuer    asn1.RawValue
		Validity  asn1.RawValue
		Subject   asn1.RawValue
		Key       asn1.RawValue
	}
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

func decodeCertificate(der []byte) (*parsed, error) {
	var c certificateHead
	rest, err := asn1.Unmarshal(der, &c)
	switch {
	case err != nil:
		return nil, errors.New("this is no X.509 certificate, or its end is cut off")
	case len(rest) > 0:
		return nil, fmt.Errorf("%d bytes follow the X.509 certificate", len(rest))
	}
	return decodeSPKI(c.TBS.Key.FullBytes)
}

// decodeSPKI reads a SubjectPublicKeyInfo. That of an RSA or DSA key is that key;
// any other is compared byte by byte.
func decodeSPKI(der []byte) (*parsed, error) {
	pub, err := x509.ParsePKIXPublicKey(der)
	if err == nil {
		return of(pub)
	}
	var info struct {
		Algorithm struct {
			ID         asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		Key asn1.BitString
	}
	rest, bad := asn1.Unmarshal(der, &info)
	switch {
	case bad != nil || len(rest) > 0:
		return nil, errors.New("this is no SubjectPublicKeyInfo, or its end is cut off")
	case info.Algorithm.ID.Equal(oidRSA) || info.Algorithm.ID.Equal(oidDSA):
		return nil, fmt.Errorf("its public key is malformed: %w", err)
	}
	return &parsed{form: form{kind: otherKey}, bits: der}, nil
}

var (
	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidDSA = asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}
)

// of makes a principal of a public key, after a look at it.
func of(pub crypto.PublicKey) (*parsed, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return &parsed{name: "rsa", form: form{kind: rsaKey}, public: pub}, checkRSA(pub)
	case *dsa.PublicKey:
		return &parsed{name: "dsa", form: form{kind: dsaKey}, public: pub}, checkDSA(pub)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("a key of type %T has no name in KeyNote: %w", pub, err)
	}
	return &parsed{name: "spki", form: form{kind: otherKey}, public: pub, bits: der}, nil
}

// encode is the inverse of the decoders, modulus first.
func (k *parsed) encode() ([]byte, error) {
	switch pub := k.public.(type) {
	case *rsa.PublicKey:
		return asn1.Marshal([]*big.Int{pub.N, big.NewInt(int64(pub.E))})
	case *dsa.PublicKey:
		return asn1.Marshal([]*big.Int{pub.Y, pub.P, pub.Q, pub.G})
	}
	return k.bits, nil
}

// checkRSA bounds what a verification with the key costs.
func checkRSA(pub *rsa.PublicKey) error {
	bits := pub.N.BitLen()
	switch {
	case bits > MaxModulus:
		return fmt.Errorf("an RSA modulus of %d bits; %d are the most", bits, MaxModulus)
	case pub.N.Sign() <= 0 || pub.N.Bit(0) == 0:
		return errors.New("an RSA modulus is odd, and this one is even")
	case pub.E < 3 || pub.E&1 == 0 || pub.E > math.MaxInt32:
		return fmt.Errorf("an RSA key with the public exponent %d; it is an odd number from 3 to 2147483647", pub.E)
	case pub.N.Cmp(big.NewInt(int64(pub.E))) <= 0:
		return errors.New("an RSA modulus that is not greater than its exponent")
	}
	return nil
}

// subgroups are the lengths of q that FIPS 186-3 knows, and OpenBSD with it.
var subgroups = map[int]bool{160: true, 224: true, 256: true}

var one = big.NewInt(1)

// checkDSA bounds what a verification with the key costs, and sees that the
// numbers can be those of DSA. Whether p and q are primes is the business of
// whoever made the key, and of nobody else.
func checkDSA(pub *dsa.PublicKey) error {
	bits := pub.P.BitLen()
	switch {
	case bits > MaxPrime:
		return fmt.Errorf("a DSA key with a p of %d bits; %d are the most", bits, MaxPrime)
	case !subgroups[pub.Q.BitLen()]:
		return fmt.Errorf("a DSA key with a q of %d bits; 160, 224 and 256 are in use", pub.Q.BitLen())
	case pub.P.Bit(0) == 0 || pub.Q.Bit(0) == 0:
		return errors.New("a DSA key whose p or q is even, and so no prime number")
	case pub.Q.Cmp(pub.P) >= 0 || new(big.Int).Mod(new(big.Int).Sub(pub.P, one), pub.Q).Sign() != 0:
		return errors.New("a DSA key whose q does not divide p - 1: are its numbers in the order y, p, q, g?")
	case !within(pub.G, pub.P) || !within(pub.Y, pub.P):
		return errors.New("a DSA key whose g or y is not between 1 and p")
	}
	return nil
}

// within tells whether 1 < x < p.
func within(x, p *big.Int) bool { return x.Cmp(one) > 0 && x.Cmp(p) < 0 }
