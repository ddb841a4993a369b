// Package null is the data plane that carries nothing: it records what it is
// asked for. It stands behind isakmpd -n, and behind tests.
package null

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// Options says how the plane is made.
type Options struct {
	Network  netio.Network // where EncapConn's ports are; nil: the host
	FirstSPI ipsec.SPI     // 0: 256
	Now      func() time.Time
}

// reserved names an SPI that no SA has yet.
type reserved struct {
	proto ipsec.Proto
	spi   ipsec.SPI
}

// Plane records.
type Plane struct {
	opt    Options
	events chan dataplane.Event
	began  time.Time

	mu     sync.Mutex
	spi    ipsec.SPI
	cpi    ipsec.SPI // of IPComp
	held   map[reserved]bool
	sas    map[ipsec.SAID]ipsec.SAState
	flows  map[ipsec.FlowID]ipsec.Flow
	calls  []string
	closed bool
}

var _ dataplane.Backend = (*Plane)(nil)

// New makes one.
func New(o Options) *Plane {
	if o.Network == nil {
		o.Network = netio.Host{}
	}
	if o.FirstSPI < 256 {
		o.FirstSPI = 256
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Plane{
		opt: o, began: o.Now(), spi: o.FirstSPI, events: make(chan dataplane.Event, 64),
		held: map[reserved]bool{}, sas: map[ipsec.SAID]ipsec.SAState{}, flows: map[ipsec.FlowID]ipsec.Flow{},
	}
}

// Info says that nothing is carried.
func (p *Plane) Info() dataplane.Info {
	return dataplane.Info{Name: "null", Detail: "the IPsec stack is not touched", UDPEncap: true, Transport: true, ESN: true}
}

// lock begins a call; it is false when the plane is closed.
func (p *Plane) lock(ctx context.Context, format string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return dataplane.ErrClosed
	}
	p.calls = append(p.calls, fmt.Sprintf(format, args...))
	if len(p.calls) > 4096 {
		p.calls = slices.Delete(p.calls, 0, 2048)
	}
	return nil
}

// Calls are the latest calls, as text.
func (p *Plane) Calls() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// AllocSPI counts up, and round where SPIs have two bytes: CPIs are negotiated
// from 256 to 61439 (RFC 3173 section 3.3).
func (p *Plane) AllocSPI(ctx context.Context, r dataplane.SPIRequest) (ipsec.SPI, error) {
	if err := p.lock(ctx, "AllocSPI %s to %s", r.Proto, r.Dst); err != nil {
		return 0, err
	}
	defer p.mu.Unlock()
	next := &p.spi
	if r.Proto == ipsec.ProtoIPComp {
		if next = &p.cpi; *next >= 61439 {
			*next = 0
		}
	}
	*next = max(*next+1, 256)
	p.held[reserved{r.Proto, *next}] = true
	return *next, nil
}

// AddSA records an SA.
func (p *Plane) AddSA(ctx context.Context, sa *ipsec.SA) error {
	if err := p.lock(ctx, "AddSA %s", sa.ID); err != nil {
		return err
	}
	defer p.mu.Unlock()
	if _, ok := p.sas[sa.ID]; ok {
		return dataplane.ErrExists
	}
	p.sas[sa.ID] = ipsec.SAState{SA: sa.Public(), Added: p.opt.Now()}
	delete(p.held, reserved{sa.ID.Proto, sa.ID.SPI})
	return nil
}

// UpdateSA records new limits; the peer's address is of no use here.
func (p *Plane) UpdateSA(ctx context.Context, id ipsec.SAID, u ipsec.SAUpdate) error {
	if err := p.lock(ctx, "UpdateSA %s", id); err != nil {
		return err
	}
	defer p.mu.Unlock()
	st, ok := p.sas[id]
	if !ok {
		return dataplane.ErrNoSA
	}
	if u.Soft != nil {
		st.SA.Soft = *u.Soft
	}
	if u.Hard != nil {
		st.SA.Hard = *u.Hard
	}
	if u.Remote != nil && st.SA.Encap != nil {
		st.SA.Encap = &ipsec.Encap{Local: st.SA.Encap.Local, Remote: *u.Remote}
	}
	p.sas[id] = st
	return nil
}

// DeleteSA forgets an SA or an SPI.
func (p *Plane) DeleteSA(ctx context.Context, id ipsec.SAID) error {
	if err := p.lock(ctx, "DeleteSA %s", id); err != nil {
		return err
	}
	defer p.mu.Unlock()
	if _, ok := p.sas[id]; ok {
		delete(p.sas, id)
		return nil
	}
	if held := (reserved{id.Proto, id.SPI}); id.Dir == ipsec.In && p.held[held] {
		delete(p.held, held)
		return nil
	}
	return dataplane.ErrNoSA
}

// GetSA tells what was recorded.
func (p *Plane) GetSA(ctx context.Context, id ipsec.SAID) (ipsec.SAState, error) {
	if err := p.lock(ctx, "GetSA %s", id); err != nil {
		return ipsec.SAState{}, err
	}
	defer p.mu.Unlock()
	st, ok := p.sas[id]
	if !ok {
		return st, dataplane.ErrNoSA
	}
	return st, nil
}

// ApplyFlows records flows, all or none.
func (p *Plane) ApplyFlows(ctx context.Context, changes []ipsec.FlowChange) error {
	if err := p.lock(ctx, "ApplyFlows %d", len(changes)); err != nil {
		return err
	}
	defer p.mu.Unlock()
	next := maps.Clone(p.flows)
	for _, c := range changes {
		_, there := next[c.Flow.ID]
		if !c.Remove {
			if there {
				return fmt.Errorf("%w: flow %s", dataplane.ErrExists, c.Flow.ID)
			}
			next[c.Flow.ID] = c.Flow
			continue
		}
		if !there {
			return fmt.Errorf("%w: %s", dataplane.ErrNoFlow, c.Flow.ID)
		}
		delete(next, c.Flow.ID)
	}
	p.flows = next
	return nil
}

// EndAcquire records an answer.
func (p *Plane) EndAcquire(ctx context.Context, id dataplane.AcquireID, failed error) error {
	if err := p.lock(ctx, "EndAcquire %d: %v", id, failed); err != nil {
		return err
	}
	p.mu.Unlock()
	return nil
}

// Dump lists what was recorded.
func (p *Plane) Dump(ctx context.Context, q dataplane.Query) (dataplane.State, error) {
	if err := p.lock(ctx, "Dump"); err != nil {
		return dataplane.State{}, err
	}
	defer p.mu.Unlock()
	o := q.Owner
	var s dataplane.State
	for _, st := range p.sas {
		if q.Has(dataplane.SAs) && (o == ipsec.OwnerAny || st.SA.Owner == o) {
			s.SAs = append(s.SAs, st)
		}
	}
	slices.SortFunc(s.SAs, func(a, b ipsec.SAState) int { return int(int64(a.SA.ID.SPI) - int64(b.SA.ID.SPI)) })
	for _, id := range slices.Sorted(maps.Keys(p.flows)) {
		if f := p.flows[id]; q.Has(dataplane.Flows) && (o == ipsec.OwnerAny || f.Owner == o) {
			s.Flows = append(s.Flows, f)
		}
	}
	return s, nil
}

// Totals has nothing to count.
func (p *Plane) Totals(ctx context.Context) (dataplane.Totals, error) {
	if err := p.lock(ctx, "Totals"); err != nil {
		return dataplane.Totals{}, err
	}
	defer p.mu.Unlock()
	return dataplane.Totals{Since: p.began}, nil
}

// Enable records what is switched.
func (p *Plane) Enable(ctx context.Context, proto ipsec.Proto, on bool) error {
	if err := p.lock(ctx, "Enable %s %t", proto, on); err != nil {
		return err
	}
	p.mu.Unlock()
	return nil
}

// Flush forgets.
func (p *Plane) Flush(ctx context.Context, o ipsec.Owner) error {
	if err := p.lock(ctx, "Flush"); err != nil {
		return err
	}
	defer p.mu.Unlock()
	maps.DeleteFunc(p.sas, func(_ ipsec.SAID, s ipsec.SAState) bool { return o == ipsec.OwnerAny || s.SA.Owner == o })
	maps.DeleteFunc(p.flows, func(_ ipsec.FlowID, f ipsec.Flow) bool { return o == ipsec.OwnerAny || f.Owner == o })
	return nil
}

// EncapConn opens the port: negotiating with peers behind NAT works without
// traffic too. ESP that comes is dropped.
func (p *Plane) EncapConn(ctx context.Context, local netip.AddrPort) (dataplane.IKEConn, error) {
	if err := p.lock(ctx, "EncapConn %s", local); err != nil {
		return nil, err
	}
	defer p.mu.Unlock()
	d, err := netio.ListenUDP(p.opt.Network, local, 0)
	if err != nil {
		return nil, err
	}
	return &encapConn{Datagrams: d}, nil
}

// Inject lets the plane tell an event, as a real one would on its own.
func (p *Plane) Inject(e dataplane.Event) { p.events <- e }

// Events is closed by Close.
func (p *Plane) Events() <-chan dataplane.Event { return p.events }

// Close ends it.
func (p *Plane) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.events)
	}
	return nil
}

// encapConn puts the non-ESP marker of RFC 3948 section 2.2 on and takes it off.
type encapConn struct{ *netio.Datagrams }

const markerLen = 4

// ReadFrom skips keepalives and ESP.
func (c *encapConn) ReadFrom(b []byte) (n int, remote, local netip.AddrPort, err error) {
	buf := make([]byte, len(b)+markerLen)
	for {
		n, remote, local, err = c.Datagrams.ReadFrom(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				err = dataplane.ErrClosed
			}
			return 0, remote, local, err
		}
		if n > markerLen && [markerLen]byte(buf[:markerLen]) == [markerLen]byte{} {
			return copy(b, buf[markerLen:n]), remote, local, nil
		}
	}
}

// WriteTo adds the marker.
func (c *encapConn) WriteTo(b []byte, local, remote netip.AddrPort) error {
	return c.Datagrams.WriteTo(append(make([]byte, markerLen, markerLen+len(b)), b...), local, remote)
}
