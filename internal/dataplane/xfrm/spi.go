package xfrm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// spiHold is how long a reserved SPI waits for its SA, in seconds: longer than
// the two minutes that a negotiation may take. The kernel's own idea of it is
// net.core.xfrm_acq_expires, 30 seconds unless somebody changes it.
const spiHold = 180

// CPIs that are negotiated (RFC 3173 section 3.3).
const (
	firstCPI = 256
	lastCPI  = 61439
)

// AllocSPI lets the kernel choose an SPI that it has no SA with.
func (p *Plane) AllocSPI(ctx context.Context, r dataplane.SPIRequest) (ipsec.SPI, error) {
	if err := p.lock(ctx); err != nil {
		return 0, err
	}
	defer p.mu.Unlock()
	spi, err := p.allocSPI(r)
	id := ipsec.SAID{Dir: ipsec.In, Proto: r.Proto, SPI: spi, Dst: r.Dst}
	p.watch.tell(dataplane.Message{Action: dataplane.ActionGetSPI, PID: os.Getpid(), ID: id}, err)
	return spi, err
}

func (p *Plane) allocSPI(r dataplane.SPIRequest) (ipsec.SPI, error) {
	what := fmt.Sprintf("an SPI for %s from %s to %s", r.Proto, r.Src, r.Dst)
	if err := p.hasProto(what, r.Proto); err != nil {
		return 0, err
	}
	if !r.Dst.IsValid() || r.Src.IsValid() && r.Src.Is4() != r.Dst.Is4() {
		return 0, fmt.Errorf("%s: two addresses of one family are needed", what)
	}
	p.forgetSPIs(time.Now())
	ask := wire.SPIRequest{Min: 256, Max: math.MaxUint32}
	if r.Proto == ipsec.ProtoIPComp {
		ask.Min, ask.Max = firstCPI, lastCPI
	}
	ask.SA = wire.SA{
		Src: r.Src, Dst: r.Dst, Proto: uint8(r.Proto), Family: wire.FamilyOf(r.Dst), Mode: wire.ModeTunnel,
		ReqID: p.reqids.first, Mark: p.opt.Mark,
	}
	got, err := p.spiOf(&ask)
	if err != nil {
		return 0, explain(what, err)
	}
	p.book.reserved[keyOf(got)] = reservation{until: time.Now().Add(spiHold * time.Second), kernel: true}
	return ipsec.SPI(got.SPI), nil
}

// spiOf lets the kernel give a larva an SPI.
func (p *Plane) spiOf(r *wire.SPIRequest) (*wire.SA, error) {
	b, err := p.kernel.ask(wire.AllocSPI, r.Append(nil))
	if err != nil {
		return nil, err
	}
	return wire.ParseSA(b)
}

// forgetSPIs forgets reservations that nobody took; the kernel does it by itself.
func (p *Plane) forgetSPIs(now time.Time) {
	if len(p.book.reserved) < 64 {
		return
	}
	for k, r := range p.book.reserved {
		if r.until.Before(now) {
			delete(p.book.reserved, k)
		}
	}
}

// larva is what the kernel makes when it asks for an SA, so that it asks once.
type larva struct{ wire.SA }

// maxLarvae is how many we remember of a flow. The others end by themselves.
const maxLarvae = 16

// killLarvae lets the kernel ask again for what f asked for. A larva has no SPI,
// and without one there is no deleting it: it gets one.
func (p *Plane) killLarvae(f *flowEntry) {
	for i := range f.larvae {
		p.killLarva(&f.larvae[i])
	}
	f.larvae = nil
}

func (p *Plane) killLarva(l *larva) {
	ask := wire.SPIRequest{SA: l.SA, Min: 256, Max: math.MaxUint32}
	if l.Proto == uint8(ipsec.ProtoIPComp) {
		ask.Min, ask.Max = firstCPI, lastCPI
	}
	got, err := p.spiOf(&ask)
	if err == nil {
		id := wire.ID{Dst: got.Dst, SPI: got.SPI, Proto: got.Proto, Family: got.Family, Mark: l.Mark}
		err = p.kernel.do(wire.DelSA, id.Append(nil))
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		p.complain("an acquire is over and stays in the kernel until its time is up", explain("ending it", err))
	}
}

// questions are the larvae without an SPI that the kernel has: each is a packet
// that asked. They are of whoever has the reqid; sel is the packet.
func (p *Plane) questions(f func(l larva, sel wire.Selector)) error {
	err := p.kernel.dump(wire.GetSA, nil, func(b []byte) error {
		w, err := wire.ParseSA(b)
		if err == nil && w.SPI == 0 && larval(w) {
			f(larva{wire.SA{
				Src: w.Src, Dst: w.Dst, Proto: w.Proto, Seq: w.Seq, Mark: w.Mark, IfID: w.IfID,
				ReqID: w.ReqID, Family: w.Family, Mode: w.Mode, Sel: wire.Selector{Family: w.Sel.Family},
			}}, w.Sel)
		}
		return err
	})
	return explain("listing the kernel's questions", err)
}
