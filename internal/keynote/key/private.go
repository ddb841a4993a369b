package key

import (
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 RFC 2792 has DSA, and credentials that are in use are signed with it
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
)

// ParsePrivate reads a private key: "private-rsa-hex:" and its like, without
// quotes, or PEM, in which OpenBSD wants the keys of sig-x509. It returns an
// *rsa.PrivateKey or a *dsa.PrivateKey. No error contains anything of the key.
func ParsePrivate(text string) (crypto.PrivateKey, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("a private key of %d characters; %d are the most that any needs", len(text), MaxText)
	}
	if block, _ := pem.Decode([]byte(text)); block != nil {
		return parsePEM(block)
	}
	name, rest, _ := strings.Cut(text, ":")
	name = strings.ToLower(strings.TrimSpace(name))
	public, private := strings.CutPrefix(name, privatePrefix)
	f, known := keyForms[public]
	decode := privateDecoders[f.kind]
	switch {
	case known && !private:
		return nil, fmt.Errorf("%s is a public key, and the private one belongs here", name)
	case !known || decode == nil:
		return nil, errors.New("this is no private key: it starts with one of private-rsa-hex, private-rsa-base64, private-dsa-hex, private-dsa-base64 and a colon, or it is PEM")
	}
	der, err := f.ascii.decode(name, rest)
	if err != nil {
		// The decoders quote the character that they stumble over; of a
		// private key that is too much.
		return nil, fmt.Errorf("%s: what follows the colon is not %s, or its end is cut off", name, asciiNames[f.ascii])
	}
	k, err := decode(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return k, nil
}

var asciiNames = map[ascii]string{hexadecimal: "hexadecimal", base64: "base64"}

var privateDecoders = map[kind]func([]byte) (crypto.PrivateKey, error){
	rsaKey: decodePrivateRSA,
	dsaKey: decodePrivateDSA,
}

// pemTypes are the kinds of PEM that hold one private key.
var pemTypes = map[string]func([]byte) (crypto.PrivateKey, error){
	"RSA PRIVATE KEY": decodePrivateRSA,
	"DSA PRIVATE KEY": decodePrivateDSA,
	"PRIVATE KEY":     decodePKCS8,
}

func parsePEM(block *pem.Block) (crypto.PrivateKey, error) {
	decode, ok := pemTypes[block.Type]
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, errors.New("the PEM file is encrypted, and nobody can be asked for its passphrase here; decrypt it first (\"openssl pkey -in FILE\")")
	case !ok:
		return nil, fmt.Errorf("the PEM file has a block %q instead of one of %s", block.Type, names(pemTypes))
	}
	k, err := decode(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s in PEM: %w", block.Type, err)
	}
	return k, nil
}

// decodePrivateRSA reads PKCS #1's RSAPrivateKey.
func decodePrivateRSA(der []byte) (crypto.PrivateKey, error) {
	is, err := integers(der, 9)
	if err != nil {
		return nil, err
	}
	n, e := is[1], is[2]
	if !e.IsInt64() || e.BitLen() > 31 {
		return nil, errors.New("the public exponent has more than 31 bits")
	}
	if err := checkRSA(&rsa.PublicKey{N: n, E: int(e.Int64())}); err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		return nil, errors.New("the numbers are not those of an RSA key: they do not fit together")
	}
	return k, nil
}

// decodePrivateDSA reads what OpenSSL writes: a version, p, q, g, y and x.
func decodePrivateDSA(der []byte) (crypto.PrivateKey, error) {
	is, err := integers(der, 6)
	if err != nil {
		return nil, err
	}
	if is[0].Sign() != 0 {
		return nil, errors.New("a DSA private key of a version that is not 0")
	}
	return privateDSA(dsa.Parameters{P: is[1], Q: is[2], G: is[3]}, is[4], is[5])
}

// privateDSA puts a key together, and y, when it is nil, from the rest.
func privateDSA(params dsa.Parameters, y, x *big.Int) (crypto.PrivateKey, error) {
	k := &dsa.PrivateKey{PublicKey: dsa.PublicKey{Parameters: params, Y: y}, X: x}
	// The parameters are looked at before anything is computed with them.
	probe := k.PublicKey
	probe.Y = probe.G
	if err := checkDSA(&probe); err != nil {
		return nil, err
	}
	if x.Sign() <= 0 || x.Cmp(k.Q) >= 0 {
		return nil, errors.New("a DSA private key that is not between 0 and q")
	}
	made := new(big.Int).Exp(k.G, x, k.P)
	if y != nil && y.Cmp(made) != 0 {
		return nil, errors.New("the private half of the DSA key is not that of its public half")
	}
	k.Y = made
	return k, checkDSA(&k.PublicKey)
}

// decodePKCS8 reads what "openssl genpkey" writes. crypto/x509 knows no DSA there.
func decodePKCS8(der []byte) (crypto.PrivateKey, error) {
	var info struct {
		Version   int
		Algorithm struct {
			ID         asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		Key []byte
	}
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		return nil, errors.New("this is no PKCS #8 private key, or its end is cut off")
	}
	switch id := info.Algorithm.ID; {
	case id.Equal(oidRSA):
		return decodePrivateRSA(info.Key)
	case !id.Equal(oidDSA):
		return nil, errors.New("the key is neither RSA nor DSA, and no other signs assertions")
	}
	params, err := integers(info.Algorithm.Parameters.FullBytes, 3)
	if err != nil {
		return nil, fmt.Errorf("DSA parameters: %w", err)
	}
	var x *big.Int
	if rest, err := asn1.Unmarshal(info.Key, &x); err != nil || len(rest) > 0 {
		return nil, errors.New("the DSA private key is no ASN.1 INTEGER")
	}
	return privateDSA(dsa.Parameters{P: params[0], Q: params[1], G: params[2]}, nil, x)
}

// publicOf is the public half of a private key.
func publicOf(private crypto.PrivateKey) (*parsed, error) {
	switch private := private.(type) {
	case *rsa.PrivateKey:
		return of(&private.PublicKey)
	case *dsa.PrivateKey:
		return of(&private.PublicKey)
	}
	return nil, fmt.Errorf("a private key of type %T signs no assertions; RSA and DSA keys do", private)
}

// Public returns the canonical principal of a private key's public half.
func Public(private crypto.PrivateKey) (string, error) {
	k, err := publicOf(private)
	if err != nil {
		return "", err
	}
	return k.canonical()
}

// EncodePrivate writes a private key as "private-" and the form that alg names for
// the public half, as "rsa-base64:"; the colon may be missing.
func EncodePrivate(alg string, private crypto.PrivateKey) (string, error) {
	k, err := publicOf(private)
	if err != nil {
		return "", err
	}
	name, f, err := k.formFor(alg)
	if err != nil {
		return "", err
	}
	var der []byte
	switch private := private.(type) {
	case *rsa.PrivateKey:
		der = x509.MarshalPKCS1PrivateKey(private)
	case *dsa.PrivateKey:
		der, err = asn1.Marshal([]*big.Int{new(big.Int), private.P, private.Q, private.G, private.Y, private.X})
	}
	if err != nil {
		return "", err
	}
	return privatePrefix + name + ":" + f.ascii.encode(der), nil
}

// dsaSizes are the lengths of keys that FIPS 186-3 has. Of two for 2048 bits the
// shorter subgroup is taken: SHA-1, which sig-dsa signs, does not fill it.
var dsaSizes = map[int]dsa.ParameterSizes{
	1024: dsa.L1024N160,
	2048: dsa.L2048N224,
	3072: dsa.L3072N256,
}

// Generate makes a pair of keys of so many bits: an *rsa.PrivateKey or a
// *dsa.PrivateKey, of the algorithm that alg names, as "dsa-hex:". New parameters
// for DSA take seconds.
func Generate(rand io.Reader, alg string, bits int) (crypto.PrivateKey, error) {
	name, f, err := keyForm(alg)
	if err != nil {
		return nil, err
	}
	switch f.kind {
	case rsaKey:
		if bits < MinModulus || bits > MaxModulus {
			return nil, fmt.Errorf("an RSA key of %d bits: they have %d to %d here, and 2048 to 4096 are good; shorter ones are broken in hours", bits, MinModulus, MaxModulus)
		}
		return rsa.GenerateKey(rand, bits)
	case dsaKey:
		return generateDSA(rand, bits)
	}
	return nil, fmt.Errorf("%s: only RSA and DSA keys can be made, as rsa-hex, rsa-base64, dsa-hex or dsa-base64", name)
}

func generateDSA(rand io.Reader, bits int) (crypto.PrivateKey, error) {
	size, ok := dsaSizes[bits]
	if !ok {
		return nil, fmt.Errorf("a DSA key of %d bits: they have 1024, 2048 or 3072 (FIPS 186-3); shorter ones are broken in hours", bits)
	}
	k := new(dsa.PrivateKey)
	if err := dsa.GenerateParameters(&k.Parameters, rand, size); err != nil {
		return nil, err
	}
	if err := dsa.GenerateKey(k, rand); err != nil {
		return nil, err
	}
	return k, nil
}
