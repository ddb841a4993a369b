package lab

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is a packet socket whose buffer is shared with the kernel (packet(7),
// PACKET_RX_RING, version 3): large without the right to raise socket buffers,
// which root of a user namespace lacks.
type ring struct {
	file *os.File
	mem  []byte
	next int // block
}

const (
	ringBlock  = 1 << 20
	ringBlocks = 32
	ringRetire = 10 // milliseconds before a block that is not full is handed over
)

// openRing watches an interface of this thread's namespace.
func openRing(ifindex int) (*ring, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	r := &ring{}
	if err := r.setUp(fd, ifindex); err != nil {
		if r.mem != nil {
			_ = unix.Munmap(r.mem)
		}
		unix.Close(fd)
		return nil, err
	}
	r.file = os.NewFile(uintptr(fd), "spy")
	return r, nil
}

func (r *ring) setUp(fd, ifindex int) (err error) {
	if err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return fmt.Errorf("packet version 3: %w", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return fmt.Errorf("segmentation headers: %w", err)
	}
	err = unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &unix.TpacketReq3{
		Block_size: ringBlock, Block_nr: ringBlocks, Frame_size: ringBlock, Frame_nr: ringBlocks, Retire_blk_tov: ringRetire,
	})
	if err != nil {
		return fmt.Errorf("packet ring: %w", err)
	}
	if r.mem, err = unix.Mmap(fd, 0, ringBlock*ringBlocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("mapping the packet ring: %w", err)
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex})
}

// Offsets within a block and within the header of a packet in it: struct
// tpacket_block_desc and struct tpacket3_hdr of linux/if_packet.h.
const (
	blockStatus, blockPackets, blockFirst = 8, 12, 16
	pktNext, pktSnaplen, pktMac           = 0, 12, 24
)

// read waits for packets and passes each on with its segmentation header, which
// stands right in front of it, until the ring is closed. The bytes are the
// visitor's until it returns.
func (r *ring) read(visit func(vnet, frame []byte)) {
	defer func() { _ = unix.Munmap(r.mem) }()
	rc, err := r.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		block := r.mem[r.next*ringBlock : (r.next+1)*ringBlock]
		status := (*uint32)(unsafe.Pointer(&block[blockStatus]))
		err := rc.Read(func(uintptr) bool { return atomic.LoadUint32(status)&unix.TP_STATUS_USER != 0 })
		if err != nil {
			return // closed
		}
		at := binary.NativeEndian.Uint32(block[blockFirst:])
		for range binary.NativeEndian.Uint32(block[blockPackets:]) {
			p := block[at:]
			mac, n := int(binary.NativeEndian.Uint16(p[pktMac:])), int(binary.NativeEndian.Uint32(p[pktSnaplen:]))
			visit(p[mac-vnetHeader:mac], p[mac:mac+n])
			at += binary.NativeEndian.Uint32(p[pktNext:])
		}
		atomic.StoreUint32(status, unix.TP_STATUS_KERNEL)
		r.next = (r.next + 1) % ringBlocks
	}
}

// dropped is how many packets the ring had no room for since the last call.
func (r *ring) dropped() int {
	rc, err := r.file.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = rc.Control(func(fd uintptr) {
		if st, err := unix.GetsockoptTpacketStatsV3(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = int(st.Drops)
		}
	})
	return n
}
