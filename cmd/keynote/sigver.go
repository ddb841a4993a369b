package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"oakley/internal/keynote"
	"oakley/internal/keynote/key"
)

var sigver = command{
	name: "sigver",
	args: "[assertion-file]",
	about: `Verify the signatures of all assertions in a file or in standard input.
`,
	flags: func(*pflag.FlagSet) func([]string, *streams) error { return runSigver },
}

func runSigver(args []string, std *streams) error {
	if len(args) > 1 {
		return usagef("one file is verified at a time, and there is %q too", args[1])
	}
	name := append(args, "-")[0]
	text, err := std.read(name)
	if err != nil {
		return err
	}
	where := starts(text)
	if len(where) == 0 {
		return fmt.Errorf("there is no assertion in %s", name)
	}
	found, remarks := keynote.Parse(name, []byte(text), keynote.Credential)
	if len(remarks) > 0 {
		if err := remarks.Format(std.err, false); err != nil {
			return err
		}
	}
	good := 0
	for _, a := range found {
		err := verifies(a)
		if err == nil {
			good++
		}
		if _, err := fmt.Fprintf(std.out, "Signature on assertion %d %s\n", number(where, a), verdict(err)); err != nil {
			return err
		}
		if err != nil {
			std.warn("%v: %v", a.Pos(), err)
		}
	}
	if good < len(where) {
		return errQuiet
	}
	return nil
}

func verifies(a *keynote.Assertion) error {
	message, err := a.Message()
	if err != nil {
		return err
	}
	return key.Verify(a.Authorizer(), a.Signature(), message)
}

// verdict is how OpenBSD's keynote(1) says it; scripts look for that.
func verdict(err error) string {
	switch {
	case err == nil:
		return "verified."
	case errors.Is(err, key.ErrForged):
		return "did not verify!"
	}
	return "could not be verified."
}

// starts are the lines, counted from 1, in which assertions begin: those after a
// blank line, comments passed over.
func starts(text string) []int {
	var at []int
	n, within := 0, false
	for line := range strings.Lines(text) {
		n++
		switch {
		case blank(line):
			within = false
		case !within && !strings.HasPrefix(strings.TrimLeft(line, blanks), "#"):
			within = true
			at = append(at, n)
		}
	}
	return at
}

// number is the place of an assertion among all of its file, from 0; those with
// mistakes are counted too.
func number(where []int, a *keynote.Assertion) int {
	n := 0
	for n+1 < len(where) && where[n+1] <= a.Pos().Line {
		n++
	}
	return n
}
