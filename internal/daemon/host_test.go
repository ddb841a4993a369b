package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"oakley/internal/netio"
)

func TestOnlyFilesBelowTheRunFolderAreWritten(t *testing.T) {
	for _, path := range []string{"/var/run/x", "/var/run/a/b", "/var/run//x", "/var/run/a/../x"} {
		if err := CheckRunPath(path); err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{"", "x", "/var/run", "/var/run/", "/var/runx", "/var/run/../log/x", "/etc/passwd", "var/run/x", "/var/run/.."} {
		if err := CheckRunPath(path); err == nil {
			t.Errorf("%q was taken", path)
		}
	}
}

func TestAReportReplacesALinkAndIsClosedToOthers(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, "report")); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first", "second"} {
		if err := writeAtomically(root, "report", []byte(text)); err != nil {
			t.Fatal(err)
		}
		st, err := root.Lstat("report")
		if err != nil || st.Mode() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		if got, _ := root.ReadFile("report"); string(got) != text {
			t.Errorf("%q", got)
		}
	}
	if got, _ := os.ReadFile(victim); string(got) != "precious" {
		t.Errorf("the link was followed: %q", got)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestThePIDFileIsHeldAndAStaleOneTakenOver(t *testing.T) {
	dir := t.TempDir()
	open := func() *os.Root {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		return root
	}
	path := filepath.Join(dir, "pid")
	if err := os.WriteFile(path, []byte("999999999 something longer\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := holdPID(open(), "pid", "isakmpd")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("it has %q", got)
	}
	second := open()
	defer second.Close()
	if _, err := holdPID(second, "pid", "isakmpd"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d holds it", os.Getpid())) {
		t.Errorf("a second holder: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if err := os.Symlink("/etc/passwd", path); err != nil {
		t.Fatal(err)
	}
	if _, err := holdPID(second, "pid", "isakmpd"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a link: %v", err)
	}
}

func TestSecretsOfOthersAreRefused(t *testing.T) {
	for _, c := range []struct {
		mode, uid uint32
		want      string
	}{
		{0o600, 1000, ""},
		{0o400, 0, ""},
		{0o700, 1000, ""},
		{0o640, 1000, "chmod 600 f"},
		{0o602, 1000, "chmod 600 f"},
		{0o644, 0, "chmod 600 f"},
		{0o600, 1001, "belongs to user 1001"},
	} {
		err := checkPrivate("f", &unix.Stat_t{Mode: unix.S_IFREG | c.mode, Uid: c.uid}, 1000)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("mode %o of user %d: %v", c.mode, c.uid, err)
		}
	}
}

func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, "/dev/null"} {
		if _, err := (OS{}).ReadPrivate(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, maxConfig+1); err != nil {
		t.Fatal(err)
	}
	if _, err := (OS{}).ReadPrivate(big); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a file without end: %v", err)
	}
}

func TestTheDefaultRoutesInterface(t *testing.T) {
	const v4 = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
wan1	00000000	0102000A	0003	0	0	200	00000000	0	0	0
down0	00000000	0102000A	0002	0	0	1	00000000	0	0	0
wan0	00000000	0102000A	0003	0	0	100	00000000	0	0	0
half	00000000	0102000A	0003	0	0	0	00000080	0	0	0
lan0	0000000A	00000000	0001	0	0	0	00FFFFFF	0	0	0
short	00000000
`
	if got := defaultRoute4([]byte(v4)); got != "wan0" {
		t.Errorf("IPv4: %q", got)
	}
	zero := strings.Repeat("0", 32)
	v6 := strings.Join([]string{
		zero + " 00 " + zero + " 00 " + zero + " ffffffff 00000001 00000000 00200200       lo", // reject
		zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth1",
		zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000100 00000001 00000000 00000003     eth0",
		"20010db8" + zero[8:] + " 40 " + zero + " 00 " + zero + " 00000001 00000001 00000000 00000001     eth2",
	}, "\n")
	if got := defaultRoute6([]byte(v6)); got != "eth0" {
		t.Errorf("IPv6: %q", got)
	}
	if defaultRoute4(nil) != "" || defaultRoute6(nil) != "" {
		t.Error("a route out of nothing")
	}
}

func TestTheSystemsAnswersAreUsable(t *testing.T) {
	lo, err := OS{}.InterfaceAddrs("lo")
	if err != nil || len(lo) == 0 || !lo[0].Addr().IsLoopback() {
		t.Errorf("lo: %v, %v", lo, err)
	}
	if _, err := (OS{}).InterfaceAddrs("no such"); err == nil {
		t.Error("an interface that is not there has addresses")
	}
	a, err := OS{}.SourceFor(netip.MustParseAddr("127.0.0.1"))
	if err != nil || a.String() != "127.0.0.1" {
		t.Errorf("the source for loopback: %s, %v", a, err)
	}
}

func TestATakenPortIsNamed(t *testing.T) {
	first, err := netio.Host{}.OpenUDP(netio.UDPOptions{Local: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, err = netio.Host{}.OpenUDP(netio.UDPOptions{Local: first.LocalAddr()})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("%v", err)
	}
	text := listenError(first.LocalAddr(), err).Error()
	port := fmt.Sprint(first.LocalAddr().Port())
	for _, part := range []string{"UDP port " + port + " on 127.0.0.1 is taken by another program", "ss -lunp sport = :" + port} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in: %s", part, text)
		}
	}
	if n := strings.Count(text, "running already"); n != 1 {
		t.Errorf("it is said %d times: %s", n, text)
	}
	if s := listenError(netip.MustParseAddrPort("[::]:500"), syscall.EAFNOSUPPORT).Error(); !strings.Contains(s, "UDP port 500 on all IPv6 addresses cannot be opened") {
		t.Error(s)
	}
}
