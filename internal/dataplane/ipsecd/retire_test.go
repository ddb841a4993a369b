package ipsecd

import (
	"errors"
	"net"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
)

// A process that nobody needs lets nobody in any more; one who came in time is not
// turned away.
func TestRetire(t *testing.T) {
	path, s := serve(t, null.New(null.Options{}))
	yes := func() bool { return true }
	c := dial(t, path)
	if s.Retire(yes) {
		t.Error("it retires with a client")
	}
	must(t, c.Close())
	eventually(t, "the client has gone", func() bool { return s.Clients() == 0 })
	if s.Retire(func() bool { return false }) {
		t.Error("it retires with something to keep")
	}
	came := false
	if s.Retire(func() bool {
		c := dial(t, path)
		must(t, c.Close())
		came = true
		return true
	}) || !came {
		t.Error("it retires although somebody came meanwhile, who may have left something")
	}
	eventually(t, "the client has gone", func() bool { return s.Clients() == 0 })
	if !s.Retire(yes) {
		t.Error("it does not retire")
	}
	if c, err := Dial(ctx, path, NoEvents); !errors.Is(err, dataplane.ErrClosed) {
		t.Errorf("after that %v, %v", c, err)
	}
}

// Who only looks whether somebody listens is nobody whose leaving counts.
func TestLookingIsNotComing(t *testing.T) {
	path, s := serve(t, null.New(null.Options{}))
	c, err := net.Dial("unix", path)
	must(t, err)
	eventually(t, "it is seen", func() bool { return s.Clients() == 1 })
	c.Close()
	eventually(t, "it has gone", func() bool { return s.Clients() == 0 })
	select {
	case <-s.Left():
		t.Error("who said nothing has left")
	default:
	}
	must(t, dial(t, path).Close())
	select {
	case <-s.Left():
	case <-time.After(patience):
		t.Error("nobody has left")
	}
}
