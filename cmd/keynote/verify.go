package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"oakley/internal/diag"
	"oakley/internal/keynote"
	"oakley/internal/keynote/key"
)

var verify = command{
	name: "verify",
	args: "-r values -e file ... -k file ... -l file ... [credential-file ...]",
	about: `Ask whether a policy, and the credentials in files, allow an action, and print
the answer. A file "-" is standard input.
`,
	flags: func(fs *pflag.FlagSet) func([]string, *streams) error {
		q := &question{}
		fs.StringArrayVarP(&q.values, "values", "r", nil, "the possible answers, the weakest first: `value,value,...`")
		fs.StringArrayVarP(&q.attributes, "attributes", "e", nil, "`file` of attributes of the action: NAME = \"VALUE\"")
		fs.StringArrayVarP(&q.requesters, "key", "k", nil, "`file` with a principal that asks, in quotes")
		fs.StringArrayVarP(&q.policies, "local", "l", nil, "`file` of assertions that are believed without a signature")
		return q.run
	},
}

// question is what a command line asks.
type question struct {
	values                           []string
	attributes, requesters, policies []string // files
}

// complete tells what is missing.
func (q *question) complete() error {
	for _, c := range []struct {
		given []string
		want  string
	}{
		{q.values, "the possible answers are missing: -r false,true"},
		{q.attributes, "the attributes of the action are missing: -e file"},
		{q.requesters, "who asks is missing: -k file"},
		{q.policies, "a policy is missing: -l file, in which some assertion has the Authorizer \"POLICY\""},
	} {
		if len(c.given) == 0 {
			return usagef("%s", c.want)
		}
	}
	if len(q.values) > 1 {
		return usagef("-r is given %d times, and there can be one list of answers", len(q.values))
	}
	return nil
}

func (q *question) run(credentials []string, std *streams) error {
	if err := q.complete(); err != nil {
		return err
	}
	query, err := q.query(std)
	if err != nil {
		return err
	}
	all, err := q.assertions(credentials, std)
	if err != nil {
		return err
	}
	set, remarks := keynote.NewSet(key.Keys{}, all)
	if err := remarks.Format(std.err, false); err != nil {
		return err
	}
	result, err := set.Query(query)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(std.out, "Query result = %s\n", result.Value); err != nil {
		return err
	}
	in := set.Assertions()
	for i, a := range all {
		if slices.Contains(in, a) {
			continue
		}
		if _, err := fmt.Fprintf(std.out, "Failed assertion %d due to signature verification failure.\n", i); err != nil {
			return err
		}
	}
	return nil
}

// query reads the files of -e and -k.
func (q *question) query(std *streams) (*keynote.Query, error) {
	query := &keynote.Query{Values: strings.Split(q.values[0], ","), Attributes: map[string]string{}}
	for _, name := range q.attributes {
		text, err := std.read(name)
		if err == nil {
			err = readAttributes(name, text, query.Attributes)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(query.Attributes)) {
		// OpenBSD lets them be set, and RFC 2704 section 3 lets nobody name them.
		if name[0] >= '0' && name[0] <= '9' {
			std.warn("the attribute %q begins with a digit, so no assertion can ask for it; it is left out", name)
			delete(query.Attributes, name)
		}
	}
	for _, name := range q.requesters {
		text, err := std.read(name)
		if err == nil {
			text, err = onlyString(name, text)
		}
		if err != nil {
			return nil, err
		}
		if _, err := key.Canonical(text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		query.Requesters = append(query.Requesters, text)
	}
	return query, nil
}

// assertions reads the files of -l and the credentials. Their order is that of
// OpenBSD, which numbers the assertions that it complains of: the policies, then
// the credentials from the last file to the first.
func (q *question) assertions(credentials []string, std *streams) ([]*keynote.Assertion, error) {
	var all []*keynote.Assertion
	for _, name := range q.policies {
		text, err := std.read(name)
		if err != nil {
			return nil, err
		}
		found, err := std.parse(name, withoutSignatures(text), keynote.Policy)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no assertion in the files of -l that can be used")
	}
	for _, name := range slices.Backward(credentials) {
		text, err := std.read(name)
		if err != nil {
			return nil, err
		}
		found, err := std.parse(name, text, keynote.Credential)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// parse reads assertions and tells about mistakes; those with any are left out.
func (s *streams) parse(name, text string, from keynote.Source) ([]*keynote.Assertion, error) {
	found, remarks := keynote.Parse(name, []byte(text), from)
	if err := remarks.Format(s.err, false); err != nil {
		return nil, err
	}
	if n := remarks.Count(diag.Error); n > 0 {
		s.warn("%s: assertions with mistakes are left out", name)
	}
	return found, nil
}

// withoutSignatures makes comments of all Signature fields and of what stands
// behind them: what is trusted is trusted whoever signed it, and lines keep their
// numbers.
func withoutSignatures(text string) string {
	var b strings.Builder
	within := false
	for line := range strings.Lines(text) {
		if within = !blank(line) && (within || isSignature(line)); within {
			b.WriteByte('#')
		}
		b.WriteString(line)
	}
	return b.String()
}
