package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"oakley/internal/conf"
	"oakley/internal/diag"
	"oakley/internal/policy"
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
	if err := checkPolicy(&opt, c, remarks, color); err != nil {
		return err
	}
	d := &Daemon{opt: opt, host: opt.Host}
	l, err := d.translate(c, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", opt.Config, err)
	}
	for _, w := range l.warnings {
		fmt.Fprintf(remarks, "isakmpd: warning: %s\n", clean(w))
	}
	return c.Describe(out)
}

// checkPolicy says what is to be said about the policy, if there is to be one.
func checkPolicy(opt *Options, c *conf.Config, remarks io.Writer, color bool) error {
	if opt.NoPolicy || !c.General.UseKeynote {
		return nil
	}
	file := c.General.PolicyFile
	src, complaint, err := ReadUnchecked(file)
	if err != nil {
		fmt.Fprintf(remarks, "isakmpd: note: the policy cannot be read (%v): the daemon needs one, or -K\n", err)
		return nil
	}
	if complaint != nil {
		fmt.Fprintf(remarks, "isakmpd: warning: the daemon will refuse this file: %v\n", complaint)
	}
	p, list := policy.Load(file, src)
	if err := list.Format(remarks, color); err != nil {
		return err
	}
	if p == nil {
		return fmt.Errorf("%s cannot be used: %s", file, plural(list.Count(diag.Error), "mistake"))
	}
	_, all, list, err := readCredentials(opt.Host, c.KeyNote.CredentialDirectory)
	var denied *fs.PathError
	if errors.Is(err, fs.ErrPermission) && errors.As(err, &denied) { // the daemon has other rights
		fmt.Fprintf(remarks, "isakmpd: note: the KeyNote credentials are not checked: %v\n", denied)
		return nil
	}
	if err != nil {
		return err
	}
	_, more := p.With(all)
	return slices.Concat(list, more).Format(remarks, color)
}
