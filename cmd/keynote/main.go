// Keynote makes keys for KeyNote (RFC 2704), signs assertions, checks signatures
// and asks what a policy says, with the arguments of OpenBSD's keynote(1).
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// Exit codes. OpenBSD's keynote(1) has these two.
const (
	exitOK     = 0
	exitFailed = 1
)

func main() {
	// Who reads our output may stop at any time; writing then fails, and that is
	// not a failure of ours.
	signal.Ignore(unix.SIGPIPE)
	os.Exit(run(os.Args[1:], &streams{os.Stdin, os.Stdout, os.Stderr}))
}

// streams are what a command reads and writes besides files.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// warn says something that does not stop the command.
func (s *streams) warn(format string, args ...any) {
	fmt.Fprintf(s.err, "keynote: "+format+"\n", args...)
}

// command is one of the program's commands, each in a file of its own.
type command struct {
	name  string
	about string
	args  string // for the usage line
	// mistaken is the exit code of mistakes, if not exitFailed.
	mistaken int
	flags    func(*pflag.FlagSet) func(args []string, std *streams) error
}

// commands are all there are, in the order in which the usage lists them.
var commands = []command{keygen, sign, sigver, verify, explain}

// errUsage is a mistake in the command line.
type errUsage struct{ error }

func usagef(format string, args ...any) error {
	return errUsage{fmt.Errorf(format, args...)}
}

// errQuiet is a failure that the command has told about already.
var errQuiet = errors.New("failed")

// errRefused is an answer that says no.
var errRefused = errors.New("refused")

func run(args []string, std *streams) int {
	c, err := find(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		usage(std.out)
		return exitOK
	case err != nil:
		std.warn("%v", err)
		usage(std.err)
		return exitFailed
	}
	return c.run(args[1:], std)
}

// find tells which command the first argument names.
func find(args []string) (command, error) {
	if len(args) == 0 {
		return command{}, errors.New("a command is wanted")
	}
	if h := strings.TrimLeft(args[0], "-"); args[0] != h && (h == "h" || h == "help") {
		return command{}, pflag.ErrHelp
	}
	for _, c := range commands {
		if c.name == args[0] {
			return c, nil
		}
	}
	return command{}, fmt.Errorf("there is no command %q", args[0])
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "usage:\n")
	for _, c := range commands {
		fmt.Fprintf(w, "\tkeynote %s %s\n", c.name, c.args)
	}
	fmt.Fprintf(w, "\"keynote COMMAND -h\" says more; keynote(1) says all\n")
}

func (c *command) run(args []string, std *streams) int {
	fs := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	fs.SetInterspersed(false)
	fs.SortFlags = false
	fs.SetOutput(io.Discard)
	do := c.flags(fs)
	err := fs.Parse(args)
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		err = errUsage{err}
	}
	if err == nil {
		err = do(fs.Args(), std)
	}
	_, misused := errors.AsType[errUsage](err)
	switch {
	case err == nil, enough(err):
		return exitOK
	case errors.Is(err, pflag.ErrHelp):
		c.help(std.out, fs)
		return exitOK
	case errors.Is(err, errRefused):
		return exitRefused
	}
	if !errors.Is(err, errQuiet) {
		std.warn("%s: %s", c.name, strings.TrimPrefix(err.Error(), "keynote: ")) // errors of the engine begin with its name
	}
	if misused {
		c.help(std.err, fs)
	}
	return max(c.mistaken, exitFailed)
}

// enough tells whether an error is that our reader wants no more.
func enough(err error) bool { return errors.Is(err, unix.EPIPE) }

func (c *command) help(w io.Writer, fs *pflag.FlagSet) {
	fmt.Fprintf(w, "usage: keynote %s %s\n%s\n%s", c.name, c.args, c.about, fs.FlagUsages())
}
