package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Net is a set of hosts. It lives in this process alone: namespaces have no
// names, so that they are gone with the process, however that ends.
type Net struct {
	mu    sync.Mutex
	hosts []*Host
	undo  []func()
}

// Open starts an empty network.
func Open() *Net { return &Net{} }

// New starts an empty network for a test; it is closed when the test ends. If
// the test failed, the logs of all programs in it are printed.
func New(t testing.TB) *Net {
	t.Helper()
	Need(t, "root")
	n := Open()
	t.Cleanup(func() {
		procs := n.processes()
		n.Close()
		if t.Failed() {
			for _, p := range procs {
				t.Logf("--- log of %s\n%s", p, p.Log)
			}
		}
	})
	return n
}

// Close kills what still runs, by its own id, and gives everything back.
func (n *Net) Close() {
	n.mu.Lock()
	undo := n.undo
	n.undo = nil
	n.mu.Unlock()
	for i := len(undo) - 1; i >= 0; i-- {
		undo[i]()
	}
}

func (n *Net) onClose(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.undo = append(n.undo, f)
}

func (n *Net) processes() []*Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*Process
	for _, h := range n.hosts {
		h.mu.Lock()
		all = append(all, h.procs...)
		h.mu.Unlock()
	}
	return all
}

// Host is a network namespace.
type Host struct {
	Name string

	net *Net
	ns  netns.NsHandle
	nl  *netlink.Handle

	mu      sync.Mutex
	procs   []*Process
	folders map[string]string // the host's own, by what they stand for
}

func (h *Host) String() string { return h.Name }

// Host makes a host with a loopback interface that is up. It does not forward.
func (n *Net) Host(name string) (*Host, error) {
	h := &Host{Name: name, net: n}
	made := make(chan error, 1)
	go func() { // the thread ends with this goroutine: it is never unlocked
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- fmt.Errorf("host %s: no network namespace: %w", name, err)
			return
		}
		ns, err := netns.Get()
		h.ns = ns
		made <- err
	}()
	if err := <-made; err != nil {
		return nil, err
	}
	nl, err := netlink.NewHandleAt(h.ns)
	if err != nil {
		h.ns.Close()
		return nil, fmt.Errorf("host %s: netlink: %w", name, err)
	}
	h.nl = nl
	n.mu.Lock()
	n.hosts = append(n.hosts, h)
	n.mu.Unlock()
	n.onClose(func() {
		h.killStrays()
		h.nl.Close()
		h.ns.Close()
	})
	lo, err := h.nl.LinkByName("lo")
	if err == nil {
		err = h.nl.LinkSetUp(lo)
	}
	if err != nil {
		return nil, fmt.Errorf("host %s: loopback: %w", name, err)
	}
	// Addresses are usable at once, and nothing configures itself.
	return h, h.Sysctls(map[string]string{
		"net.ipv6.conf.all.accept_dad":     "0",
		"net.ipv6.conf.default.accept_dad": "0",
		"net.ipv6.conf.default.accept_ra":  "0",
		"net.ipv6.conf.default.autoconf":   "0",
		"net.ipv4.conf.all.rp_filter":      "0",
		"net.ipv4.conf.default.rp_filter":  "0",
		"net.ipv4.conf.all.send_redirects": "0",
	})
}

// Do runs f on a thread that is in the host's namespace. Sockets that f opens
// stay there; goroutines that f starts are not in it.
func (h *Host) Do(f func() error) error {
	res := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			res <- err
			return
		}
		defer home.Close()
		if err := netns.Set(h.ns); err != nil {
			res <- fmt.Errorf("entering %s: %w", h.Name, err)
			return
		}
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread() // else the thread ends with this goroutine
		}
		res <- err
	}()
	return <-res
}

// Enter is a shell command that starts a shell on the host, for people who look
// around while this process lives.
func (h *Host) Enter() string {
	user := ""
	if os.Getenv(reexecEnv) != "" {
		user = "-U --preserve-credentials "
	}
	return fmt.Sprintf("nsenter -t %d %s--net=/proc/%d/fd/%d", os.Getpid(), user, os.Getpid(), int(h.ns))
}

// Sysctls sets kernel parameters ("net.ipv4.ip_forward").
func (h *Host) Sysctls(set map[string]string) error {
	return h.Do(func() error {
		for key, value := range set {
			path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
			if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
				if errors.Is(err, os.ErrNotExist) && strings.Contains(key, "ipv6") {
					continue // a kernel without IPv6
				}
				return fmt.Errorf("host %s: sysctl %s=%s: %w", h.Name, key, value, err)
			}
		}
		return nil
	})
}

// Forward makes the host a router, for IPv4 and IPv6.
func (h *Host) Forward() error {
	return h.Sysctls(map[string]string{
		"net.ipv4.ip_forward":              "1",
		"net.ipv6.conf.all.forwarding":     "1",
		"net.ipv6.conf.default.forwarding": "1",
	})
}

// End is one end of a cable: an interface of a host and its addresses
// ("192.0.2.1/24", "2001:db8::1/64").
type End struct {
	Host  *Host
	If    string
	Addrs []string
}

// Connect joins two hosts by a cable.
func (n *Net) Connect(a, b End) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.If
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: b.If, PeerNamespace: netlink.NsFd(int(b.Host.ns))}
	if err := a.Host.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("cable %s:%s - %s:%s: %w", a.Host, a.If, b.Host, b.If, err)
	}
	for _, e := range []End{a, b} {
		if err := e.up(); err != nil {
			return fmt.Errorf("host %s: interface %s: %w", e.Host, e.If, err)
		}
	}
	for _, e := range []End{a, b} {
		if !Until(5*time.Second, e.settled) {
			return fmt.Errorf("host %s: interface %s does not come up", e.Host, e.If)
		}
	}
	return nil
}

// settled says whether the interface has its carrier and its link-local address:
// the kernel adds both a moment after the link was set up, and a State that was
// read before would differ from one that is read later.
func (e End) settled() bool {
	link, err := e.Host.nl.LinkByName(e.If)
	if err != nil || link.Attrs().OperState != netlink.OperUp {
		return false
	}
	addrs, err := e.Host.nl.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return false
	}
	local := len(addrs) == 0 // a kernel without IPv6, or a link without it
	for _, a := range addrs {
		local = local || a.IP.IsLinkLocalUnicast()
	}
	return (local || !e.has6()) && e.known(link)
}

// known says whether the host has routes to its own IPv6 addresses. The kernel
// makes them while the link comes up, and sometimes loses one on the way for
// good: that address is given again.
func (e End) known(link netlink.Link) bool {
	for _, s := range e.Addrs {
		addr, err := parseAddr(s)
		if err != nil || addr.IP.To4() != nil {
			continue
		}
		if r, err := e.Host.nl.RouteGet(addr.IP); err == nil && len(r) > 0 && r[0].Type == unix.RTN_LOCAL {
			continue
		}
		_ = e.Host.nl.AddrDel(link, addr)
		_ = e.Host.nl.AddrAdd(link, addr) // it is looked at again
		return false
	}
	return true
}

// parseAddr reads an address that is used at once.
func parseAddr(s string) (*netlink.Addr, error) {
	addr, err := netlink.ParseAddr(s)
	if err == nil {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr, err
}

// has6 says whether the end was given an IPv6 address.
func (e End) has6() bool {
	return slices.ContainsFunc(e.Addrs, func(s string) bool { return strings.Contains(s, ":") })
}

func (e End) up() error {
	link, err := e.Host.nl.LinkByName(e.If)
	if err != nil {
		return err
	}
	for _, s := range e.Addrs {
		addr, err := parseAddr(s)
		if err != nil {
			return err
		}
		if err := e.Host.nl.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %s: %w", s, err)
		}
	}
	return e.Host.nl.LinkSetUp(link)
}

// Route adds a route; dst is a prefix or "default".
func (h *Host) Route(dst, via string) error {
	gw, err := netip.ParseAddr(via)
	if err != nil {
		return err
	}
	r := &netlink.Route{Gw: gw.AsSlice()}
	switch {
	case dst != "default":
		p, err := netip.ParsePrefix(dst)
		if err != nil {
			return err
		}
		r.Dst = ipnet(p)
	case gw.Is4():
		r.Dst = ipnet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	default:
		r.Dst = ipnet(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
	}
	if err := h.nl.RouteAdd(r); err != nil {
		return fmt.Errorf("host %s: route %s via %s: %w", h.Name, dst, via, err)
	}
	return nil
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// SetMTU changes an interface's MTU in bytes.
func (h *Host) SetMTU(ifname string, mtu int) error {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("host %s: %s: %w", h.Name, ifname, err)
	}
	return h.nl.LinkSetMTU(link, mtu)
}

// SetUp takes an interface up or down.
func (h *Host) SetUp(ifname string, up bool) error {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("host %s: %s: %w", h.Name, ifname, err)
	}
	if up {
		return h.nl.LinkSetUp(link)
	}
	return h.nl.LinkSetDown(link)
}
