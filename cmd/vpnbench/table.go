package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// table collects runs.
type table struct {
	rows []*row
}

type row struct {
	name    string
	streams int
	runs    []result
}

// disturbed runs, during which others used this much of a processor, count only
// when there are no others.
const disturbed = 0.25

func (t *table) add(name string, streams int, r result) {
	w := t.find(name, streams)
	if w == nil {
		w = &row{name: name, streams: streams}
		t.rows = append(t.rows, w)
	}
	w.runs = append(w.runs, r)
}

func (t *table) find(name string, streams int) *row {
	for _, w := range t.rows {
		if w.name == name && w.streams == streams {
			return w
		}
	}
	return nil
}

// median is the run with the median throughput among the quiet ones.
func (w *row) median() result {
	quiet := slices.DeleteFunc(slices.Clone(w.runs), func(r result) bool { return r.Foreign > disturbed })
	if len(quiet) == 0 {
		quiet = slices.Clone(w.runs)
	}
	slices.SortFunc(quiet, func(a, b result) int { return cmp.Compare(a.Mbit, b.Mbit) })
	return quiet[(len(quiet)-1)/2]
}

// ratios are what is looked at: who against whom, and what is wanted.
var ratios = []struct {
	who, against string
	want         float64
}{
	{"oakley aes-128-gcm udp", "wireguard-go", 2},
	{"oakley aes-128-gcm udp", "strongSwan libipsec aes128gcm16", 8},
	{"oakley aes-128-gcm udp", "no cryptography, udp", 0.75},
	{"oakley aes-128-gcm raw", "no cryptography, raw", 0.9},
	{"oakley aes-128-cbc-sha1 udp", "strongSwan libipsec aes128-sha1", 4},
	{"oakley 3des-sha1 udp", "strongSwan libipsec 3des-sha1", 1},
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "%-36s %7s %9s %12s %12s %9s\n", "tunnel", "streams", "Mbit/s", "CPU s/Gbit", "CPU % (1+2)", "RSS MiB")
	for _, r := range t.rows {
		m := r.median()
		fmt.Fprintf(w, "%-36s %7d %9.0f %12.2f %12s %9.1f\n", r.name, r.streams, m.Mbit, m.perGbit(),
			fmt.Sprintf("%.0f+%.0f", 100*m.CPU[0], 100*m.CPU[1]), float64(m.Resident)/(1<<20))
	}
	fmt.Fprintf(w, "\n%-36s %-36s %7s %7s %7s %7s\n", "ratio of", "to", "streams", "by CPU", "is", "wanted")
	for _, q := range ratios {
		for _, r := range t.rows {
			other := t.find(q.against, r.streams)
			if !strings.EqualFold(r.name, q.who) || other == nil {
				continue
			}
			mine, theirs := r.median(), other.median()
			is := mine.Mbit / theirs.Mbit
			note := ""
			if is < q.want {
				note = "  below"
			}
			fmt.Fprintf(w, "%-36s %-36s %7d %7.2f %7.2f %7.2f%s\n", q.who, q.against, r.streams, theirs.perGbit()/mine.perGbit(), is, q.want, note)
		}
	}
}
