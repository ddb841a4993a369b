package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"oakley/interop"
)

// strongSwan is a subject: charon with ESP in user space, which speaks UDP alone.
type strongSwan struct {
	suite string // its name of the ESP proposal
}

func (s strongSwan) name() string { return "strongSwan libipsec " + s.suite }

func (s strongSwan) start(n *network) (pids [2]int, err error) {
	var daemons [2]*interop.StrongSwan
	for i, h := range n.gateway {
		dir := filepath.Join(n.dir, fmt.Sprintf("swan%d", i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return pids, err
		}
		daemons[i], err = interop.StartStrongSwan(h, dir, interop.Tunnel{
			Local: wan[i], Remote: wan[1-i], LocalNet: lan[i], RemoteNet: lan[1-i],
			P1: interop.Phase1s[2], P2: interop.Phase2{Swan: s.suite},
		})
		if err != nil {
			return pids, err
		}
		pids[i] = daemons[i].Pid()
	}
	return pids, daemons[0].Initiate(15 * time.Second)
}
