package ipsecctl

import (
	"context"
	"fmt"
	"io"
	"strings"

	"oakley/internal/dataplane"
	"oakley/internal/show"
)

// What can be shown.
type What string

// What there is to show.
const (
	Nothing What = ""
	Flows   What = "flow"
	SAs     What = "sa"
	All     What = "all"
	Encap   What = "encap"
	Stats   What = "stats"
)

// whats are all of them, in the order in which they are listed.
var whats = []What{Flows, SAs, All, Encap, Stats}

// ParseWhat takes a word or the beginning of one.
func ParseWhat(s string) (What, error) {
	var names, fit []string
	for _, w := range whats {
		names = append(names, string(w))
		if s == string(w) {
			return w, nil
		}
		if s != "" && strings.HasPrefix(string(w), s) {
			fit = append(fit, string(w))
		}
	}
	switch len(fit) {
	case 0:
		return Nothing, fmt.Errorf("%q cannot be shown; there are %s", s, strings.Join(names, ", "))
	case 1:
		return What(fit[0]), nil
	}
	return Nothing, fmt.Errorf("%q is short for %s: which?", s, strings.Join(fit, " and "))
}

// seeing prints each of them.
var seeing = map[What]func(*Command, context.Context, Plane, *printer) error{
	Flows: (*Command).flows,
	SAs:   (*Command).sas,
	All:   (*Command).all,
	Encap: (*Command).encap,
	Stats: (*Command).stats,
}

func (c *Command) options() show.Options {
	return show.Options{Verbose: c.Verbose, Keys: c.Keys, Now: c.Now, Kernel: c.kernel}
}

// dump asks for what is to be printed, with keys for those alone who want them.
func (c *Command) dump(ctx context.Context, p Plane, part dataplane.Part) (st dataplane.State, err error) {
	err = within(ctx, func(ctx context.Context) error {
		st, err = p.Dump(ctx, dataplane.Query{Keys: c.Keys, Only: part})
		return err
	})
	show.SortFlows(st.Flows)
	show.SortSAs(st.SAs)
	return st, err
}

func (c *Command) flows(ctx context.Context, p Plane, w *printer) error {
	st, err := c.dump(ctx, p, dataplane.Flows)
	if err != nil {
		return err
	}
	c.printFlows(&st, w)
	return nil
}

func (c *Command) printFlows(st *dataplane.State, w *printer) {
	for i := range st.Flows {
		show.Flow(w, &st.Flows[i], c.options())
		if w.broken() {
			return
		}
	}
}

func (c *Command) sas(ctx context.Context, p Plane, w *printer) error {
	st, err := c.dump(ctx, p, dataplane.SAs)
	if err != nil {
		return err
	}
	c.printSAs(&st, w)
	return nil
}

func (c *Command) printSAs(st *dataplane.State, w *printer) {
	for i := range st.SAs {
		show.SA(w, &st.SAs[i], c.options())
		if w.broken() {
			return
		}
	}
	if c.Verbose > 0 {
		show.Rest(w, st, c.options())
	}
}

func (c *Command) all(ctx context.Context, p Plane, w *printer) error {
	st, err := c.dump(ctx, p, dataplane.Everything)
	if err != nil {
		return err
	}
	_, _ = io.WriteString(w, "FLOWS:\n")
	if len(st.Flows) == 0 {
		_, _ = io.WriteString(w, "No flows\n")
	}
	c.printFlows(&st, w)
	_, _ = io.WriteString(w, "\nSAD:\n")
	if len(st.SAs) == 0 {
		_, _ = io.WriteString(w, "No entries\n")
	}
	c.printSAs(&st, w)
	return nil
}

func (c *Command) encap(ctx context.Context, p Plane, w *printer) error {
	st, err := c.dump(ctx, p, dataplane.Everything)
	if err != nil {
		return err
	}
	show.Encap(w, st.Flows, st.SAs)
	return nil
}

func (c *Command) stats(ctx context.Context, p Plane, w *printer) error {
	return within(ctx, func(ctx context.Context) error {
		t, err := p.Totals(ctx)
		if err == nil {
			show.Totals(w, t, c.options())
		}
		return err
	})
}
