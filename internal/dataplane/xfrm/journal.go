package xfrm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// journal is what the kernel does not store. Each line of a file is a record in
// JSON; later ones replace earlier ones of the same name. There are no keys in
// it: the kernel has them. A line is written with one call and never waits for
// the disk, so that it outlives the process; the kernel's tables do not outlive
// the machine either.
//
// There are two files, of which one counts: when that one has become long, what
// is goes into the other as a whole, between two marks, and counts from then on.
// Both are opened once: who has given up the rights to open them can go on.
type journal struct {
	log   *slog.Logger
	path  string
	era   string // whose tables it is about; see there
	files [2]*os.File
	at    int    // the one that counts
	turn  uint64 // how often they have changed
	lines int    // in the file
	most  int    // lines before what was is left out
	live  func() []record
	fails bool // said already; what is in the file is not all
}

// record is one line. One field is set.
type record struct {
	SA      *saRecord     `json:",omitempty"`
	DelSA   *ipsec.SAID   `json:",omitempty"`
	Flow    *flowRecord   `json:",omitempty"`
	DelFlow ipsec.FlowID  `json:",omitempty"`
	Off     []ipsec.Proto `json:",omitempty"`
	ByHand  bool          `json:",omitempty"` // AH was switched by hand; with Off
	Begin   uint64        `json:",omitempty"` // of what is, with its number
	Era     string        `json:",omitempty"` // with Begin
	End     uint64        `json:",omitempty"` // the same number: the file counts
}

type saRecord struct {
	SA       ipsec.SA
	Src, Dst netip.Addr
	Shares   bool `json:",omitempty"`
	ReqID    uint32
	Added    time.Time
	Told     bool `json:",omitempty"`
}

type flowRecord struct {
	Flow  ipsec.Flow
	ReqID uint32
}

// kept is what a journal says, all taken together.
type kept struct {
	sas    map[ipsec.SAID]*saRecord
	order  []ipsec.SAID // in which they were written
	flows  map[ipsec.FlowID]*flowRecord
	off    []ipsec.Proto
	byHand bool
	isOff  bool // off and byHand were written

	begun, whole uint64 // numbers of Begin and End
	era          string
	lines        int
}

func newKept() *kept {
	return &kept{sas: map[ipsec.SAID]*saRecord{}, flows: map[ipsec.FlowID]*flowRecord{}}
}

const (
	maxLine = 1 << 20
	// tryAgain is how many lines go to a disk that takes none before what is is
	// written as a whole once more.
	tryAgain = 100
)

// openJournal reads what the files say and goes on writing one. Only one process
// at a time has them. What they say of another era than this is of no use: flows
// of before the machine started would protect what nobody protects any more.
func openJournal(path, era string, log *slog.Logger) (j *journal, k *kept, err error) {
	j = &journal{log: log, path: path, era: era}
	for i := range j.files {
		if j.files[i], err = openPrivate(j.name(i)); err != nil {
			j.close()
			return nil, nil, fmt.Errorf("the file in which flows and SAs are kept: %w", err)
		}
		if err := unix.Flock(int(j.files[i].Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			j.close()
			return nil, nil, fmt.Errorf("%s: another process keeps there what it has in the kernel; in another network namespace --journal names another file: %w", path, err)
		}
	}
	a, b := j.read(0), j.read(1)
	if j.at, k = 1, b; a.later(b) {
		j.at, k = 0, a
	}
	j.turn, j.lines = max(a.begun, b.begun), k.lines
	if k.era != "" && era != "" && k.era != era {
		log.Info("what the last process kept is from before this machine's start, or of another network namespace, and is left out", "file", path, "SAs", len(k.sas), "flows", len(k.flows))
		k = newKept()
	}
	return j, k, nil
}

// name is that of one of the files.
func (j *journal) name(i int) string {
	if i == 0 {
		return j.path
	}
	return j.path + ".2"
}

// openPrivate opens a file that nobody but us writes, or makes it: what it says
// becomes SAs and policies.
func openPrivate(path string) (*os.File, error) {
	dir, err := os.OpenFile(filepath.Dir(path), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, fmt.Errorf("%s: %w", dir.Name(), err)
	}
	us := uint32(os.Geteuid())
	if st.Uid != 0 && st.Uid != us || st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return nil, fmt.Errorf("%s: others may put files into this folder (user %d, mode %04o): choose one of root's", dir.Name(), st.Uid, st.Mode&0o7777)
	}
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_APPEND | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(int(dir.Fd()), filepath.Base(path), flags, 0o600)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link, which is not followed: remove it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	err = unix.Fstat(fd, &st)
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errors.New("expected a file: remove it")
	case st.Uid != us || st.Mode&0o022 != 0 || st.Nlink != 1:
		err = fmt.Errorf("user %d, mode %04o, %d names: others may have written it; expected user %d, mode 0600 and one name: remove it", st.Uid, st.Mode&0o7777, st.Nlink, us)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// read takes all lines that make sense. The last one may be half of one.
func (j *journal) read(i int) *kept {
	k := newKept()
	lines := bufio.NewScanner(j.files[i])
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		k.lines++
		if len(lines.Bytes()) == 0 {
			continue // after half a line
		}
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			j.log.Warn("a line of the file in which flows and SAs are kept is left out", "file", j.name(i), "line", k.lines, "err", err)
			continue
		}
		k.add(&r)
	}
	if err := lines.Err(); err != nil {
		j.log.Warn("the end of the file in which flows and SAs are kept is left out", "file", j.name(i), "line", k.lines+1, "err", err)
	}
	return k
}

// later tells whether k counts, and not o: a file in which what is was not
// written to the end is what a process was killed over.
func (k *kept) later(o *kept) bool {
	kw, ow := k.whole == k.begun && k.lines > 0, o.whole == o.begun && o.lines > 0
	if kw != ow {
		return kw
	}
	if k.begun != o.begun {
		return k.begun > o.begun
	}
	return k.lines > o.lines
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
	case r.Begin != 0:
		k.begun, k.era = r.Begin, r.Era
	case r.End != 0:
		k.whole = r.End
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
		if j.fails { // the last one may be half there
			line = append([]byte{'\n'}, line...)
		}
		_, err = j.files[j.at].Write(append(line, '\n'))
	}
	j.lines++
	if err != nil {
		j.failed(err)
	}
}

// failed: something is missing in the files, until what is is written as a whole.
func (j *journal) failed(err error) {
	if !j.fails {
		j.fails = true
		j.most = j.lines + tryAgain
		j.log.Error("what the kernel does not store cannot be kept: after a restart SAs and flows will be made anew", "file", j.path, "err", err)
	}
}

// rewrite writes what is into the other file, without what was.
func (j *journal) rewrite(all []record) {
	var b bytes.Buffer
	all = slices.Concat([]record{{Begin: j.turn + 1, Era: j.era}}, all, []record{{End: j.turn + 1}})
	for i := range all {
		line, err := json.Marshal(&all[i])
		if err != nil {
			j.failed(err)
			return
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	was, next := j.files[j.at], j.files[1-j.at]
	err := next.Truncate(0)
	if err == nil {
		_, err = next.Write(b.Bytes())
	}
	if err != nil {
		_ = next.Truncate(0)
		j.failed(err)
		j.most = j.lines + tryAgain // not at every line, while the disk is full
		return
	}
	j.at, j.turn = 1-j.at, j.turn+1
	j.lines = len(all)
	j.most = 3*j.lines + 1000
	if err := was.Truncate(0); err != nil { // it counts no more, and takes room
		j.log.Warn("the file that counts no more cannot be made empty", "file", was.Name(), "err", err)
	}
	if j.fails {
		j.fails = false
		j.log.Info("what the kernel does not store is kept again", "file", j.path)
	}
}

func (j *journal) close() {
	if j == nil {
		return
	}
	for _, f := range j.files {
		if f != nil {
			f.Close()
		}
	}
}
