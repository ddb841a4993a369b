package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ike"
	"oakley/internal/netio"
)

// sockets are the UDP ports on which we speak IKE: the IKE port, and the one for
// UDP encapsulation that the data plane shares with us.
type sockets struct {
	mu     sync.Mutex // of all and closed
	all    []*socket
	closed bool

	log  *Log
	in   chan<- ike.Input
	stop chan struct{}
	wg   sync.WaitGroup
	note func(cause string, addr netip.Addr, text string) // a line that is bounded in number
}

// socket is one of them.
type socket struct {
	conn  dataplane.IKEConn
	local netip.AddrPort
	encap bool
}

// maxDatagram is more than UDP can carry.
const maxDatagram = 65536

// openSockets opens the ports on every address; with an error none stays open.
func (d *Daemon) openSockets(ctx context.Context, addrs []netip.Addr) (*sockets, error) {
	s := &sockets{log: d.log, in: d.inputs, stop: make(chan struct{}), note: d.note}
	for _, a := range addrs {
		if err := d.openOn(ctx, s, a); err != nil {
			s.close()
			return nil, err
		}
	}
	if len(s.all) == 0 {
		return nil, errors.New("there is no address to listen on: this host has none of the wanted family")
	}
	return s, nil
}

func (d *Daemon) openOn(ctx context.Context, s *sockets, a netip.Addr) error {
	local := netip.AddrPortFrom(a, d.opt.Port)
	conn, err := d.host.ListenIKE(local, d.plane.backend().Info().Kernel)
	if err != nil {
		return listenError(local, err)
	}
	s.all = append(s.all, &socket{conn: conn, local: local})
	if d.opt.NoNATT {
		return nil
	}
	k, err := d.openEncap(ctx, d.plane.backend(), a)
	if err == nil {
		s.all = append(s.all, k)
	}
	return err
}

// openEncap opens IKE's side of the UDP-encapsulation port on a.
func (d *Daemon) openEncap(ctx context.Context, b dataplane.Backend, a netip.Addr) (*socket, error) {
	local := netip.AddrPortFrom(a, d.opt.EncapPort)
	conn, err := b.EncapConn(ctx, local)
	if err != nil {
		return nil, listenError(local, err)
	}
	return &socket{conn: conn, local: local, encap: true}, nil
}

// listenError says which port could not be opened, and what to do.
func listenError(local netip.AddrPort, err error) error {
	where := fmt.Sprintf("UDP port %d on %s", local.Port(), addrName(local.Addr()))
	if o, ok := errors.AsType[*netio.OpenError](err); ok {
		err = o.Err // its other words are ours
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, dataplane.ErrExists):
		return fmt.Errorf("%s is taken by another program (%w): is an IKE daemon running already? \"ss -lunp sport = :%d\" says which", where, err, local.Port())
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s may not be opened (%w): isakmpd needs root, or CAP_NET_BIND_SERVICE and CAP_NET_ADMIN", where, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s cannot be opened (%w): no interface of this host has that address, see Listen-on in [General]", where, err)
	}
	return fmt.Errorf("%s cannot be opened: %w", where, err)
}

func addrName(a netip.Addr) string {
	switch a {
	case netip.IPv4Unspecified():
		return "all IPv4 addresses"
	case netip.IPv6Unspecified():
		return "all IPv6 addresses"
	}
	return a.String()
}

// start begins to read.
func (s *sockets) start() {
	for _, k := range s.all {
		s.wg.Go(func() { s.read(k) })
	}
}

// list is what is open.
func (s *sockets) list() []*socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// replaceEncap takes the encapsulation ports of another data plane in place of
// those that there were, and reads from them.
func (s *sockets) replaceEncap(with []*socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := with
	if !s.closed {
		out = nil
		var stay []*socket
		for _, k := range s.all {
			if k.encap {
				out = append(out, k)
			} else {
				stay = append(stay, k)
			}
		}
		s.all = append(stay, with...)
		for _, k := range with {
			s.wg.Go(func() { s.read(k) })
		}
	}
	for _, k := range out {
		_ = k.conn.Close()
	}
}

// close closes what is open and waits for the readers.
func (s *sockets) close() {
	close(s.stop)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, k := range s.list() {
		_ = k.conn.Close()
	}
	s.wg.Wait()
}

// read passes datagrams on until the socket is closed. When the engine has more
// than it can do the system's buffer fills up and drops, as it does for UDP.
func (s *sockets) read(k *socket) {
	buf := make([]byte, maxDatagram)
	pause := time.Duration(0)
	for {
		n, remote, local, err := k.conn.ReadFrom(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || errors.Is(err, dataplane.ErrClosed) || !s.rest(&pause) {
				return
			}
			s.note("read", k.local.Addr(), fmt.Sprintf("reading from %s: %v", k.local, err))
			continue
		}
		pause = 0
		if !local.Addr().IsValid() || local.Addr().IsUnspecified() {
			local = k.local
		}
		d := ike.Datagram{
			Local:  netip.AddrPortFrom(local.Addr().Unmap(), k.local.Port()),
			Remote: netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()),
			Data:   append([]byte(nil), buf[:n]...),
		}
		select {
		case s.in <- d:
		case <-s.stop:
			return
		}
	}
}

// rest waits longer after each error in a row, and tells whether to go on.
func (s *sockets) rest(pause *time.Duration) bool {
	*pause = min(2**pause+time.Millisecond, time.Second)
	t := time.NewTimer(*pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.stop:
		return false
	}
}

var errNoSocket = errors.New("no socket is open for that address and port")

// pick finds the socket that sends from local to remote. An unspecified or
// invalid local address leaves the choice to the system.
func (s *sockets) pick(local, remote netip.AddrPort, encap bool) *socket {
	var wild *socket
	for _, k := range s.list() {
		a := k.local.Addr()
		switch {
		case k.encap != encap || a.Is4() != remote.Addr().Is4():
		case a == local.Addr():
			return k
		case a.IsUnspecified() || !local.Addr().IsValid() && wild == nil:
			wild = k
		}
	}
	return wild
}

func (s *sockets) send(local, remote netip.AddrPort, encap bool, data []byte) error {
	k := s.pick(local, remote, encap)
	if k == nil {
		return errNoSocket
	}
	return k.conn.WriteTo(data, local, remote)
}

func (s *sockets) keepalive(local, remote netip.AddrPort) error {
	k := s.pick(local, remote, true)
	if k == nil {
		return errNoSocket
	}
	return k.conn.Keepalive(local, remote)
}

// String names what we listen on.
func (s *sockets) String() string {
	ports := map[netip.Addr][]string{}
	var order []netip.Addr
	for _, k := range s.list() {
		a := k.local.Addr()
		if !slices.Contains(order, a) {
			order = append(order, a)
		}
		ports[a] = append(ports[a], fmt.Sprint(k.local.Port()))
	}
	names := make([]string, len(order))
	for i, a := range order {
		names[i] = fmt.Sprintf("%s, UDP port %s", addrName(a), strings.Join(ports[a], " and "))
	}
	return strings.Join(names, "; ")
}
