package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"

	"oakley/internal/lab"
)

// self runs this program again, on a host.
func (n *network) self(h *lab.Host, args ...string) (*lab.Process, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return h.Start(lab.Command{Path: path, Args: args})
}

// routeInto brings a device up and leads a network into it.
func routeInto(h *lab.Host, device string, to netip.Prefix) error {
	return h.Do(func() error {
		var link netlink.Link
		var err error
		if !lab.Until(5*time.Second, func() bool { link, err = netlink.LinkByName(device); return err == nil }) {
			return fmt.Errorf("host %s: device %s: %w", h, device, err)
		}
		_, dst, err := net.ParseCIDR(to.String())
		return errors.Join(err, netlink.LinkSetUp(link), netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst}))
	})
}
