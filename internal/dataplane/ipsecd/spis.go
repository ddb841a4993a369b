package ipsecd

import (
	"context"
	"fmt"
	"sync"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// maxSPIs is how many SPIs without an SA one client may have. Each is held for
// minutes.
const maxSPIs = 16384

// spiTime is when a reservation is over in any data plane.
const spiTime = 5 * time.Minute

// spiKey names a reserved SPI.
type spiKey struct {
	proto ipsec.Proto
	spi   ipsec.SPI
}

// reservation is an SPI that a client has asked for and made no SA of yet.
type reservation struct {
	of    *session
	id    ipsec.SAID
	since time.Time
}

// spis knows who reserved what, so that it can be given back when the client
// dies.
type spis struct {
	// taking is held for reading while an SA takes an SPI, and for writing while
	// those of a dead client are given back: an SA that another client makes of one
	// just then must not be deleted.
	taking sync.RWMutex

	mu   sync.Mutex
	held map[spiKey]reservation
	of   map[*session]int
}

// may tells whether x can have another SPI.
func (p *spis) may(x *session, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[x] < maxSPIs {
		return nil
	}
	for k, r := range p.held {
		if now.Sub(r.since) > spiTime {
			p.drop(k)
		}
	}
	if p.of[x] < maxSPIs {
		return nil
	}
	return fmt.Errorf("%s has reserved %d SPIs and made no SAs of them: no more are given out", x.peer, p.of[x])
}

// drop is called with mu held.
func (p *spis) drop(k spiKey) {
	r, ok := p.held[k]
	if !ok {
		return
	}
	delete(p.held, k)
	if p.of[r.of]--; p.of[r.of] == 0 {
		delete(p.of, r.of)
	}
}

// keep notes a reservation.
func (p *spis) keep(x *session, r *dataplane.SPIRequest, spi ipsec.SPI, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held, p.of = map[spiKey]reservation{}, map[*session]int{}
	}
	k := spiKey{r.Proto, spi}
	p.drop(k)
	p.held[k] = reservation{x, ipsec.SAID{Dir: ipsec.In, Proto: r.Proto, SPI: spi, Dst: r.Dst}, now}
	p.of[x]++
}

// forget is for an SPI that has its SA, or was given back.
func (p *spis) forget(id ipsec.SAID) {
	if id.Dir != ipsec.In {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(spiKey{id.Proto, id.SPI})
}

// left takes what x had off the list.
func (p *spis) left(x *session) (ids []ipsec.SAID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[x] == 0 {
		return nil
	}
	for k, r := range p.held {
		if r.of == x {
			ids = append(ids, r.id)
			p.drop(k)
		}
	}
	return ids
}

// giveBack returns the SPIs of a client that is gone.
func (s *Server) giveBack(x *session) {
	s.spis.taking.Lock()
	defer s.spis.taking.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), opTime)
	defer cancel()
	for _, id := range s.spis.left(x) {
		_ = s.b.DeleteSA(ctx, id) // over already, or the data plane is closed
	}
}
