package daemon

import (
	"io"
	"net/netip"

	"oakley/internal/dataplane"
)

// Host is all that the daemon asks of the operating system but the data plane.
// Each method is a request that a privileged process can check and answer for
// an unprivileged one; tests have a Host of their own.
type Host interface {
	// ReadPrivate returns the contents of a file that holds secrets. A file that
	// others than its owner can read or write, or that neither we nor root own,
	// is refused.
	ReadPrivate(path string) ([]byte, error)
	// ReadMatching returns the files whose paths match a pattern, which hold no
	// secrets and are not trusted. There may be none.
	ReadMatching(pattern string) (map[string][]byte, error)
	// WriteRun replaces a file below RunDir as a whole, with mode 0600. A
	// symbolic link in its place is replaced, not followed.
	WriteRun(path string, data []byte) error
	// HoldPID writes our process number to a file below RunDir and holds the
	// file until it is closed, which removes it. A file that a living process
	// holds is an error that names the process.
	HoldPID(path string) (io.Closer, error)
	// ListenIKE opens a UDP socket for IKE on an address and port; the address
	// may be unspecified. Exempt: policies of the kernel's do not concern it.
	ListenIKE(local netip.AddrPort, exempt bool) (dataplane.IKEConn, error)
	// InterfaceAddrs returns the addresses of a network interface.
	InterfaceAddrs(name string) ([]netip.Prefix, error)
	// LocalAddrs returns the addresses of all interfaces.
	LocalAddrs() ([]netip.Prefix, error)
	// SourceFor returns the address from which the system would send to remote.
	SourceFor(remote netip.Addr) (netip.Addr, error)
	// DefaultInterface names the interface of the default route.
	DefaultInterface(v6 bool) (string, error)
	// HasIPv6 tells whether the system has IPv6 at all.
	HasIPv6() bool
	// Forwards tells whether the system forwards packets of the family.
	Forwards(v6 bool) (bool, error)
}

// RunDir is the only folder into which the daemon writes, and below which pid
// and report files have to be.
const RunDir = "/var/run"
