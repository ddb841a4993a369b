package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is a Sink that tests can wait on.
type lines struct {
	mu   sync.Mutex
	all  []string
	more chan struct{} // closed and replaced with each line
}

func newLines() *lines { return &lines{more: make(chan struct{})} }

func (l *lines) Write(_ time.Time, level slog.Level, text []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, levelName(level)+": "+strings.Join(text, "\n"))
	close(l.more)
	l.more = make(chan struct{})
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.all {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

// await waits until n lines have part in them.
func (l *lines) await(t *testing.T, part string, n int) {
	t.Helper()
	deadline := time.After(10 * time.Minute) // of a bubble's clock
	for {
		l.mu.Lock()
		more := l.more
		l.mu.Unlock()
		if l.count(part) >= n {
			return
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("%d lines with %q, not %d, in:\n%s", l.count(part), part, n, l)
		}
	}
}

// fakeHost is a host on a Hub.
type fakeHost struct {
	mu       sync.Mutex
	node     *netio.Node
	addr     netip.Addr
	files    map[string]string
	written  map[string]string
	held     map[string]bool
	forwards bool
	noRoute  bool
	listens  func(local netip.AddrPort) error // what ListenIKE fails with
}

func newFakeHost(hub *netio.Hub, addr string) *fakeHost {
	a := netip.MustParseAddr(addr)
	return &fakeHost{
		node: hub.Node(a), addr: a, forwards: true,
		files: map[string]string{}, written: map[string]string{}, held: map[string]bool{},
	}
}

func (h *fakeHost) ReadPrivate(path string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	text, ok := h.files[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return []byte(text), nil
}

func (h *fakeHost) ReadMatching(pattern string) (map[string][]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string][]byte{}
	for p, text := range h.files {
		if ok, _ := path.Match(pattern, p); ok {
			all[p] = []byte(text)
		}
	}
	return all, nil
}

func (h *fakeHost) put(path, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[path] = text
}

func (h *fakeHost) WriteRun(path string, data []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.written[path] = string(data)
	return nil
}

type closer func()

func (c closer) Close() error { c(); return nil }

func (h *fakeHost) HoldPID(path string) (io.Closer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[path] {
		return nil, errors.New("it is held")
	}
	h.held[path] = true
	return closer(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.held, path)
	}), nil
}

func (h *fakeHost) ListenIKE(local netip.AddrPort, _ bool) (dataplane.IKEConn, error) {
	if h.listens != nil {
		if err := h.listens(local); err != nil {
			return nil, err
		}
	}
	return netio.ListenUDP(h.node, local, 0)
}

func (h *fakeHost) LocalAddrs() ([]netip.Prefix, error) {
	return []netip.Prefix{netip.PrefixFrom(h.addr, 24)}, nil
}

func (h *fakeHost) InterfaceAddrs(name string) ([]netip.Prefix, error) {
	if name != "eth0" {
		return nil, fmt.Errorf("there is no network interface %q", name)
	}
	return h.LocalAddrs()
}

func (h *fakeHost) SourceFor(remote netip.Addr) (netip.Addr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.noRoute {
		return netip.Addr{}, fmt.Errorf("no route to %s", remote)
	}
	return h.addr, nil
}

func (h *fakeHost) setRoute(there bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noRoute = !there
}

func (h *fakeHost) DefaultInterface(bool) (string, error) { return "eth0", nil }
func (h *fakeHost) HasIPv6() bool                         { return false }
func (h *fakeHost) Forwards(bool) (bool, error)           { return h.forwards, nil }

// carrying is a null plane that says that it carries data, and whose calls can
// be made to fail.
type carrying struct {
	*null.Plane
	mu    sync.Mutex
	add   func(sa *ipsec.SA) error // nil: works
	flows error                    // what ApplyFlows fails with
}

func (c *carrying) failFlows(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flows = err
}

func (c *carrying) ApplyFlows(ctx context.Context, changes []ipsec.FlowChange) error {
	c.mu.Lock()
	err := c.flows
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.Plane.ApplyFlows(ctx, changes)
}

func (c *carrying) Info() dataplane.Info {
	i := c.Plane.Info()
	i.CarriesData = true
	return i
}

func (c *carrying) AddSA(ctx context.Context, sa *ipsec.SA) error {
	c.mu.Lock()
	add := c.add
	c.mu.Unlock()
	if add != nil {
		if err := add(sa); err != nil {
			return err
		}
	}
	return c.Plane.AddSA(ctx, sa)
}

func (c *carrying) state(t *testing.T) dataplane.State {
	t.Helper()
	s, err := c.Dump(context.Background(), dataplane.Query{Owner: ipsec.OwnerAny})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// node is a daemon under test.
type node struct {
	*Daemon
	host   *fakeHost
	plane  *carrying
	log    *lines
	cancel context.CancelFunc
	done   chan error
}

const confPath = "/etc/isakmpd/isakmpd.conf"

func options(h *fakeHost, l *lines) (Options, *carrying) {
	p := &carrying{Plane: null.New(null.Options{Network: h.node})}
	return Options{
		Config: confPath, Port: 500, EncapPort: 4500, NoPolicy: true, Verbose: true,
		PIDFile: RunDir + "/isakmpd.pid", Report: RunDir + "/isakmpd.report",
		Host: h, Log: NewLog(l), Rand: rand.Reader,
		Plane: func(context.Context, PlaneOptions) (dataplane.Backend, error) { return p, nil },
	}, p
}

// run starts a daemon with a configuration.
func run(t *testing.T, h *fakeHost, text string, change ...func(*Options)) *node {
	t.Helper()
	l := newLines()
	opt, p := options(h, l)
	for _, c := range change {
		c(&opt)
	}
	h.put(confPath, text)
	d, err := New(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := &node{Daemon: d, host: h, plane: p, log: l, cancel: cancel, done: make(chan error, 1)}
	go func() { n.done <- d.Run(ctx) }()
	return n
}

func (n *node) end(t *testing.T) {
	t.Helper()
	n.cancel()
	if err := <-n.done; err != nil {
		t.Errorf("the daemon ended with: %v", err)
	}
}

// side is one end of a test's tunnel.
type side struct {
	own, peer string // addresses
	net, far  string // networks /24
	list      string // Connections or Passive-connections
	general   string // more of [General]
	more      string // more sections
	names     string // more connections of the list
}

var (
	east = side{own: "192.0.2.1", peer: "192.0.2.2", net: "10.1.0.0", far: "10.2.0.0", list: "Connections"}
	west = side{own: "192.0.2.2", peer: "192.0.2.1", net: "10.2.0.0", far: "10.1.0.0", list: "Passive-connections"}
)

func (s side) conf() string {
	return fmt.Sprintf(`[General]
Listen-on= %s
%s
[Phase 1]
%s= far
[Phase 2]
%s= tunnel%s
[far]
Phase= 1
Address= %s
Configuration= main
Authentication= 8e5c39d30b4d4e2f
[main]
EXCHANGE_TYPE= ID_PROT
Transforms= AES-SHA2-256-GRP31
[tunnel]
Phase= 2
ISAKMP-peer= far
Configuration= quick
Local-ID= here
Remote-ID= there
[quick]
EXCHANGE_TYPE= QUICK_MODE
Suites= QM-ESP-AES-SHA2-256-PFS-GRP31-SUITE
[here]
ID-type= IPV4_ADDR_SUBNET
Network= %s
Netmask= 255.255.255.0
[there]
ID-type= IPV4_ADDR_SUBNET
Network= %s
Netmask= 255.255.255.0
%s
`, s.own, s.general, s.peer, s.list, s.names, s.peer, s.net, s.far, s.more)
}
