package userspace

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// Slow ciphers are sealed and opened by workers, so that one SA uses several
// processors and holds up no other. A job carries a few packets of one SA; it
// stands in the workers' queue and, to keep the SA's order, in the SA's line.
// Who finishes the job at the head of a line sends all that is finished there.

const (
	jobSize  = 16
	jobQueue = 256 // jobs that wait for a worker, in all
)

type job struct {
	line  *line
	out   *outSA
	in    *inSA
	chain []*outSA // of what is to be dressed; nil: ESP in tunnel mode alone
	from  *link    // of what is to be undressed; nil: ESP in tunnel mode alone
	n     int
	all   [jobSize]jobPacket
	batch *netio.SendBatch
	done  bool // under line.mu
	opened
}

type jobPacket struct {
	room   []byte // owned by the job
	data   []byte // in room: plaintext, then the sealed packet; or the reverse
	seq    uint64
	next   uint8
	tos    uint8 // of the plain packet, or of the outer header
	remote netip.AddrPort
	drop   ipsec.Drop
	layered
}

// line is the order of one SA's jobs.
type line struct {
	mu   sync.Mutex
	jobs []*job
}

func newLine() *line { return &line{} }

type pool struct {
	p       *Plane
	queue   chan *job
	done    chan struct{}
	free    sync.Pool
	senders sync.Pool
}

func newPool(p *Plane) *pool {
	w := &pool{p: p, queue: make(chan *job, jobQueue), done: make(chan struct{})}
	w.free.New = func() any {
		return &job{batch: netio.NewSendBatch(jobSize, true), opened: opened{pkts: make([][]byte, 0, jobSize)}}
	}
	w.senders.New = func() any { return newSender(p, jobSize) }
	for range workers() {
		p.wg.Go(w.run)
	}
	return w
}

func (w *pool) close() { close(w.done) }

func (w *pool) run() {
	var squeeze []byte
	in := inWork{p: w.p, deferred: true}
	for {
		select {
		case <-w.done:
			return
		case j := <-w.queue:
			switch {
			case j.chain != nil:
				j.dress(w.p, &squeeze)
			case j.out != nil:
				j.seal()
			case j.from != nil:
				j.undress(&in)
			default:
				j.open()
			}
			w.finish(j)
		}
	}
}

// get is a new job in a line.
func (w *pool) get(l *line) *job {
	j := w.free.Get().(*job)
	j.line, j.out, j.in, j.chain, j.from, j.n, j.done = l, nil, nil, nil, nil, 0, false
	return j
}

// next is room for another packet of n bytes, with head and tail.
func (j *job) next(head, n, tail int) *jobPacket {
	k := &j.all[j.n]
	j.n++
	if need := head + n + tail; cap(k.room) < need {
		k.room = make([]byte, max(need, 2048))
	}
	k.room = k.room[:cap(k.room)]
	k.data = k.room[head:][:n]
	k.drop = ipsec.DropNone
	return k
}

// submit hands a job over; false: the workers have enough to do.
func (w *pool) submit(j *job) bool {
	l := j.line
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case w.queue <- j:
		l.jobs = append(l.jobs, j) // nobody finishes it before the lock is free
		return true
	default:
		return false
	}
}

// finish sends what is finished at the head of j's line.
func (w *pool) finish(j *job) {
	l := j.line
	l.mu.Lock()
	defer l.mu.Unlock()
	j.done = true
	n := 0
	for ; n < len(l.jobs) && l.jobs[n].done; n++ {
		w.deliver(l.jobs[n])
		w.free.Put(l.jobs[n])
	}
	l.jobs = slices.Delete(l.jobs, 0, n)
}

func (w *pool) deliver(j *job) {
	switch {
	case j.chain != nil:
		w.sendDressed(j)
		return
	case j.from != nil:
		j.giveUndressed(w.p)
		return
	case j.in != nil:
		j.acceptAll(w.p)
		return
	}
	remote := *j.out.remote.Load()
	for i := range j.n {
		k := &j.all[i]
		if k.drop != ipsec.DropNone {
			j.out.drops.add(k.drop)
			continue
		}
		j.batch.AddTOS(k.data, j.out.local, remote, outward(k.tos))
	}
	w.p.send(j.out.link.conn, j.batch)
}

// lost counts the packets of a job that nobody took.
func (w *pool) lost(j *job) {
	if j.out != nil {
		j.out.drops[ipsec.DropQueueFull].Add(uint64(j.n))
	} else {
		j.in.drops[ipsec.DropQueueFull].Add(uint64(j.n))
	}
	w.free.Put(j)
}

// later puts an outgoing packet of a slow SA into the job at hand.
func (s *sender) later(sa *outSA, pkt []byte, next uint8, seq uint64) {
	if s.job != nil && (s.job.out != sa || s.job.chain != nil || s.job.n == jobSize) {
		s.submit()
	}
	if s.job == nil {
		s.job = s.p.work.get(sa.line)
		s.job.out = sa
	}
	k := s.job.next(headRoom, len(pkt), tailRoom)
	copy(k.data, pkt)
	k.next, k.seq, k.tos = next, seq, inet.TOS(pkt)
}

func (s *sender) submit() {
	if s.job == nil {
		return
	}
	if !s.p.work.submit(s.job) {
		s.p.work.lost(s.job)
	}
	s.job = nil
}

func (j *job) seal() {
	for i := range j.n {
		k := &j.all[i]
		sealed, err := j.out.t.Seal(k.room, headRoom, len(k.data), k.next, k.seq)
		if err != nil {
			k.drop = ipsec.DropTooBig
			continue
		}
		k.data = sealed
	}
}

// later puts an incoming packet of a slow SA into the job at hand.
func (w *inWork) later(sa *inSA, b []byte, remote netip.AddrPort, tos uint8, seq uint64) {
	if w.job != nil && (w.job.in != sa || w.job.from != nil || w.job.n == jobSize) {
		w.submit()
	}
	if w.job == nil {
		w.job = w.p.work.get(sa.line)
		w.job.in = sa
	}
	k := w.job.next(headRoom, len(b), tailRoom)
	copy(k.data, b)
	k.seq, k.remote, k.tos = seq, remote, tos
}

func (w *inWork) submit() {
	if w.job == nil {
		return
	}
	if !w.p.work.submit(w.job) {
		w.p.work.lost(w.job)
	}
	w.job = nil
}

func (j *job) open() {
	for i := range j.n {
		k := &j.all[i]
		k.data, k.next, k.drop = j.in.t.Open(k.data, uint32(k.seq>>32))
	}
}

func (j *job) acceptAll(p *Plane) {
	now := time.Now().UnixNano()
	for i := range j.n {
		k := &j.all[i]
		if k.drop == ipsec.DropNone {
			k.drop = j.accept(p, j.in, k.data, k.next, k.tos, k.seq, k.remote, now)
		}
		if k.drop != ipsec.DropNone {
			j.in.drops.add(k.drop)
		}
	}
	p.toDevice(j.pkts)
	j.pkts = j.pkts[:0]
}
