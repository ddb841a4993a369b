package vmtest

import (
	"io"
	"strings"
	"sync"
	"testing"
)

// report repeats the guest's tests as subtests of one of ours: each is started
// when it starts there, writes what it writes, and ends as it ended.
type report struct {
	mu    sync.Mutex
	root  *node
	nodes map[string]*node
}

// node is one test of the guest. Its events wait in a queue without a bound: who
// delivers them must never wait for a test of ours.
type node struct {
	name   string
	parent *node

	mu    sync.Mutex
	more  sync.Cond
	queue []any         // event, or *node for a subtest that started
	open  bool          // its result is still to come
	shown bool          // a test of ours plays it
	calm  chan struct{} // closed when the parent need not wait for it
	once  sync.Once
}

func newNode(name string, parent *node) *node {
	n := &node{name: name, parent: parent, open: true, calm: make(chan struct{})}
	n.more.L = &n.mu
	return n
}

// newReport starts a report of the test of the guest by that name, or of all of
// its tests with "".
func newReport(name string) *report {
	root := newNode(name, nil)
	return &report{root: root, nodes: map[string]*node{name: root}}
}

// deliver takes one event.
func (r *report) deliver(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, known := r.nodes[e.test]
	switch {
	case e.kind == started && !known:
		parent := r.around(e.test)
		n = newNode(e.test, parent)
		r.nodes[e.test] = n
		parent.add(n)
	case e.kind == started:
	case known:
		n.add(e)
	default:
		r.around(e.test).add(e)
	}
}

// around is the innermost test that is known of those around a name; a name of
// a subtest may itself contain a slash.
func (r *report) around(name string) *node {
	for name != "" {
		name = parentOf(name)
		if n, ok := r.nodes[name]; ok {
			return n
		}
	}
	return r.root
}

// close says that nothing more will come.
func (r *report) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		n.add(event{kind: ended})
	}
}

// leftovers writes what no test was there any more to write, as the trace of a
// panic: the result of the test comes before it.
func (r *report) leftovers(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		n.mu.Lock()
		for _, what := range n.queue {
			if e, ok := what.(event); ok && e.kind == wrote {
				_, _ = io.WriteString(w, e.text)
			}
		}
		n.queue = nil
		n.mu.Unlock()
	}
}

func (n *node) add(what any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.queue = append(n.queue, what)
	n.more.Signal()
}

func (n *node) next() any {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.queue) == 0 {
		n.more.Wait()
	}
	what := n.queue[0]
	n.queue = n.queue[1:]
	return what
}

// play repeats one test of the guest as t, until its result has come. It says
// whether the test was skipped there; the caller skips t when it is done with it.
func (n *node) play(t *testing.T) (skip bool) {
	var children sync.WaitGroup
	for going := true; going; {
		switch what := n.next().(type) {
		case *node:
			children.Go(func() { n.child(t, what) })
			<-what.calm
		case event:
			going = n.event(t, what, &skip)
		}
	}
	children.Wait()
	return skip
}

// event handles one; it returns false with the last.
func (n *node) event(t *testing.T, e event, skip *bool) bool {
	switch e.kind {
	case wrote:
		// It was indented in the guest, and is once more here.
		_, _ = io.WriteString(t.Output(), strings.TrimPrefix(e.text, "    "))
	case paused:
		n.release()
	case passed:
		return false
	case failed:
		t.Fail()
		return false
	case skipped:
		*skip = true
		return false
	case ended:
		if n.parent != nil || n.name != "" {
			t.Errorf("%s had not ended when the guest did", n.name)
		}
		return false
	}
	return true
}

// child runs a subtest of t that repeats a test of the guest. If our own
// selection leaves it out nevertheless, a failure still counts.
func (n *node) child(t *testing.T, c *node) {
	defer c.release()
	name := strings.TrimPrefix(strings.TrimPrefix(c.name, n.name), "/")
	t.Run(name, func(t *testing.T) {
		c.shown = true
		defer c.release()
		if c.play(t) {
			t.SkipNow()
		}
	})
	if !c.shown {
		c.drain(t)
	}
}

// drain takes the events of a test that is not shown.
func (n *node) drain(t *testing.T) {
	for {
		switch what := n.next().(type) {
		case *node:
			what.release()
			what.drain(t)
		case event:
			switch e := what; e.kind {
			case failed, ended:
				t.Errorf("%s failed in the guest", n.name)
				return
			case passed, skipped:
				return
			}
		}
	}
}

// release lets the parent go on to its next test.
func (n *node) release() { n.once.Do(func() { close(n.calm) }) }
