package tun

import (
	"slices"
	"sync"
)

// Pipe is a Device in memory: a test is the host behind it.
type Pipe struct {
	name string
	mtu  int

	mu     sync.Mutex
	ready  *sync.Cond // in has something, or closed
	wrote  *sync.Cond // out has something, or closed
	in     [][]byte
	out    [][]byte
	closed bool
}

// NewPipe makes a device.
func NewPipe(name string, mtu int) *Pipe {
	p := &Pipe{name: name, mtu: mtu}
	p.ready, p.wrote = sync.NewCond(&p.mu), sync.NewCond(&p.mu)
	return p
}

func (p *Pipe) Name() string  { return p.name }
func (p *Pipe) MTU() int      { return p.mtu }
func (p *Pipe) Offload() bool { return false }

// Close ends Read and Take.
func (p *Pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.ready.Broadcast()
	p.wrote.Broadcast()
	return nil
}

// Put is the host sending packets into the device.
func (p *Pipe) Put(pkts ...[]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pkt := range pkts {
		p.in = append(p.in, slices.Clone(pkt))
	}
	p.ready.Signal()
}

// Take waits for a packet that came out of the device; nil when it is closed.
func (p *Pipe) Take() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.out) == 0 && !p.closed {
		p.wrote.Wait()
	}
	return p.pop()
}

// TryTake returns a packet that came out, or nil.
func (p *Pipe) TryTake() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pop()
}

func (p *Pipe) pop() []byte {
	if len(p.out) == 0 {
		return nil
	}
	pkt := p.out[0]
	p.out = p.out[1:]
	return pkt
}

func (p *Pipe) Read(bufs [][]byte, sizes []int, head int) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.in) == 0 && !p.closed {
		p.ready.Wait()
	}
	if p.closed {
		return 0, ErrClosed
	}
	n := min(len(p.in), len(bufs))
	for i, pkt := range p.in[:n] {
		sizes[i] = copy(bufs[i][head:], pkt)
	}
	p.in = slices.Delete(p.in, 0, n)
	return n, nil
}

func (p *Pipe) Write(pkts [][]byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return len(pkts), ErrClosed
	}
	for _, pkt := range pkts {
		p.out = append(p.out, slices.Clone(pkt))
	}
	p.wrote.Broadcast()
	return 0, nil
}
