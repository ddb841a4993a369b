package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// killStrays ends the processes that programs of this host left behind on
// purpose: daemons that outlive their parents. Nobody else can be in a namespace
// without a name that this process made.
func (h *Host) killStrays() {
	gone := func() bool {
		left := h.strays()
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		return len(left) == 0
	}
	_ = Until(2*time.Second, gone)
}

func (h *Host) strays() (pids []int) {
	var mine unix.Stat_t
	if err := unix.Fstat(int(h.ns), &mine); err != nil {
		return nil
	}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		var st unix.Stat_t
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || unix.Stat(dir+"/ns/net", &st) != nil {
			continue
		}
		if st.Dev == mine.Dev && st.Ino == mine.Ino {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Find returns the processes on the host whose program has this name.
func (h *Host) Find(name string) (pids []int) {
	for _, pid := range h.strays() {
		if path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && filepath.Base(path) == name {
			pids = append(pids, pid)
		}
	}
	return pids
}
