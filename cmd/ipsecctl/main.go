// Ipsecctl shows what is in the IPsec stack: flows, SAs, the Encap table, what
// was done and what was dropped and why. It empties the stack, and follows what
// happens there.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"oakley/internal/ipsecctl"
	"oakley/internal/launch"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	// Who reads our output may stop at any time; writing then fails, and that is
	// not a failure of ours.
	signal.Ignore(unix.SIGPIPE)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	fl, err := parseFlags(args, stdout)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "ipsecctl: %v\n%s", err, usageLine)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	err = fl.carryOut(ctx, stdout)
	if err == nil || enough(err) {
		return exitOK
	}
	fmt.Fprintf(stderr, "ipsecctl: %v\n", err)
	return exitFailed
}

// enough tells whether an error is that our reader wants no more.
func enough(err error) bool {
	var out *ipsecctl.OutputError
	return errors.As(err, &out) && errors.Is(out.Err, unix.EPIPE)
}

func (fl *flags) carryOut(ctx context.Context, stdout io.Writer) error {
	c, err := launch.Tool(ctx, fl.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	fl.Now = time.Now()
	return fl.Run(ctx, c, stdout)
}
