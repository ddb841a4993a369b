package xfrm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// journal is the file of what the kernel does not store. Each line is a record
// in JSON; later ones replace earlier ones of the same name. There are no keys
// in it: the kernel has them. A line is written with one call and never waits
// for the disk, so that it outlives the process; the kernel's tables do not
// outlive the machine either.
type journal struct {
	log   *slog.Logger
	path  string
	file  *os.File
	lines int // in the file
	most  int // lines before what was is left out
	live  func() []record
	fails bool // said already
}

// record is one line. One field is set.
type record struct {
	SA      *saRecord     `json:",omitempty"`
	DelSA   *ipsec.SAID   `json:",omitempty"`
	Flow    *flowRecord   `json:",omitempty"`
	DelFlow ipsec.FlowID  `json:",omitempty"`
	Off     []ipsec.Proto `json:",omitempty"`
	ByHand  bool          `json:",omitempty"` // AH was switched by hand; with Off
}

type saRecord struct {
	SA       ipsec.SA
	Src, Dst netip.Addr
	Shares   bool `json:",omitempty"`
	ReqID    uint32
	IfID     uint32 `json:",omitempty"`
	Added    time.Time
	Told     bool `json:",omitempty"`
}

type flowRecord struct {
	Flow  ipsec.Flow
	ReqID uint32
	IfID  uint32 `json:",omitempty"`
}

// kept is what a journal says, all taken together.
type kept struct {
	sas    map[ipsec.SAID]*saRecord
	order  []ipsec.SAID // in which they were written
	flows  map[ipsec.FlowID]*flowRecord
	off    []ipsec.Proto
	byHand bool
	isOff  bool // off and byHand were written
}

const maxLine = 1 << 20

// openJournal reads what a file says and goes on writing it. Only one process at
// a time has it.
func openJournal(path string, log *slog.Logger) (*journal, *kept, error) {
	j := &journal{log: log, path: path}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, fmt.Errorf("the folder of the file in which flows and SAs are kept: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("the file in which flows and SAs are kept: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: another process has it, and with it the kernel's IPsec: %w", path, err)
	}
	// Who was here before may have put another file in its place meanwhile.
	mine, err := f.Stat()
	if err == nil {
		if now, e := os.Stat(path); e != nil || !os.SameFile(mine, now) {
			err = errors.New("it was replaced just now; try again")
		}
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	j.file = f
	return j, j.read(), nil
}

// read takes all lines that make sense. The last one may be half of one.
func (j *journal) read() *kept {
	k := &kept{sas: map[ipsec.SAID]*saRecord{}, flows: map[ipsec.FlowID]*flowRecord{}}
	lines := bufio.NewScanner(j.file)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		j.lines++
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			j.log.Warn("a line of the file in which flows and SAs are kept is left out", "file", j.path, "line", j.lines, "err", err)
			continue
		}
		k.add(&r)
	}
	if err := lines.Err(); err != nil {
		j.log.Warn("the end of the file in which flows and SAs are kept is left out", "file", j.path, "line", j.lines+1, "err", err)
	}
	return k
}

func (k *kept) add(r *record) {
	switch {
	case r.SA != nil:
		if k.sas[r.SA.SA.ID] == nil {
			k.order = append(k.order, r.SA.SA.ID)
		}
		k.sas[r.SA.SA.ID] = r.SA
	case r.DelSA != nil:
		delete(k.sas, *r.DelSA)
	case r.Flow != nil:
		k.flows[r.Flow.Flow.ID] = r.Flow
	case r.DelFlow != "":
		delete(k.flows, r.DelFlow)
	default:
		k.off, k.byHand, k.isOff = r.Off, r.ByHand, true
	}
}

// write adds a record; nil is the journal of those who keep none. A disk that is
// full does not stop traffic: it is said once.
func (j *journal) write(r record) {
	if j == nil {
		return
	}
	if j.lines >= j.most && j.live != nil {
		j.rewrite(j.live()) // r is in the book already
		return
	}
	if r.SA != nil {
		r.SA.SA = r.SA.SA.Public()
	}
	line, err := json.Marshal(&r)
	if err == nil {
		_, err = j.file.Write(append(line, '\n'))
	}
	j.lines++
	j.failed(err)
}

func (j *journal) failed(err error) {
	if err == nil {
		j.fails = false
		return
	}
	if !j.fails {
		j.fails = true
		j.log.Error("what the kernel does not store cannot be kept: after a restart SAs and flows will be made anew", "file", j.path, "err", err)
	}
}

// rewrite puts a file in place that has what is, and not what was.
func (j *journal) rewrite(all []record) {
	var b bytes.Buffer
	for i := range all {
		line, err := json.Marshal(&all[i])
		if err != nil {
			j.failed(err)
			return
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	next := j.path + ".new"
	err := j.replace(next, b.Bytes())
	if err != nil {
		_ = os.Remove(next)
		j.most = 2 * j.lines // not at every line, while the disk is full
	} else {
		j.lines = len(all)
		j.most = 3*j.lines + 1000
	}
	j.failed(err)
}

func (j *journal) replace(next string, data []byte) error {
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_APPEND|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := os.Rename(next, j.path); err != nil {
		f.Close()
		return err
	}
	j.file.Close()
	j.file = f
	return nil
}

func (j *journal) close() {
	if j != nil && j.file != nil {
		j.file.Close()
	}
}
