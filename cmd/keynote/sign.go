package main

import (
	"crypto"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"oakley/internal/keynote"
	"oakley/internal/keynote/key"
)

var sign = command{
	name: "sign",
	args: "[-v] algorithm assertion-file private-file [print-offset [print-length]]",
	about: `Sign an assertion and print the signature, as it belongs into its Signature
field, which has to be there and may be empty. The algorithm is sig-rsa-sha256-hex:
(which OpenBSD does not know), sig-rsa-sha1-hex:, sig-rsa-md5-hex:,
sig-dsa-sha1-hex:, sig-x509-sha1-hex:, or one of them with base64 instead of hex.
The private key is of keygen's form or PEM. A file "-" is standard input.
`,
	flags: func(fs *pflag.FlagSet) func([]string, *streams) error {
		check := fs.BoolP("verify", "v", false, "verify the signature before it is printed")
		return func(args []string, std *streams) error { return runSign(args, *check, std) }
	},
}

func runSign(args []string, check bool, std *streams) error {
	if len(args) < 3 {
		return usagef("three arguments at least are wanted, and there are %d", len(args))
	}
	alg := std.colon(args[0])
	l, err := parseLayout(args[3:])
	if err != nil {
		return err
	}
	text, err := std.read(args[1])
	if err != nil {
		return err
	}
	a, err := readUnsigned(args[1], text)
	if err != nil {
		return err
	}
	if a.commented {
		std.warn("%s: the comment before the first field is not signed (RFC 2792 section 4.1); OpenBSD signs it, and takes the signature only if the comment is not there", args[1])
	}
	private, err := std.readPrivate(args[2])
	if err != nil {
		return err
	}
	if err := isFrom(a.authorizer, private); err != nil {
		return err
	}
	message, err := keynote.Message([]byte(a.body), alg)
	if err != nil {
		return err
	}
	signature, err := key.Sign(rand.Reader, alg, private, message)
	if err != nil {
		return err
	}
	if check {
		if err := key.Verify(a.authorizer, signature, message); err != nil {
			return fmt.Errorf("the new signature does not verify: %w", err)
		}
	}
	return l.print(std.out, "", signature)
}

// readPrivate reads a private key as keygen writes it, or in PEM.
func (s *streams) readPrivate(name string) (crypto.PrivateKey, error) {
	text, err := s.read(name)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(text, "-----BEGIN ") {
		if text, err = onlyString(name, text); err != nil {
			return nil, err
		}
	}
	k, err := key.ParsePrivate(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return k, nil
}

// isFrom tells whether an authorizer is the public half of a private key.
func isFrom(authorizer string, private crypto.PrivateKey) error {
	want, err := key.Canonical(authorizer)
	if err != nil {
		return fmt.Errorf("the Authorizer: %w", err)
	}
	if !key.IsKey(authorizer) {
		return fmt.Errorf("the Authorizer is no key, and nobody else can sign")
	}
	got, err := key.Public(private)
	if err != nil {
		return err
	}
	if got != want {
		return errNotAuthorizer
	}
	return nil
}
