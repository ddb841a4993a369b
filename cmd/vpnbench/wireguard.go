package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"oakley/internal/lab"
)

// wireGuard is a subject: wireguard-go, driven through its own socket.
type wireGuard struct{ program string }

const (
	wgDevice = "wg0"
	wgMTU    = 1420
	wgPort   = 51820
)

func (w wireGuard) name() string { return "wireguard-go" }

func (w wireGuard) start(n *network) (pids [2]int, err error) {
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return pids, err
		}
	}
	for i, h := range n.gateway {
		p, err := h.Start(lab.Command{
			Path: w.program, Args: []string{"-f", wgDevice}, Env: []string{"LOG_LEVEL=error", "WG_PROCESS_FOREGROUND=1"},
			Private: []string{lab.RunDir()},
		})
		if err != nil {
			return pids, err
		}
		pids[i] = p.Pid()
		sock := filepath.Join("/proc", strconv.Itoa(p.Pid()), "root", lab.RunDir(), "wireguard", wgDevice+".sock")
		err = wgSet(sock, fmt.Sprintf("set=1\nprivate_key=%s\nlisten_port=%d\npublic_key=%s\nendpoint=%s:%d\nallowed_ip=%s\n\n",
			hex.EncodeToString(keys[i].Bytes()), wgPort, hex.EncodeToString(keys[1-i].PublicKey().Bytes()), wan[1-i], wgPort, lan[1-i]))
		if err != nil {
			return pids, fmt.Errorf("wireguard-go on gateway %s: %w\n%s", h, err, p.Log)
		}
		if err := errors.Join(h.SetMTU(wgDevice, wgMTU), routeInto(h, wgDevice, lan[1-i])); err != nil {
			return pids, err
		}
	}
	return pids, nil
}

// wgSet sends one request of wireguard's cross-platform interface.
func wgSet(sock, request string) error {
	var c net.Conn
	var err error
	if !lab.Until(10*time.Second, func() bool { c, err = net.Dial("unix", sock); return err == nil }) {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	answer := make([]byte, 200)
	m, err := c.Read(answer)
	if err != nil {
		return err
	}
	if s := string(answer[:m]); !strings.Contains(s, "errno=0") {
		return fmt.Errorf("it answers %q", s)
	}
	return nil
}
