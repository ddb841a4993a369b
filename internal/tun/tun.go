// Package tun is the device through which plain packets come from and go to the
// host's IP stack. With offload (virtio headers), one read brings a whole TCP
// superpacket, which is cut into packets, and one write takes a row of TCP
// segments, which are put together where they lie: two things that are worth
// more than anything else in a user-space tunnel. Pipe is a device in memory.
package tun

import "errors"

// Device gives and takes IP packets without a link header.
type Device interface {
	Name() string
	// MTU is the largest packet in bytes that Read returns.
	MTU() int
	// Read waits for packets and puts the i-th at bufs[i][head:], sizes[i] bytes
	// long. Each buffer has head plus MTU bytes or more. One goroutine reads.
	Read(bufs [][]byte, sizes []int, head int) (n int, err error)
	// Write gives packets to the host and returns how many it refused. The
	// packets may be changed. One goroutine writes at a time.
	Write(pkts [][]byte) (failed int, err error)
	// Offload says whether superpackets are in use.
	Offload() bool
	Close() error
}

// ErrClosed is returned by Read after Close.
var ErrClosed = errors.New("TUN device closed")

// vnetHdr is struct virtio_net_hdr, which is in native byte order for a TUN
// device. Ten bytes, fields at 0, 1, 2, 4, 6, 8.
type vnetHdr struct {
	flags, gsoType                         uint8
	hdrLen, gsoSize, csumStart, csumOffset uint16
}

const vnetLen = 10
