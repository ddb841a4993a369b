package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestExplainWithCertificates has scripts that make certificates.
func TestExplainWithCertificates(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/certificates", RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status, "certificate": certificate},
	})
}

// certificate makes NAME.pem and NAME.key, signed by the CA of that name, which
// may be itself: certificate common-name name ca.
func certificate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: certificate common-name name ca")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), BasicConstraintsValid: true, IsCA: args[1] == args[2],
		Subject:   pkix.Name{Country: []string{"SE"}, Organization: []string{"Worksite A"}, CommonName: args[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0),
	}
	by, byKey := c, key
	if !c.IsCA {
		by, err = x509.ParseCertificate(block(ts, args[2]+".pem"))
		ts.Check(err)
		k, err := x509.ParsePKCS8PrivateKey(block(ts, args[2]+".key"))
		ts.Check(err)
		byKey = k.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), byKey)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

func block(ts *testscript.TestScript, name string) []byte {
	b, _ := pem.Decode([]byte(ts.ReadFile(name)))
	if b == nil {
		ts.Fatalf("there is no PEM in %s", name)
	}
	return b.Bytes
}
