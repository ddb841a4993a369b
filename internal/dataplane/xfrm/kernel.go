package xfrm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/xfrm/wire"
)

// kernel is who answers: the real one, or a test's.
type kernel interface {
	// do sends a request and waits until it is done.
	do(t wire.Type, data []byte) error
	// ask sends a request and returns its one answer.
	ask(t wire.Type, data []byte) ([]byte, error)
	// dump lists a whole table.
	dump(t wire.Type, data []byte, each func(b []byte) error) error
	// pid is what the kernel calls us in messages about what we did.
	pid() uint32
	// listen opens a stream of events.
	listen(groups ...wire.Group) (listener, error)
	close() error
}

// listener is a stream of events. receive fails with ENOBUFS when some were lost
// and goes on after that; any other error is its end.
type listener interface {
	receive() ([]message, error)
	close() error
}

// message is an event.
type message struct {
	typ  wire.Type
	pid  uint32 // who made it happen; 0: the kernel
	data []byte
}

// sockets is the kernel of the network namespace of the thread that opened it.
type sockets struct{ conn *netlink.Conn }

// openKernel opens a socket. Its port, if not 0, is one that nobody else in the
// network namespace has at the same time: who calls reqids its own takes the first
// of them for it, or two processes would clear each other's SAs as those of one
// that crashed.
func openKernel(port uint32) (*sockets, error) {
	conn, err := dial(port)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("another process has the kernel's IPsec, reqids from %#x on, in this network namespace: is an ipsecd running already? %w", port, err)
	}
	if err != nil {
		return nil, err
	}
	return &sockets{conn}, nil
}

// room is for one datagram of the kernel's, in bytes: it puts 32 KiB of a dump
// into one at most.
const room = 64 << 10

func dial(port uint32) (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_XFRM, &netlink.Config{MessageBufferSize: room, PID: port})
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return nil, fmt.Errorf("this kernel has no XFRM (module xfrm_user): %w", err)
	case err != nil:
		return nil, fmt.Errorf("talking to the kernel's IPsec: %w", err)
	}
	_ = conn.SetOption(netlink.ExtendedAcknowledge, true) // old kernels give numbers alone
	return conn, nil
}

func (s *sockets) do(t wire.Type, data []byte) error {
	_, err := s.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(t), Flags: netlink.Request | netlink.Acknowledge},
		Data:   data,
	})
	return err
}

func (s *sockets) ask(t wire.Type, data []byte) ([]byte, error) {
	answers, err := s.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(t), Flags: netlink.Request},
		Data:   data,
	})
	if err != nil {
		return nil, err
	}
	if len(answers) == 0 {
		return nil, fmt.Errorf("the kernel answers %s with nothing", t)
	}
	return answers[0].Data, nil
}

// dumpTries is how often a dump begins anew that changed under it.
const dumpTries = 3

func (s *sockets) dump(t wire.Type, data []byte, each func(b []byte) error) error {
	var all []netlink.Message
	for range dumpTries {
		var err error
		all, err = s.conn.Execute(netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(t), Flags: netlink.Request | netlink.Dump},
			Data:   data,
		})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(all, func(m netlink.Message) bool { return m.Header.Flags&netlink.DumpInterrupted != 0 }) {
			break
		}
	}
	for i := range all {
		if err := each(all[i].Data); err != nil {
			return err
		}
	}
	return nil
}

func (s *sockets) pid() uint32 { return s.conn.PID() }

func (s *sockets) close() error { return s.conn.Close() }

// eventBuffer is what may wait for us, in bytes: an acquire takes less than 1
// KiB of it, so ten thousand fit.
const eventBuffer = 16 << 20

func (s *sockets) listen(groups ...wire.Group) (listener, error) {
	conn, err := dial(0)
	if err != nil {
		return nil, err
	}
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { // without CAP_NET_ADMIN there is less room
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, eventBuffer)
			}
		})
	}
	filter, err := others(s.pid())
	if err == nil {
		err = conn.SetBPF(filter)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("listening to what others do to the kernel's IPsec: %w", err)
	}
	for _, g := range groups {
		if err := conn.JoinGroup(uint32(g)); err != nil {
			conn.Close()
			return nil, fmt.Errorf("listening to the kernel's IPsec: %w", err)
		}
	}
	return &events{conn}, nil
}

// others is a filter that leaves out what a port asked for itself: every SA and
// policy of ours would come back to us.
func others(pid uint32) ([]bpf.RawInstruction, error) {
	const pidAt = 12 // in the netlink header
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], pid)
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: pidAt, Size: 4}, // as the network orders bytes
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(b[:]), SkipTrue: 1},
		bpf.RetConstant{Val: 1<<31 - 1},
		bpf.RetConstant{Val: 0},
	})
}

type events struct{ conn *netlink.Conn }

func (e *events) receive() ([]message, error) {
	msgs, err := e.conn.Receive()
	if err != nil {
		return nil, err
	}
	all := make([]message, 0, len(msgs))
	for _, m := range msgs {
		all = append(all, message{wire.Type(m.Header.Type), m.Header.PID, m.Data})
	}
	return all, nil
}

func (e *events) close() error { return e.conn.Close() }
