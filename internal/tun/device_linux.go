package tun

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options says which device is wanted.
type Options struct {
	Name    string // with %d the kernel numbers it: "oakley%d"
	MTU     int    // in bytes
	Offload bool   // segmentation offload, if the kernel has it
}

// native is a TUN device of the kernel.
type native struct {
	file    *os.File
	raw     syscall.RawConn
	name    string
	mtu     int
	vnet    bool // packets have a virtio header
	offload bool
	closed  atomic.Bool

	in    []byte // a superpacket, behind its virtio header
	split splitter

	out    []byte // headers of a superpacket
	zero   [vnetLen]byte
	iovs   []unix.Iovec
	niov   int
	call   func(fd uintptr) bool
	errno  unix.Errno
	joiner *joiner
	failed int
	err    error
}

// Open makes a TUN device in the network namespace of the calling thread. It is
// down and without addresses, and gone when it is closed. EBUSY: another process
// has a device of that name.
func Open(o Options) (Device, error) {
	file, name, offload, err := create(o)
	if err != nil {
		return nil, err
	}
	d := &native{file: file, name: name, mtu: o.MTU, vnet: o.Offload, offload: offload}
	d.raw, err = file.SyscallConn()
	if err == nil {
		err = setMTU(name, o.MTU)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("TUN device %s: %w", name, err)
	}
	d.in = make([]byte, vnetLen+65535)
	d.out = make([]byte, vnetLen+maxHeaders)
	d.iovs = make([]unix.Iovec, 1+maxRowPkts)
	d.call = func(fd uintptr) bool { return d.writev(fd) }
	d.joiner = newJoiner(d.writeRow, d.writeOne)
	return d, nil
}

func create(o Options) (file *os.File, name string, offload bool, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		hint := "is the tun module there (modprobe tun)?"
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			hint = "this needs root or CAP_NET_ADMIN"
		}
		return nil, "", false, fmt.Errorf("opening /dev/net/tun: %w; %s", err, hint)
	}
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if o.Offload {
		flags |= unix.IFF_VNET_HDR
	}
	ifr, err := unix.NewIfreq(o.Name)
	if err != nil {
		unix.Close(fd)
		return nil, "", false, fmt.Errorf("TUN device %q: %w", o.Name, err)
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		hint := ""
		switch {
		case errors.Is(err, unix.EBUSY):
			hint = "; another process has it: is a daemon running already?"
		case errors.Is(err, unix.EPERM):
			hint = "; this needs root or CAP_NET_ADMIN"
		}
		return nil, "", false, fmt.Errorf("making TUN device %s: %w%s", o.Name, err, hint)
	}
	if o.Offload {
		offload = setOffload(fd)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), ifr.Name(), offload, nil
}

// setOffload asks for superpackets: of UDP too where the kernel (6.2) can. A
// kernel that refuses still speaks with virtio headers.
func setOffload(fd int) bool {
	tcp := unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil {
		return true
	}
	return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp) == nil
}

func setMTU(name string, mtu int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(mtu))
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFMTU, ifr); err != nil {
		return fmt.Errorf("setting the MTU to %d: %w", mtu, err)
	}
	return nil
}

func (d *native) Name() string  { return d.name }
func (d *native) MTU() int      { return d.mtu }
func (d *native) Offload() bool { return d.offload }

func (d *native) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	return d.file.Close()
}

func (d *native) Read(bufs [][]byte, sizes []int, head int) (int, error) {
	for {
		if n := d.cut(bufs, sizes, head); n > 0 {
			return n, nil
		}
		n, err := d.file.Read(d.in)
		if err != nil {
			if d.closed.Load() {
				return 0, ErrClosed
			}
			return 0, fmt.Errorf("reading from %s: %w", d.name, err)
		}
		if !d.vnet {
			if n == 0 || n > len(bufs[0])-head {
				continue
			}
			sizes[0] = copy(bufs[0][head:], d.in[:n])
			return 1, nil
		}
		if n <= vnetLen {
			continue
		}
		hdr, pkt := parseVnet(d.in), d.in[vnetLen:n]
		if hdr.gsoType != unix.VIRTIO_NET_HDR_GSO_NONE {
			// What cannot be cut is lost as on any wire.
			if d.split.start(hdr, pkt) != nil {
				d.split = splitter{}
			}
			continue
		}
		if len(pkt) > len(bufs[0])-head || hdr.finish(pkt) != nil {
			continue
		}
		sizes[0] = copy(bufs[0][head:], pkt)
		return 1, nil
	}
}

// cut fills bufs from the superpacket at hand.
func (d *native) cut(bufs [][]byte, sizes []int, head int) (n int) {
	for n < len(bufs) && !d.split.done() {
		if sizes[n] = d.split.next(bufs[n][head:]); sizes[n] > 0 {
			n++
		}
	}
	return n
}

func (d *native) Write(pkts [][]byte) (failed int, err error) {
	d.failed, d.err = 0, nil
	for _, p := range pkts {
		if d.offload {
			d.joiner.add(p)
		} else {
			d.writeOne(p)
		}
	}
	d.joiner.flush()
	return d.failed, d.err
}

// writeRow writes a superpacket from where its parts lie.
func (d *native) writeRow(r *row) {
	if len(r.pkts) == 1 {
		d.writeOne(r.pkts[0])
		return
	}
	d.niov = 0
	d.piece(d.out[:r.header(d.out)])
	for _, p := range r.pkts {
		d.piece(p[r.hdrs:])
	}
	d.send(len(r.pkts))
}

func (d *native) writeOne(p []byte) {
	if len(p) == 0 {
		return
	}
	d.niov = 0
	if d.vnet {
		d.piece(d.zero[:])
	}
	d.piece(p)
	d.send(1)
}

func (d *native) piece(b []byte) {
	d.iovs[d.niov].Base = &b[0]
	d.iovs[d.niov].SetLen(len(b))
	d.niov++
}

func (d *native) send(pkts int) {
	err := d.raw.Write(d.call)
	if err == nil && d.errno != 0 {
		err = d.errno
	}
	for i := range d.niov {
		d.iovs[i].Base = nil
	}
	if err == nil {
		return
	}
	if d.closed.Load() {
		err = ErrClosed
	}
	d.failed += pkts
	if d.err == nil {
		d.err = fmt.Errorf("writing to %s: %w", d.name, err)
	}
}

func (d *native) writev(fd uintptr) bool {
	for {
		_, _, d.errno = unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&d.iovs[0])), uintptr(d.niov))
		switch d.errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		return true
	}
}
