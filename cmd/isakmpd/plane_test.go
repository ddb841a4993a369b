package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"oakley/internal/dataplane/xfrm"
	"oakley/internal/lab"
)

// The options of the configuration reach the ipsecd that is started, and the data
// plane inside; of one that runs already it is said that they do not.
func TestDataPlaneOptions(t *testing.T) {
	lab.Need(t, "root", "tun")
	stack, err := lab.Build("oakley/cmd/ipsecd")
	must(t, err)
	prog, err := lab.Build("oakley/cmd/isakmpd")
	must(t, err)
	h, err := lab.New(t).Host("alone")
	must(t, err)
	start := func(where string) *lab.Process {
		t.Helper()
		conf := filepath.Join(t.TempDir(), "isakmpd.conf")
		text := "[General]\nListen-on= 127.0.0.1\nData-plane= " + where + "\nData-plane-options= mtu=1300, outer-mtu=1420, df=set, no-clamp-mss, no-offload, spread\n[Phase 1]\n[Phase 2]\n"
		must(t, os.WriteFile(conf, []byte(text), 0o600))
		d, err := h.Start(lab.Command{Path: prog, Args: []string{"-d", "-K", "-c", conf}, Private: []string{lab.RunDir()}})
		must(t, err)
		if _, err = d.Log.Wait("data plane: ", patience); err != nil {
			t.Fatalf("%v\n%s", err, d.Log)
		}
		return d
	}
	d := start("ipsecd")
	pids := h.Find("ipsecd")
	if len(pids) != 1 || d.Log.Count("MTU 1300 ") == 0 {
		t.Fatalf("%d ipsecd\n%s", len(pids), d.Log)
	}
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pids[0]) + "/cmdline")
	must(t, err)
	args := strings.ReplaceAll(string(line), "\x00", " ")
	if !strings.HasSuffix(args, " --mtu=1300 --outer-mtu=1420 --df=set --no-clamp-mss=true --no-offload=true --spread=true ") {
		t.Errorf("ipsecd was started as %s", args)
	}
	must(t, d.Stop(patience))

	inside := start("isakmpd")
	if inside.Log.Count("MTU 1300 ") == 0 || inside.Log.Count("offload on") > 0 {
		t.Errorf("inside is a data plane with other options\n%s", inside.Log)
	}
	must(t, inside.Stop(patience))

	service, err := h.Start(lab.Command{Path: stack, Private: []string{lab.RunDir()}})
	must(t, err)
	_, err = service.Log.Wait("ipsecd is ready", patience)
	must(t, err)
	d = start("ipsecd")
	if d.Log.Count("the one that runs keeps those") != 1 {
		t.Errorf("it does not say that the options are of no use\n%s", d.Log)
	}
	must(t, d.Stop(patience))
	must(t, service.Stop(patience))
}

// A data plane that was forced and cannot be had is an error that says what to do;
// the flag is stronger than the configuration.
func TestForcedKernelWithoutESP(t *testing.T) {
	lab.Need(t, "root", "tun")
	if can, err := xfrm.Probe(); err == nil && can.Usable() == nil {
		t.Log("this machine's kernel has ESP: the virtual machine's tests are for that")
		return
	}
	prog, err := lab.Build("oakley/cmd/isakmpd")
	must(t, err)
	h, err := lab.New(t).Host("alone")
	must(t, err)
	conf := filepath.Join(t.TempDir(), "isakmpd.conf")
	for _, c := range []struct{ tag, flag, want string }{
		{"kernel", "", "the data plane is to be the kernel, and the kernel cannot do it: "},
		{"isakmpd", "--data-plane=kernel", "the data plane is to be the kernel, and the kernel cannot do it: "},
		{"kernel", "--data-plane=isakmpd", "data plane: userspace, "},
		{"auto", "", "ipsecd carries the traffic, for the kernel cannot"},
	} {
		must(t, os.WriteFile(conf, []byte("[General]\nListen-on= 127.0.0.1\nData-plane= "+c.tag+"\n[Phase 1]\n[Phase 2]\n"), 0o600))
		args := []string{"-d", "-K", "-c", conf}
		if c.flag != "" {
			args = append(args, c.flag)
		}
		d, err := h.Start(lab.Command{Path: prog, Args: args, Private: []string{lab.RunDir()}})
		must(t, err)
		if _, err = d.Log.Wait(regexp.QuoteMeta(c.want), patience); err != nil {
			t.Errorf("Data-plane=%s %s: %v\n%s", c.tag, c.flag, err, d.Log)
		}
		_ = d.Stop(patience) // some have ended by themselves
	}
}
