package kernel

import (
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

// Lines of isakmpd -v for a phase that was renewed by either side.
const (
	phase1Again = `phase 1 \(main mode\) (done|rekeyed)`
	phase2Again = `phase 2 \(quick mode\) (done|rekeyed)`
)

// renewByCommand has strongSwan renew both phases in turn, with traffic on each.
func renewByCommand(t *testing.T, ours *interop.Isakmpd, p peer, ping *lab.Stream) {
	t.Helper()
	s := p.(swan)
	for _, step := range []struct {
		line  string
		again func() error
	}{{phase2Again, s.RekeyChild}, {phase1Again, s.RekeyIKE}, {phase2Again, s.RekeyChild}} {
		mark := ours.Log.Mark()
		must(t, step.again())
		_, err := ours.Log.WaitAfter(mark, step.line, 30*time.Second)
		must(t, err)
		must(t, ping.AwaitAnswers(20, 10*time.Second))
	}
}

// renewInTime waits until both phases were renewed because their time was up.
func renewInTime(t *testing.T, ours *interop.Isakmpd, _ peer, ping *lab.Stream) {
	t.Helper()
	mark := ours.Log.Mark()
	for _, line := range []string{phase2Again, phase1Again} {
		_, err := ours.Log.WaitAfter(mark, line, 60*time.Second)
		must(t, err)
		must(t, ping.AwaitAnswers(20, 10*time.Second))
	}
	_, err := ours.Log.WaitAfter(ours.Log.Mark(), phase2Again, 60*time.Second) // and once more, by the new phase 1
	must(t, err)
	must(t, ping.AwaitAnswers(20, 10*time.Second))
}
