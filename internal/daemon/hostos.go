package daemon

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/dataplane/xfrm"
	"oakley/internal/netio"
)

// OS is the Host that asks the running system.
type OS struct{}

var _ Host = OS{}

// maxConfig bounds a file that is read whole.
const maxConfig = 16 << 20

// ReadPrivate implements Host. It looks at what it opened, so that nothing can
// be put in its place in between.
func (OS) ReadPrivate(path string) ([]byte, error) {
	data, st, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if err := checkPrivate(path, st, os.Geteuid()); err != nil {
		return nil, err
	}
	return data, nil
}

// maxMatching bounds how many files of a folder are read.
const maxMatching = 10000

// ReadMatching implements Host.
func (OS) ReadMatching(pattern string) (map[string][]byte, error) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pattern, err)
	}
	if len(paths) > maxMatching {
		return nil, fmt.Errorf("%s: %d files, %d may be", pattern, len(paths), maxMatching)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		data, _, err := readFile(path)
		if err != nil {
			return nil, err
		}
		all[path] = data
	}
	return all, nil
}

func readFile(path string) ([]byte, *unix.Stat_t, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO shall not hold us up
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxConfig {
		return nil, nil, fmt.Errorf("%s has more than %d bytes", path, maxConfig)
	}
	return data, &st, nil
}

// checkPrivate says what is wrong with the rights of a file that holds secrets,
// and the command that mends it.
func checkPrivate(path string, st *unix.Stat_t, uid int) error {
	if st.Uid != 0 && int(st.Uid) != uid {
		return fmt.Errorf("%s belongs to user %d, who could change what we trust: it has to be root's or our own (chown %d %s)", path, st.Uid, uid, path)
	}
	if st.Mode&0o077 != 0 {
		return fmt.Errorf("%s may hold secrets, and others than its owner can use it (mode %04o): chmod 600 %s", path, st.Mode&0o7777, path)
	}
	return nil
}

// ReadUnchecked returns a file for check mode, which installs nothing and works
// for any user; complaint says why the daemon itself would refuse the file.
func ReadUnchecked(path string) (data []byte, complaint error, err error) { //nolint:revive // complaint is a result
	data, st, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	return data, checkPrivate(path, st, 0), nil
}

// InterfaceAddrs implements Host.
func (OS) InterfaceAddrs(name string) ([]netip.Prefix, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("there is no network interface %q", name)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of interface %s: %w", name, err)
	}
	return prefixes(addrs), nil
}

// LocalAddrs implements Host.
func (OS) LocalAddrs() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this host: %w", err)
	}
	return prefixes(addrs), nil
}

func prefixes(addrs []net.Addr) []netip.Prefix {
	var ps []netip.Prefix
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		ones, _ := n.Mask.Size()
		if !ok || ip.Unmap().IsLinkLocalUnicast() {
			continue
		}
		if ip.Is4In6() {
			ip = ip.Unmap()
		}
		ps = append(ps, netip.PrefixFrom(ip, ones))
	}
	return ps
}

// SourceFor implements Host: a connected UDP socket has asked the routing table
// without a packet being sent. It bears the mark of our packets, so that a flow's
// own route does not answer.
func (OS) SourceFor(remote netip.Addr) (netip.Addr, error) {
	dial := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			// Without the right to set it there are no routes of ours either.
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, userspace.DefaultMark)
		})
	}}
	c, err := dial.Dial("udp", netip.AddrPortFrom(remote, 500).String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no route to %s: %w", remote, err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// DefaultInterface implements Host.
func (OS) DefaultInterface(v6 bool) (string, error) {
	name, parse := "/proc/net/route", defaultRoute4
	if v6 {
		name, parse = "/proc/net/ipv6_route", defaultRoute6
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("the routing table cannot be read: %w", err)
	}
	if dev := parse(data); dev != "" {
		return dev, nil
	}
	return "", errors.New("there is no default route")
}

// defaultRoute4 finds the interface of the default route with the lowest metric
// in the layout of /proc/net/route.
func defaultRoute4(data []byte) string {
	best, metric := "", uint64(0)
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		f := strings.Fields(s.Text()) // Iface Destination Gateway Flags RefCnt Use Metric Mask ...
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		flags, err1 := strconv.ParseUint(f[3], 16, 32)
		m, err2 := strconv.ParseUint(f[6], 10, 32)
		if err1 != nil || err2 != nil || flags&unix.RTF_UP == 0 || flags&unix.RTF_REJECT != 0 {
			continue
		}
		if best == "" || m < metric {
			best, metric = f[0], m
		}
	}
	return best
}

// defaultRoute6 does the same in the layout of /proc/net/ipv6_route.
func defaultRoute6(data []byte) string {
	best, metric := "", uint32(0)
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		f := strings.Fields(s.Text()) // dst plen src plen gateway metric refcnt use flags iface
		if len(f) < 10 || strings.Trim(f[0], "0") != "" || f[1] != "00" {
			continue
		}
		m, err1 := hex.DecodeString(f[5])
		flags, err2 := strconv.ParseUint(f[8], 16, 32)
		if err1 != nil || len(m) != 4 || err2 != nil || flags&unix.RTF_UP == 0 || flags&unix.RTF_REJECT != 0 {
			continue
		}
		if v := binary.BigEndian.Uint32(m); best == "" || v < metric {
			best, metric = f[9], v
		}
	}
	return best
}

// HasIPv6 implements Host.
func (OS) HasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// Forwards implements Host.
func (OS) Forwards(v6 bool) (bool, error) {
	name := "/proc/sys/net/ipv4/ip_forward"
	if v6 {
		name = "/proc/sys/net/ipv6/conf/all/forwarding"
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // no such family here
	}
	if err != nil {
		return false, err
	}
	return strings.TrimSpace(string(data)) != "0", nil
}

// ListenIKE implements Host.
func (OS) ListenIKE(local netip.AddrPort, exempt bool) (dataplane.IKEConn, error) {
	if exempt {
		return xfrm.ListenIKE(local)
	}
	return netio.ListenUDP(netio.Host{}, local, userspace.DefaultMark)
}
