package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
)

// isPEM tells whether a text is PEM and not KeyNote.
func isPEM(text string) bool { return strings.Contains(text, "-----BEGIN ") }

// readCertificates reads all certificates of a file in PEM.
func readCertificates(name, text string) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s has a block %q, and certificates are wanted", name, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of %s: %w", len(found)+1, name, err)
		}
		found = append(found, c)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("the PEM in %s is damaged", name)
	}
	return found, nil
}
