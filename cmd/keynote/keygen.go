package main

import (
	"crypto"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"oakley/internal/keynote/key"
)

var keygen = command{
	name: "keygen",
	args: "algorithm bits public-file private-file [print-offset [print-length]]",
	about: `Make a pair of keys. The algorithm is rsa-hex:, rsa-base64:, dsa-hex: or
dsa-base64:. A file "-" is standard output.
`,
	flags: func(*pflag.FlagSet) func([]string, *streams) error { return runKeygen },
}

// Modes of the files of keys.
const (
	publicMode  = 0o666 // less the umask
	privateMode = 0o600
)

// between is printed when both keys go to standard output.
const between = "===========================\n"

func runKeygen(args []string, std *streams) error {
	if len(args) < 4 {
		return usagef("four arguments at least are wanted, and there are %d", len(args))
	}
	alg := std.colon(args[0])
	bits, err := strconv.Atoi(args[1])
	if err != nil || bits <= 0 {
		return usagef("%q is no number of bits", args[1])
	}
	l, err := parseLayout(args[4:])
	if err != nil {
		return err
	}
	if err := l.room(alg); err != nil {
		return err
	}
	if err := apart(args[2], args[3]); err != nil {
		return err
	}
	k, err := key.Generate(rand.Reader, alg, bits)
	if err != nil {
		return err
	}
	return std.writePair(k, alg, args[2], args[3], l)
}

// colon is an algorithm's name with the colon at its end that it has to have.
func (s *streams) colon(alg string) string {
	if strings.HasSuffix(alg, ":") {
		return alg
	}
	s.warn("the name of an algorithm ends in a colon; %q is taken as %q", alg, alg+":")
	return alg + ":"
}

// apart refuses to write one key over the other.
func apart(public, private string) error {
	a, errA := os.Stat(public)
	b, errB := os.Stat(private)
	same := public == private && public != "-"
	if errA == nil && errB == nil {
		same = a.Mode().IsRegular() && os.SameFile(a, b)
	}
	if same {
		return usagef("the public and the private key would both be written to %s", private)
	}
	return nil
}

// writePair writes the public key first, as OpenBSD does; who stops in between
// has a public key that belongs to nobody, and no private one that is lost.
func (s *streams) writePair(k crypto.PrivateKey, alg, publicFile, privateFile string, l layout) error {
	principal, err := key.Public(k)
	if err != nil {
		return err
	}
	pub, err := key.ParsePublic(principal)
	if err != nil {
		return err
	}
	public, err := key.EncodePublic(alg, pub)
	if err != nil {
		return err
	}
	private, err := key.EncodePrivate(alg, k)
	if err != nil {
		return err
	}
	put := func(text string) func(io.Writer) error {
		name, _, _ := strings.Cut(text, ":")
		return func(w io.Writer) error { return l.print(w, name+":", text) }
	}
	if err := s.write(publicFile, publicMode, put(public)); err != nil {
		return fmt.Errorf("the public key is not written: %w", err)
	}
	if publicFile == "-" && privateFile == "-" {
		if _, err := io.WriteString(s.out, between); err != nil {
			return err
		}
	}
	if err := s.write(privateFile, privateMode, put(private)); err != nil {
		return fmt.Errorf("the private key is not written: %w", err)
	}
	return nil
}
