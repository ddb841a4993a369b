package lab

import (
	"testing"
	"time"
)

// A daemon that left its parent is gone with the network.
func TestStraysEndWithTheNetwork(t *testing.T) {
	Need(t, "root")
	n := Open()
	defer n.Close()
	h, err := n.Host("alone")
	must(t, err)
	p, err := h.Start(Command{Path: "/bin/sh", Args: []string{"-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null &"}})
	must(t, err)
	must(t, p.Wait(5*time.Second))
	Eventually(t, 5*time.Second, "the stray is found", func() bool { return len(h.Find("sleep")) == 1 })
	h.killStrays()
	if left := h.strays(); len(left) != 0 {
		t.Errorf("still there: %v", left)
	}
}

// Programs of a host share its folders, and no other host's.
func TestFoldersAreTheHosts(t *testing.T) {
	n := New(t)
	a, err := n.Host("a")
	must(t, err)
	b, err := n.Host("b")
	must(t, err)
	sh := func(h *Host, script string) error {
		_, err := h.RunCommand(5*time.Second, Command{Path: "/bin/sh", Args: []string{"-c", script}, Private: []string{RunDir()}})
		return err
	}
	must(t, sh(a, "echo here > "+RunDir()+"/mark"))
	must(t, sh(a, "grep here "+RunDir()+"/mark"))
	if sh(b, "test -e "+RunDir()+"/mark") == nil {
		t.Error("another host sees it")
	}
}
