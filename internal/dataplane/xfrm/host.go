package xfrm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// addresses knows which addresses are this host's, and which xfrm interfaces it
// has.
type addresses interface {
	own(a netip.Addr) (bool, error)
	interfaces() (ifids map[uint32]bool, err error)
	close()
}

// routes asks the kernel where a packet to an address would go: to this host, if
// the address is its own.
type routes struct{ h *netlink.Handle }

func openAddresses() (addresses, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("asking the kernel about addresses: %w", err)
	}
	return &routes{h}, nil
}

func (r *routes) own(a netip.Addr) (bool, error) {
	found, err := r.h.RouteGet(a.AsSlice())
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return len(found) > 0 && found[0].Type == unix.RTN_LOCAL, nil
}

func (r *routes) interfaces() (map[uint32]bool, error) {
	links, err := r.h.LinkList()
	if err != nil {
		return nil, err
	}
	ifids := map[uint32]bool{}
	for _, l := range links {
		if x, ok := l.(*netlink.Xfrmi); ok {
			ifids[x.Ifid] = true
		}
	}
	return ifids, nil
}

func (r *routes) close() { r.h.Close() }

// stat reads what the kernel dropped, of the network namespace in which it was
// opened.
type stat struct {
	file  *os.File
	start ipsec.Drops
}

// statFile is by thread: /proc/net is that of the process.
const statFile = "/proc/thread-self/net/xfrm_stat"

// openStat is nil where the kernel counts nothing (CONFIG_XFRM_STATISTICS).
func openStat() *stat {
	f, err := os.Open(statFile)
	if err != nil {
		return nil
	}
	s := &stat{file: f}
	s.start = s.read()
	return s
}

func (s *stat) close() {
	if s != nil {
		s.file.Close()
	}
}

// dropNames say which of our reasons each of the kernel's counters is
// (Documentation/networking/xfrm_proc.rst).
var dropNames = map[string]ipsec.Drop{
	"XfrmInError":             ipsec.DropMalformed,
	"XfrmInBufferError":       ipsec.DropMalformed,
	"XfrmInHdrError":          ipsec.DropMalformed,
	"XfrmInNoStates":          ipsec.DropUnknownSPI,
	"XfrmInStateProtoError":   ipsec.DropAuth,
	"XfrmInStateModeError":    ipsec.DropNextHeader,
	"XfrmInStateSeqError":     ipsec.DropReplay,
	"XfrmInStateExpired":      ipsec.DropExpired,
	"XfrmInStateMismatch":     ipsec.DropSelector,
	"XfrmInStateInvalid":      ipsec.DropExpired,
	"XfrmInTmplMismatch":      ipsec.DropClear, // in clear, or of another flow's SA
	"XfrmInNoPols":            ipsec.DropNoFlow,
	"XfrmInPolBlock":          ipsec.DropDeny,
	"XfrmInPolError":          ipsec.DropDeny,
	"XfrmOutError":            ipsec.DropSend,
	"XfrmOutBundleGenError":   ipsec.DropSend,
	"XfrmOutBundleCheckError": ipsec.DropSend,
	"XfrmOutNoStates":         ipsec.DropNoSA,
	"XfrmOutStateProtoError":  ipsec.DropSend,
	"XfrmOutStateModeError":   ipsec.DropTooBig,
	"XfrmOutStateSeqError":    ipsec.DropSequenceEnd,
	"XfrmOutStateExpired":     ipsec.DropExpired,
	"XfrmOutPolBlock":         ipsec.DropDeny,
	"XfrmOutPolDead":          ipsec.DropNoFlow,
	"XfrmOutPolError":         ipsec.DropDeny,
	"XfrmFwdHdrError":         ipsec.DropMalformed,
	"XfrmOutStateInvalid":     ipsec.DropExpired,
	"XfrmAcquireError":        ipsec.DropNoSA,
}

func (s *stat) read() (d ipsec.Drops) {
	text, err := io.ReadAll(io.NewSectionReader(s.file, 0, 1<<16))
	if err != nil {
		return d
	}
	return parseStat(text)
}

func parseStat(text []byte) (d ipsec.Drops) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		reason, known := dropNames[strings.TrimSpace(name)]
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		if ok && known && err == nil {
			d[reason] += n
		}
	}
	return d
}

// since is what was dropped since the start.
func (s *stat) since() (d ipsec.Drops) {
	if s == nil {
		return d
	}
	now := s.read()
	for i := range now {
		d[i] = now[i] - min(s.start[i], now[i])
	}
	return d
}

// era names the tables that the kernel has for this thread: after a start of the
// machine, and in another network namespace, they are others. Empty: it does not
// tell.
func era() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	name := string(bytes.TrimSpace(boot))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return name
	}
	defer unix.Close(fd)
	if cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err == nil { // since Linux 5.14
		name += fmt.Sprint("/", cookie)
	}
	return name
}

// sysctl is a number of the kernel's, of the network namespace of this thread.
type sysctl string

const (
	larvalDrop sysctl = "/proc/sys/net/core/xfrm_larval_drop"
	acqExpires sysctl = "/proc/sys/net/core/xfrm_acq_expires"
)

func (s sysctl) name() string {
	return strings.ReplaceAll(strings.TrimPrefix(string(s), "/proc/sys/"), "/", ".")
}

func (s sysctl) get() (int, error) {
	b, err := os.ReadFile(string(s))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

func (s sysctl) set(n int) error { return os.WriteFile(string(s), []byte(strconv.Itoa(n)), 0o644) }

// sysctls sets what the plane needs of the kernel's own settings. They stay so
// when it ends, for SAs stay too.
func (p *Plane) sysctls() error {
	if n, err := acqExpires.get(); err == nil && n < spiHold {
		if err := acqExpires.set(spiHold); err != nil {
			p.log.Warn("a reserved SPI is kept for less time than a negotiation may take", "seconds", n, "wanted", spiHold, "setting", acqExpires.name(), "err", err)
		}
	}
	n, err := larvalDrop.get()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if p.opt.Hold && n != 0 {
		if err := larvalDrop.set(0); err != nil {
			return fmt.Errorf("packets that ask for an SA are to be held, and %s cannot be set to 0: %w", larvalDrop.name(), err)
		}
		n = 0
	}
	p.holds = n == 0
	if n != 0 {
		p.log.Info("packets that ask for an SA are lost: hosts send again; the kernel can hold them", "setting", larvalDrop.name()+"=0")
	}
	return nil
}
