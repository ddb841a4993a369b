package hostnet

import (
	"errors"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What the packet filter refuses is counted in the kernel, by a counter that the
// rules share: it stands when rules come and go, and goes with the table.

const refusals = "clear"

func (f *filter) counter() *nftables.CounterObj {
	return &nftables.CounterObj{Table: f.table, Name: refusals}
}

// refuse drops a packet and counts it.
func refuse() []expr.Any {
	return append([]expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: refusals}}, verdict(expr.VerdictDrop)...)
}

// drops is refuse, or what a kernel without shared counters can do of it.
func (f *filter) drops() []expr.Any {
	if f.count {
		return refuse()
	}
	return verdict(expr.VerdictDrop)
}

// counted reads the counter. 0: there is none.
func (f *filter) counted() (uint64, error) {
	o, err := f.nft.GetObject(f.counter())
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if c, ok := o.(*nftables.CounterObj); ok && err == nil {
		return c.Packets, nil
	}
	return 0, err
}

// settleCount keeps what the counter says before its table goes.
func (f *filter) settleCount() {
	if n, err := f.counted(); err == nil && n > f.seen {
		f.before += n - f.seen
	}
	f.seen = 0
}

// Refused is how many packets the filter has dropped since New: those that came
// in clear although a flow protects them, and those that would have left so.
func (k *Kernel) Refused() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.filter == nil || k.closed {
		return 0
	}
	f := k.filter
	n, err := f.counted()
	if err != nil || n < f.seen {
		return f.before
	}
	return f.before + n - f.seen
}
