package daemon

import (
	"fmt"
	"io"

	"oakley/internal/conf"
	"oakley/internal/diag"
)

// Check reads the configuration as the daemon would and prints what it means to
// out; what there is to say about the text goes to remarks. It opens nothing,
// needs no rights but to read the file, and does not ask for -K. An error means
// that the daemon would not start on this file.
func Check(opt Options, out, remarks io.Writer, color bool) error {
	src, complaint, err := ReadUnchecked(opt.Config)
	if err != nil {
		return fmt.Errorf("the configuration cannot be read: %w", err)
	}
	if complaint != nil {
		fmt.Fprintf(remarks, "isakmpd: warning: the daemon will refuse this file: %v\n", complaint)
	}
	c, list := conf.Load(opt.Config, src, opt.Host)
	if err := list.Format(remarks, color); err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("%s cannot be used: %s", opt.Config, plural(list.Count(diag.Error), "mistake"))
	}
	opt.NoPolicy = true
	d := &Daemon{opt: opt, host: opt.Host}
	l, err := d.translate(c)
	if err != nil {
		return fmt.Errorf("%s: %w", opt.Config, err)
	}
	for _, w := range l.warnings {
		fmt.Fprintf(remarks, "isakmpd: warning: %s\n", clean(w))
	}
	if c.General.UseKeynote {
		fmt.Fprintln(remarks, "isakmpd: note: Use-Keynote is not \"no\", so the daemon has to be started with -K")
	}
	return c.Describe(out)
}
