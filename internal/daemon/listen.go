package daemon

import (
	"net/netip"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/netio"
)

// listenIKE opens a UDP socket for IKE alone, marked as ours so that no flow
// swallows what it sends.
func listenIKE(local netip.AddrPort) (dataplane.IKEConn, error) {
	return netio.ListenUDP(netio.Host{}, local, userspace.DefaultMark)
}
