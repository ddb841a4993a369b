package planetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
)

// tally counts what was run in this process.
var tally struct {
	sync.Mutex
	planes []string // in the order in which they came
	counts map[[2]string]count
}

type count struct{ passed, failed int }

// note counts one run of a case.
func note(plane, name string, passed bool) {
	tally.Lock()
	defer tally.Unlock()
	if !slices.Contains(tally.planes, plane) {
		tally.planes = append(tally.planes, plane)
	}
	if tally.counts == nil {
		tally.counts = map[[2]string]count{}
	}
	n := tally.counts[[2]string{plane, name}]
	if passed {
		n.passed++
	} else {
		n.failed++
	}
	tally.counts[[2]string{plane, name}] = n
}

// Table is how often which plane has passed which case in this process so far:
// a line a case, a column a plane, a dash where it was not run.
func Table() string {
	tally.Lock()
	defer tally.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "case\t%s\n", strings.Join(tally.planes, "\t"))
	all := map[string]count{}
	for _, c := range cases {
		fmt.Fprint(w, c.name)
		for _, plane := range tally.planes {
			n := tally.counts[[2]string{plane, c.name}]
			all[plane] = count{all[plane].passed + n.passed, all[plane].failed + n.failed}
			fmt.Fprintf(w, "\t%s", n)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "together")
	for _, plane := range tally.planes {
		fmt.Fprintf(w, "\t%s", all[plane])
	}
	fmt.Fprintln(w)
	_ = w.Flush()
	return b.String()
}

func (n count) String() string {
	switch {
	case n == count{}:
		return "-"
	case n.failed > 0:
		return fmt.Sprintf("%d, FAILED %d", n.passed, n.failed)
	}
	return fmt.Sprint(n.passed)
}
