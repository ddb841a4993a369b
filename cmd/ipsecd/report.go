package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"oakley/internal/daemon"
	"oakley/internal/dataplane"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/show"
)

// reportTime is how long the data plane may take to say what it has.
const reportTime = 20 * time.Second

// writeReport writes what the data plane has and has done to a file.
func writeReport(path string, b dataplane.Backend, s *ipsecd.Server, log *daemon.Log) {
	text, err := report(b, s.Clients(), time.Now())
	if err == nil {
		err = runFolder.Write(path, text)
	}
	if err != nil {
		log.Error("the report could not be written", "file", path, "err", err)
		return
	}
	log.Notice("report written", "event", "report", "file", path)
}

// report is that text. There are no keys in it.
func report(b dataplane.Backend, clients int, now time.Time) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), reportTime)
	defer cancel()
	st, err := b.Dump(ctx, dataplane.Query{})
	if err != nil {
		return nil, err
	}
	totals, err := b.Totals(ctx)
	if err != nil {
		return nil, err
	}
	show.SortFlows(st.Flows)
	show.SortSAs(st.SAs)
	o := show.Options{Verbose: 2, Now: now, Kernel: b.Info().Kernel}
	var w bytes.Buffer
	fmt.Fprintf(&w, "ipsecd report of %s\n%s\ndata plane: %s\nclients: %d\n", now.Format(time.RFC3339), version(), b.Info().Detail, clients)
	fmt.Fprintf(&w, "\nFlows: %d\n", len(st.Flows))
	for i := range st.Flows {
		show.Flow(&w, &st.Flows[i], o)
	}
	fmt.Fprintf(&w, "\nSAs: %d\n", len(st.SAs))
	for i := range st.SAs {
		show.SA(&w, &st.SAs[i], o)
	}
	show.Rest(&w, &st, o)
	fmt.Fprintf(&w, "\nTotals ")
	show.Totals(&w, totals, o)
	return w.Bytes(), nil
}
