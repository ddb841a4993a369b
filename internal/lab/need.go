// Package lab makes test networks: hosts that are network namespaces, cables
// between them, routers, address translation, spies on a cable, and the traffic
// that proves a tunnel (ping, TCP with checksums, numbered UDP). Everything is
// made by the process itself and is gone when it closes the network. It works
// as root, and without root in a user namespace of its own (see Reexec).
//
// Need is what a test says when it wants something of the machine.
package lab

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Need ends the test unless the machine has everything that is named: "root"
// (the right to make namespaces), "tun" (the device /dev/net/tun), or the name
// of a program. The test is skipped with the reason; where CI=true it fails, for
// there everything is to be there and a skipped test would go unseen.
func Need(t testing.TB, things ...string) {
	t.Helper()
	for _, thing := range things {
		err := have(thing)
		if err == nil {
			continue
		}
		if InCI() {
			t.Fatalf("CI=true, and %v", err)
		}
		t.Skipf("skipped: %v", err)
	}
}

// InCI says whether the environment has CI=true.
func InCI() bool { return os.Getenv("CI") == "true" }

// sbin is where Debian keeps daemons that are not in every user's PATH.
var sbin = []string{"/usr/sbin/", "/sbin/", "/usr/lib/ipsec/"}

// Program finds a program in PATH or in the system's folders for daemons.
func Program(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range sbin {
		if unix.Access(dir+name, unix.X_OK) == nil {
			return dir + name, nil
		}
	}
	return "", fmt.Errorf("there is no program %s", name)
}

func have(thing string) error {
	switch thing {
	case "root":
		return canMakeNamespaces()
	case "tun":
		if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err != nil {
			return fmt.Errorf("/dev/net/tun cannot be used: %w", err)
		}
		return nil
	}
	_, err := Program(thing)
	return err
}

// canMakeNamespaces asks the kernel whether this process may administer
// networks and mounts; uid 0 alone does not say it (containers).
func canMakeNamespaces() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capabilities cannot be read: %w", err)
	}
	for _, c := range []struct {
		bit  uint
		name string
	}{{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}} {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			return fmt.Errorf("network namespaces need root (no %s here)", c.name)
		}
	}
	return nil
}
