package main

import (
	"net"
	"os"
)

// notify tells the service manager, if there is one (sd_notify(3)).
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		return // it waits in vain and says so itself
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}
