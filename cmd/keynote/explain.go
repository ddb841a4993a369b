package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"oakley/internal/keynote"
	"oakley/internal/keynote/key"
	"oakley/internal/policy"
)

// Exit codes of explain: a refusal is an answer, and a mistake is none.
const (
	exitRefused  = 1
	exitMistaken = 2
)

var explain = command{
	name:     "explain",
	args:     "[-r requester ...] [-k file ...] [-c file ...] [-e file ...] policy [name=value ...]",
	mistaken: exitMistaken,
	about: `Ask a policy of isakmpd(8) whether somebody may have a tunnel, and print the
answer with its reasons: what was asked, the assertions that POLICY leads to and
the tests in them that failed. Attributes that are not given are as for a
proposal with nothing in it, now. A file "-" is standard input. It ends with 0
if the tunnel is allowed, 1 if it is refused, 2 if something was wrong.
`,
	flags: func(fs *pflag.FlagSet) func([]string, *streams) error {
		x := &explaining{now: time.Now}
		fs.SetInterspersed(true)
		fs.StringArrayVarP(&x.requesters, "requester", "r", nil, "`principal` that asks, as passphrase:KEY or DN:/C=SE/CN=gw")
		fs.StringArrayVarP(&x.keys, "key", "k", nil, "`file` with a principal that asks, in quotes, or its certificate in PEM")
		fs.StringArrayVarP(&x.credentials, "credentials", "c", nil, "`file` of signed assertions, or of certificates in PEM")
		fs.StringArrayVarP(&x.attributes, "attributes", "e", nil, "`file` of attributes: NAME = \"VALUE\"")
		return x.run
	},
}

// explaining is what a command line of explain asks.
type explaining struct {
	requesters                    []string
	keys, credentials, attributes []string // files
	now                           func() time.Time
}

func (x *explaining) run(args []string, std *streams) error {
	if len(args) == 0 {
		return usagef("a policy is missing")
	}
	who, err := x.who(std)
	if err != nil {
		return err
	}
	asked, err := x.asked(args[1:], std)
	if err != nil {
		return err
	}
	p, err := x.policy(args[0], std)
	if err != nil {
		return err
	}
	d := p.AskAttributes(who, asked)
	if _, err := io.WriteString(std.out, d.Tree()); err != nil {
		return err
	}
	if !d.Allow {
		return errRefused
	}
	return nil
}

// who are the principals that ask. A pre-shared key asks in all its forms, as in
// isakmpd. What is said about a mistake never has a principal in it.
func (x *explaining) who(std *streams) ([]string, error) {
	given := slices.Clone(x.requesters)
	for _, name := range x.keys {
		principals, err := principalsOf(name, std)
		if err != nil {
			return nil, err
		}
		given = append(given, principals...)
	}
	if len(given) == 0 {
		return nil, usagef("who asks is missing: -r principal, or -k file")
	}
	var who []string
	for _, r := range given {
		if r == "" {
			return nil, usagef("a principal of -r is empty")
		}
		if _, err := key.Canonical(r); err != nil {
			return nil, fmt.Errorf("nobody can be one of the principals that ask: %w", err)
		}
		if k, ok := strings.CutPrefix(r, "passphrase:"); ok {
			who = append(who, policy.Passphrase([]byte(k))...)
			continue
		}
		who = append(who, r)
	}
	return who, nil
}

// principalsOf reads a file of -k.
func principalsOf(name string, std *streams) ([]string, error) {
	text, err := std.read(name)
	if err != nil {
		return nil, err
	}
	if !isPEM(text) {
		text, err = onlyString(name, text)
		return []string{text}, err
	}
	certs, err := readCertificates(name, text)
	if err != nil {
		return nil, err
	}
	return policy.Certificate(certs[0]), nil // what follows is its chain
}

// asked are the attributes of the files, then of the words.
func (x *explaining) asked(words []string, std *streams) (map[string]string, error) {
	given := map[string]string{}
	for _, name := range x.attributes {
		text, err := std.read(name)
		if err == nil {
			err = readAttributes(name, text, given)
		}
		if err != nil {
			return nil, err
		}
	}
	for i, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok || name == "" {
			return nil, usagef("word %d after the policy is not name=value", i+1)
		}
		given[name] = value
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if err := policy.CheckAttribute(name, given[name]); err != nil {
			return nil, err
		}
	}
	asked := (&policy.Query{Now: x.now()}).Attributes()
	maps.Copy(asked, given)
	return asked, nil
}

// policy reads the policy and the credentials and tells what is wrong in them.
func (x *explaining) policy(name string, std *streams) (*policy.Policy, error) {
	text, err := std.read(name)
	if err != nil {
		return nil, err
	}
	p, remarks := policy.Load(name, []byte(text))
	if err := remarks.Format(std.err, false); err != nil {
		return nil, err
	}
	if p == nil {
		return nil, fmt.Errorf("%s has mistakes, and isakmpd would not use it", name)
	}
	credentials, err := x.assertions(std)
	if err != nil {
		return nil, err
	}
	p, remarks = p.With(credentials)
	return p, remarks.Format(std.err, false)
}

// assertions are those of the files of -c and what certificates are made into.
// The certificates of CAs that signed themselves count as those of isakmpd's CA
// directory.
func (x *explaining) assertions(std *streams) ([]*keynote.Assertion, error) {
	var all []*keynote.Assertion
	var trusted, sent []*x509.Certificate
	for _, name := range x.credentials {
		text, err := std.read(name)
		if err != nil {
			return nil, err
		}
		if !isPEM(text) {
			found, err := std.parse(name, text, keynote.Credential)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
			continue
		}
		certs, err := readCertificates(name, text)
		if err != nil {
			return nil, err
		}
		for _, c := range certs {
			if c.IsCA && c.CheckSignatureFrom(c) == nil {
				trusted = append(trusted, c)
			} else {
				sent = append(sent, c)
			}
		}
	}
	return append(all, policy.FromCertificates(sent, trusted)...), nil
}
