// Package ipcomp compresses and restores the payloads of IP packets (RFC 3173)
// with DEFLATE (RFC 2394). It handles payloads alone: moving IP headers is the
// caller's. A packet that compression would not make shorter is never sent
// compressed.
package ipcomp

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"oakley/internal/ipsec"
)

// HeaderLen is the length of IPComp's header in bytes: next header, flags, CPI
// (RFC 3173 section 3).
const HeaderLen = 4

// Compression is not tried on payloads this short: DEFLATE makes them longer
// (RFC 2394 section 3 names 90 bytes).
const threshold = 90

// A flow that does not shrink, because it is encrypted or compressed already, is
// left alone for a while: RFC 3173 section 2.2 asks for that. After tries
// failures in a row the next packets go as they are, twice as many each time.
const (
	tries    = 8
	leastGap = 16
	mostGap  = 1024
)

// Compressor compresses the packets of one SA. Any number of goroutines may use
// it; the zero value is ready.
type Compressor struct {
	failures atomic.Uint32 // in a row
	skip     atomic.Int32  // packets that are not tried
}

// Compress writes IPComp's header and the compressed payload to the start of dst,
// which must not overlap the payload and is never grown. next is the payload's
// protocol. It is false when the payload is to be sent as it is: too short, not
// made shorter, or part of a flow that does not shrink.
func (c *Compressor) Compress(dst, payload []byte, next uint8, cpi uint16) (out []byte, ok bool) {
	if len(payload) < threshold || c.resting() {
		return nil, false
	}
	w := writers.Get().(*writer)
	defer writers.Put(w)
	// What is not shorter is of no use, so there is no room for it.
	n, ok := w.deflate(dst[:min(len(dst), len(payload)-1)], payload)
	if !ok {
		c.failed()
		return nil, false
	}
	c.failures.Store(0)
	dst[0], dst[1] = next, 0
	binary.BigEndian.PutUint16(dst[2:], cpi)
	return dst[:n], true
}

// resting tells whether this packet is one that is not tried.
func (c *Compressor) resting() bool {
	return c.skip.Load() > 0 && c.skip.Add(-1) >= 0
}

func (c *Compressor) failed() {
	n := c.failures.Add(1)
	if n < tries {
		return
	}
	c.skip.Store(min(int32(leastGap)<<min(n-tries, 16), mostGap))
}

// writer is a compressor's work space, hundreds of kilobytes, which all SAs
// share.
type writer struct {
	z   *flate.Writer
	out sink
}

var writers = sync.Pool{New: func() any {
	w := new(writer)
	w.z, _ = flate.NewWriter(&w.out, flate.BestSpeed) // the level is a valid one
	return w
}}

// deflate fills b behind the header and returns where it ends.
func (w *writer) deflate(b, payload []byte) (n int, ok bool) {
	if len(b) <= HeaderLen {
		return 0, false
	}
	w.out = sink{b: b, n: HeaderLen}
	w.z.Reset(&w.out)
	_, err := w.z.Write(payload)
	if err == nil {
		err = w.z.Close()
	}
	w.out.b = nil
	return w.out.n, err == nil
}

var errFull = errors.New("not shorter")

// sink writes to a slice and refuses what does not fit.
type sink struct {
	b []byte
	n int
}

func (s *sink) Write(p []byte) (int, error) {
	if len(p) > len(s.b)-s.n {
		return 0, errFull
	}
	s.n += copy(s.b[s.n:], p)
	return len(p), nil
}

// ParseHeader reads the header of what follows the IP header. It is false when
// that is too short.
func ParseHeader(pkt []byte) (next uint8, cpi uint16, ok bool) {
	if len(pkt) < HeaderLen {
		return 0, 0, false
	}
	return pkt[0], binary.BigEndian.Uint16(pkt[2:]), true
}

// reader restores; all SAs share these.
type reader struct {
	z   io.ReadCloser
	src bytes.Reader
}

var readers = sync.Pool{New: func() any {
	r := new(reader)
	r.z = flate.NewReader(&r.src)
	return r
}}

// Decompress restores the payload of pkt, which begins with IPComp's header, to
// the start of dst, which must not overlap it. A payload longer than dst is
// refused, whatever the packet promises: DropCompression, as for bytes that are
// no DEFLATE stream and for one that ends early. The flags are ignored (RFC 3173
// section 3.3). DropShort: there is no header.
func Decompress(dst, pkt []byte) (payload []byte, next uint8, drop ipsec.Drop) {
	next, _, ok := ParseHeader(pkt)
	if !ok {
		return nil, 0, ipsec.DropShort
	}
	r := readers.Get().(*reader)
	defer readers.Put(r)
	r.src.Reset(pkt[HeaderLen:])
	if err := r.z.(flate.Resetter).Reset(&r.src, nil); err != nil {
		return nil, 0, ipsec.DropCompression
	}
	n := 0
	for {
		k, err := r.z.Read(dst[n:])
		n += k
		if err == io.EOF {
			break
		}
		if err != nil || k == 0 { // rubbish, or more than there is room for
			return nil, 0, ipsec.DropCompression
		}
	}
	if n == 0 {
		return nil, 0, ipsec.DropCompression
	}
	return dst[:n:n], next, ipsec.DropNone
}
