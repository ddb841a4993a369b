package xfrm

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// fake is a kernel in memory: its tables, its errors, its events. Packets it has
// none.
type fake struct {
	mu        sync.Mutex
	sas       map[kernelKey]*wire.SA
	policies  []*wire.Policy
	listeners []*fakeListener
	next      uint32
	larvae    []*wire.SA // without an SPI
	requests  map[wire.Type]int
	refuse    func(t wire.Type, data []byte) error // what to refuse, and how
}

const (
	ourPID    = 77
	othersPID = 88
)

func newFake() *fake {
	return &fake{sas: map[kernelKey]*wire.SA{}, requests: map[wire.Type]int{}}
}

type fakeListener struct {
	k      *fake
	groups []wire.Group
	ready  *sync.Cond
	queue  []message
	lost   bool
	closed bool
}

func (k *fake) listen(groups ...wire.Group) (listener, error) {
	l := &fakeListener{k: k, groups: groups, ready: sync.NewCond(&k.mu)}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.listeners = append(k.listeners, l)
	return l, nil
}

func (l *fakeListener) receive() ([]message, error) {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	for len(l.queue) == 0 && !l.lost && !l.closed {
		l.ready.Wait()
	}
	switch {
	case l.closed:
		return nil, os.ErrClosed
	case l.lost:
		l.lost = false
		return nil, unix.ENOBUFS
	}
	all := l.queue
	l.queue = nil
	return all, nil
}

func (l *fakeListener) close() error {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	l.closed = true
	l.ready.Broadcast()
	return nil
}

func (k *fake) pid() uint32  { return ourPID }
func (k *fake) close() error { return nil }

// tell sends an event; called with mu held. room: how many fit.
func (k *fake) tell(g wire.Group, pid uint32, t wire.Type, data []byte) {
	const room = 4096
	for _, l := range k.listeners {
		if !slices.Contains(l.groups, g) {
			continue
		}
		if len(l.queue) >= room {
			l.lost = true
		} else {
			l.queue = append(l.queue, message{t, pid, data})
		}
		l.ready.Broadcast()
	}
}

// event is tell for tests.
func (k *fake) event(g wire.Group, t wire.Type, data []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tell(g, 0, t, data)
}

// lose makes the listener of a group lose events.
func (k *fake) lose(g wire.Group) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range k.listeners {
		if slices.Contains(l.groups, g) {
			l.lost = true
			l.ready.Broadcast()
		}
	}
}

func (k *fake) do(t wire.Type, data []byte) error { return k.as(ourPID, t, data) }

// as does a request of somebody.
func (k *fake) as(pid uint32, t wire.Type, data []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.requests[t]++
	if k.refuse != nil && pid == ourPID {
		if err := k.refuse(t, data); err != nil {
			return err
		}
	}
	switch t {
	case wire.NewSA, wire.UpdSA:
		return k.putSA(pid, t, data)
	case wire.DelSA:
		id, err := wire.ParseID(data)
		if err != nil {
			return unix.EINVAL
		}
		key := kernelKey{id.Dst, id.SPI, id.Proto}
		if k.sas[key] == nil {
			return unix.ESRCH
		}
		delete(k.sas, key)
		k.tell(wire.GroupSA, pid, t, data)
	case wire.NewPolicy, wire.UpdPolicy:
		return k.putPolicy(pid, t, data)
	case wire.DelPolicy:
		id, err := wire.ParsePolicyID(data)
		if err != nil {
			return unix.EINVAL
		}
		i := slices.IndexFunc(k.policies, func(p *wire.Policy) bool { return p.Index == id.Index && p.Dir == id.Dir })
		if i < 0 {
			return unix.ENOENT
		}
		gone := k.policies[i]
		k.policies = slices.Delete(k.policies, i, i+1)
		k.tell(wire.GroupPolicy, pid, t, appendGone(data, gone))
	case wire.FlushSA:
		clear(k.sas)
		k.tell(wire.GroupSA, pid, t, data)
	case wire.FlushPolicy:
		k.policies = nil
		k.tell(wire.GroupPolicy, pid, t, data)
	default:
		return unix.EINVAL
	}
	return nil
}

// appendGone appends, to the name of a policy, what the kernel tells of it when it
// is deleted: an attribute of a policy without its own attributes.
func appendGone(name []byte, w *wire.Policy) []byte {
	const attrPolicy, policySize = 7, 168
	b := binary.NativeEndian.AppendUint16(bytes.Clone(name), 4+policySize)
	b = binary.NativeEndian.AppendUint16(b, attrPolicy)
	return append(b, w.Append(nil)[:policySize]...)
}

func (k *fake) putSA(pid uint32, t wire.Type, data []byte) error {
	w, err := wire.ParseSA(data)
	if err != nil {
		return unix.EINVAL
	}
	has := k.sas[keyOf(w)]
	switch {
	case t == wire.NewSA && has != nil:
		return unix.EEXIST
	case t == wire.UpdSA && has == nil:
		return unix.ESRCH
	case t == wire.UpdSA && !larval(has):
		next := *has
		next.Limits, next.Encap = w.Limits, w.Encap
		w = &next
	default:
		if w.Life != nil {
			w.Usage = *w.Life
		} else {
			w.Usage = wire.Usage{Added: uint64(time.Now().Unix())}
		}
		k.larvae = slices.DeleteFunc(k.larvae, func(l *wire.SA) bool { return l.ReqID == w.ReqID && l.Dst == w.Dst })
	}
	k.sas[keyOf(w)] = w
	k.tell(wire.GroupSA, pid, t, data)
	return nil
}

func (k *fake) putPolicy(pid uint32, t wire.Type, data []byte) error {
	w, err := wire.ParsePolicy(data)
	if err != nil || w.Index != 0 && w.Index&7 != uint32(w.Dir) {
		return unix.EINVAL
	}
	i := slices.IndexFunc(k.policies, func(p *wire.Policy) bool {
		return p.Sel == w.Sel && p.Dir == w.Dir && p.IfID == w.IfID && sameMark(p.Mark, w.Mark)
	})
	if i >= 0 && t == wire.NewPolicy {
		return unix.EEXIST
	}
	if w.Index == 0 {
		k.next += 8
		w.Index = k.next | uint32(w.Dir)
	}
	if i >= 0 {
		w.Index = k.policies[i].Index
		k.policies[i] = w
	} else {
		k.policies = append(k.policies, w)
	}
	k.tell(wire.GroupPolicy, pid, t, w.Append(nil))
	return nil
}

func (k *fake) ask(t wire.Type, data []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.requests[t]++
	if k.refuse != nil {
		if err := k.refuse(t, data); err != nil {
			return nil, err
		}
	}
	switch t {
	case wire.GetSA:
		id, err := wire.ParseID(data)
		if err != nil {
			return nil, unix.EINVAL
		}
		if w := k.sas[kernelKey{id.Dst, id.SPI, id.Proto}]; w != nil {
			return w.Append(nil), nil
		}
		return nil, unix.ESRCH
	case wire.AllocSPI:
		r, err := wire.ParseSPIRequest(data)
		if err != nil {
			return nil, unix.EINVAL
		}
		w := r.SA
		if i := slices.IndexFunc(k.larvae, func(l *wire.SA) bool { return l.Seq == w.Seq && w.Seq != 0 }); i >= 0 {
			k.larvae = slices.Delete(k.larvae, i, i+1)
		}
		k.next += 8
		w.SPI = max(r.Min, k.next)
		k.sas[keyOf(&w)] = &w
		return w.Append(nil), nil
	}
	return nil, unix.EINVAL
}

func (k *fake) dump(t wire.Type, _ []byte, each func(b []byte) error) error {
	k.mu.Lock()
	var all [][]byte
	switch t {
	case wire.GetSA:
		for _, w := range k.sas {
			all = append(all, w.Append(nil))
		}
		for _, w := range k.larvae {
			all = append(all, w.Append(nil))
		}
	case wire.GetPolicy:
		for _, p := range k.policies {
			all = append(all, p.Append(nil))
		}
	}
	k.mu.Unlock()
	for _, b := range all {
		if err := each(b); err != nil {
			return err
		}
	}
	return nil
}

// acquire is a packet that meets an outgoing policy and finds no SA; false:
// there is no such policy, or the kernel asked already.
func (k *fake) acquire(packet ipsec.Selector) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	var best *wire.Policy
	for _, p := range k.policies {
		if p.Dir == wire.DirOut && p.Sel.Dst.Contains(packet.Dst.Addr()) && (best == nil || p.Priority < best.Priority) {
			best = p
		}
	}
	if best == nil || len(best.Templates) == 0 {
		return false
	}
	t := &best.Templates[0]
	if slices.ContainsFunc(k.larvae, func(l *wire.SA) bool { return l.ReqID == t.ReqID }) {
		return false
	}
	k.next += 8
	l := &wire.SA{Src: t.Src, Dst: t.Dst, Proto: t.Proto, Family: t.Family, Mode: t.Mode, ReqID: t.ReqID, Seq: k.next, Sel: selectorOf(&packet)}
	k.larvae = append(k.larvae, l)
	k.tell(wire.GroupAcquire, 0, wire.MsgAcquire, (&wire.Acquire{Src: t.Src, Dst: t.Dst, Proto: t.Proto, Sel: l.Sel, Policy: *best, Seq: l.Seq}).Append(nil))
	return true
}

// count says how many SAs and policies there are.
func (k *fake) count() (sas, policies int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.sas), len(k.policies)
}

func (k *fake) policy(dir wire.Dir, dst string) *wire.Policy {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.policies {
		if p.Dir == dir && p.Sel.Dst == netip.MustParsePrefix(dst) {
			return p
		}
	}
	return nil
}

// all is a kernel that has everything we know.
func all() *Abilities {
	a := &Abilities{Kernel: "in memory", Protos: []ipsec.Proto{ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPComp}, ESN: true}
	for _, c := range kernelCiphers {
		a.Ciphers = append(a.Ciphers, c.cipher)
	}
	for _, h := range kernelAuths {
		a.Auths = append(a.Auths, h.auth)
	}
	return a
}

// planeOn is a plane on a kernel in memory.
func planeOn(t testing.TB, k *fake, f func(o *Options)) *Plane {
	t.Helper()
	o := Options{Abilities: all(), kernel: k, noPort: true, AnySource: true}
	if f != nil {
		f(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}
