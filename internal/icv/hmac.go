package icv

import (
	"encoding"
	"hash"
	"sync"

	"oakley/internal/ipsec"
)

// sums are places for values.
var sums = sync.Pool{New: func() any { return new([maxSize]byte) }}

// hmac is an HMAC (RFC 2104) whose two keyed first blocks were hashed once: a
// packet starts from the saved states. A hash that cannot be saved keeps the
// blocks.
type hmac struct {
	pool         *sync.Pool // of worker
	inner, outer []byte
	saved        bool // inner and outer are states; else blocks
}

type worker struct {
	h     hash.Hash
	state encoding.BinaryUnmarshaler // h again; nil: cannot be restored
}

// workers has the pools of all MACs by hash.
var workers = func() map[ipsec.Auth]*sync.Pool {
	m := map[ipsec.Auth]*sync.Pool{}
	for a, newHash := range hashes {
		m[a] = &sync.Pool{New: func() any {
			h := newHash()
			state, _ := h.(encoding.BinaryUnmarshaler)
			return &worker{h: h, state: state}
		}}
	}
	return m
}()

func newHMAC(a ipsec.Auth, newHash func() hash.Hash, key []byte) (*hmac, error) {
	h := newHash()
	m := &hmac{pool: workers[a]}
	_, m.saved = h.(encoding.BinaryUnmarshaler)
	keyed := func(pad byte) ([]byte, error) {
		block := make([]byte, h.BlockSize()) // no algorithm of IPsec has a longer key
		copy(block, key)
		for i := range block {
			block[i] ^= pad
		}
		if !m.saved {
			return block, nil
		}
		h.Reset()
		h.Write(block)
		clear(block)
		return h.(encoding.BinaryMarshaler).MarshalBinary()
	}
	var err error
	if m.inner, err = keyed(0x36); err != nil {
		return nil, err
	}
	m.outer, err = keyed(0x5c)
	return m, err
}

func (m *hmac) start(w *worker, state []byte) {
	if m.saved {
		_ = w.state.UnmarshalBinary(state) // what it saved itself is always taken back
		return
	}
	w.h.Reset()
	w.h.Write(state)
}

func (m *hmac) sum(out *[maxSize]byte, a, b, c []byte) []byte {
	w := m.pool.Get().(*worker)
	m.start(w, m.inner)
	w.h.Write(a)
	if len(b) > 0 {
		w.h.Write(b)
	}
	if len(c) > 0 {
		w.h.Write(c)
	}
	d := w.h.Sum(out[:0])
	m.start(w, m.outer)
	w.h.Write(d)
	d = w.h.Sum(out[:0])
	m.pool.Put(w)
	return d
}
