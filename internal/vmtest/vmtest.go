// Package vmtest runs tests in a virtual machine with Debian's cloud kernel: one
// that has ESP, AH and IPComp, whatever this machine's has. It is qemu without
// hardware support and needs neither root nor a disk.
//
//	func TestKernel(t *testing.T) {
//		vmtest.Run(t, vmtest.Machine{Modules: vmtest.IPsec}, func(t *testing.T) {
//			t.Run("a tunnel", …)
//		})
//	}
//
// Outside, Run starts a machine whose first process is this same test program,
// has it run this same test, and repeats what comes of it: subtests, output,
// failures, skips. Inside, Run calls the function. So selection (-run, -skip),
// -short, -v and arguments after -args mean the same in both, and the function
// uses anything that its package has; what stands before Run in the test happens
// in both.
//
// A machine that dies or hangs, or tests that do, fail the test with the
// machine's console. As many machines run at a time as there are processors, each
// of which has one: tests that have a machine each may be parallel.
//
// Package lab works in the guest: hosts, cables, address translation. Starting a
// program costs 70 to 100 ms there, so whatever can be done with netlink is.
// There is no shell. The guest's clock counts what its one processor does and
// leaves out the time in which it would wait: however busy this machine is, what
// takes a millisecond there always takes one, and a test that sleeps for an hour
// is done at once. So nothing is won by running tests in parallel there.
package vmtest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

// Machine says what is in a machine. The zero value has Links, a memory that
// fits, and nothing else.
type Machine struct {
	// Modules of the kernel: IPsec, NAT, or others by name, with all that they
	// need. None loads by itself in the guest: "no such file or directory" or
	// "protocol not supported" there may mean one that is not named.
	Modules  []string
	Build    []string   // programs of this module ("oakley/cmd/isakmpd"); lab.Build gives their paths
	Software []Software // programs of others
	Programs []string   // more programs, with their libraries, by name or path
	Files    []string   // more files and folders of this machine, by absolute path
	Env      []string   // "NAME=value" for the tests; CI is passed on anyway

	Memory  int           // MiB; 0: as much as the image needs, and 256 at least
	Quiet   time.Duration // of the guest's time; tests that write nothing for so long hang. 0: a minute
	Silence time.Duration // of our time; a machine that says nothing for so long hangs. 0: a minute

	limit time.Duration // of our time, from what the tests first write; for tests of this package
}

// Software is a set of programs that belong together.
type Software struct {
	Programs []string // by name or path, with their libraries
	Files    []string // files and folders by path, as plugins and samples; programs among them with their libraries
	Modules  []string // of the kernel
	// Packages are Debian packages that need not be installed; they are fetched
	// and unpacked, and what is named above is looked for in them first.
	Packages []string
}

// all is the machine's own programs and files, and those of others.
func (m *Machine) all() []Software {
	return append([]Software{{Programs: m.Programs, Files: m.Files}}, m.Software...)
}

// insideEnv says to the test program that it is in a guest, and verboseEnv
// whether it was started with -v outside.
const (
	insideEnv  = "OAKLEY_VM"
	verboseEnv = "OAKLEY_VM_VERBOSE"
)

// Inside says whether this process runs in a guest.
func Inside() bool { return os.Getenv(insideEnv) != "" }

// Run runs a function as the test t in a machine. It needs what Need
// asks for, and the software that is named.
func Run(t *testing.T, m Machine, f func(t *testing.T)) {
	t.Helper()
	if Inside() {
		if os.Getenv(verboseEnv) == "" {
			// The program runs with -v so that we hear of every test. Its tests are
			// to see what we were started with.
			_ = flag.Set("test.v", "false")
		}
		f(t)
		return
	}
	program := ownProgram(t)
	argv := []string{
		"/init.test", "-test.run=" + selection(flagValue("test.run"), t.Name()),
		"-test.skip=" + flagValue("test.skip"), "-test.failfast=" + flagValue("test.failfast"),
	}
	boot(t, &image{machine: &m, program: program}, t.Name(), argv)
}

// RunPackage runs all tests of a package of this module ("oakley/internal/lab"),
// or those that the arguments choose ("-test.run=Host"), in a machine, each as a
// subtest of t.
func RunPackage(t *testing.T, m Machine, pkg string, args ...string) {
	t.Helper()
	Need(t)
	argv := append([]string{ourFolder + "/" + path.Base(pkg) + ".test"}, args...)
	boot(t, &image{machine: &m, program: ownProgram(t), tests: compile(t, pkg)}, "", argv)
}

func flagValue(name string) string {
	if f := flag.Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}

// ownProgram is this test program, without the race detector: that needs more
// memory than a machine has and would take minutes there.
func ownProgram(t *testing.T) []byte {
	t.Helper()
	Need(t)
	if !raceDetector() {
		data, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	return compile(t, ".")
}

func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

// compile builds a package's test program.
func compile(t *testing.T, pkg string) []byte {
	t.Helper()
	to := filepath.Join(t.TempDir(), "guest.test")
	cmd := exec.Command("go", "test", "-c", "-ldflags=-s -w", "-o", to, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the tests of %s do not build: %v\n%s", pkg, err, out)
	}
	data, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// boot runs a machine from its start to its end and reports on it to t. name is
// the test of the guest that t repeats; with "" t has all of them as subtests.
func boot(t *testing.T, im *image, name string, argv []string) {
	t.Helper()
	k, err := need()
	refuse(t, err)
	im.kernel = k
	for _, s := range im.machine.Software {
		dirs, err := unpack(s.Packages)
		refuse(t, err)
		im.packages = append(im.packages, dirs...)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	waiting := time.Now()
	free, err := aTurn()
	if err != nil {
		t.Fatalf("the lock that keeps machines apart: %v", err)
	}
	defer free()
	if waited := time.Since(waiting); waited > time.Second {
		t.Logf("waited %.0f s for other machines to end", waited.Seconds())
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	size, err := im.build(initrd, orders{
		Argv:  slices.Concat(argv, inherited(), foreignArgs()),
		Dir:   dir,
		Env:   append(environment(), im.machine.Env...),
		Quiet: orMinute(im.machine.Quiet),
	})
	var missing missingError
	if errors.As(err, &missing) {
		refuse(t, err)
	}
	if err != nil {
		t.Fatalf("the machine's image cannot be made: %v", err)
	}
	memory := max(im.machine.Memory, 256, int(3*size>>20)+128)
	rep, s := newReport(name), &stream{}
	began := time.Now()
	r, err := start(k, initrd, memory, func(text string) { s.write(text, rep.deliver) })
	if err != nil {
		t.Fatal(err)
	}
	defer r.kill()
	hung := make(chan error, 1)
	go func() {
		err := r.wait(orMinute(im.machine.Silence), im.machine.deadline(t))
		s.end(rep.deliver)
		rep.close()
		hung <- err
	}()
	skip := rep.root.play(t)
	verdict(t, r, <-hung, rep, fmt.Sprintf("kernel %s, image %.1f MiB", k.release, float64(size)/(1<<20)), began)
	if skip {
		t.SkipNow()
	}
}

// verdict says how the machine ended, after all tests were repeated.
func verdict(t *testing.T, r *running, hung error, rep *report, what string, began time.Time) {
	t.Helper()
	rep.leftovers(t.Output())
	end := r.outcome
	switch {
	case hung != nil:
		t.Errorf("%v\n%s", hung, r.remains())
	case end == nil:
		t.Errorf("the machine died before its tests had ended (%s: %v)\n%s", qemu, r.err, r.remains())
	case end.Trouble != "":
		t.Errorf("the machine's first process: %s\n%s%s", end.Trouble, r.remains(), end.Kernel)
	case end.Status != 0 && !t.Failed():
		t.Errorf("the tests ended with exit status %d, though none failed\n%s%s", end.Status, r.remains(), end.Kernel)
	case end.Status != 0:
		t.Logf("--- log of the guest's kernel\n%s", end.Kernel)
	}
	if end == nil || r.up.IsZero() {
		return
	}
	t.Logf("%s, %.0f of %.0f MiB of memory free at the end; tests began %.1f s after its start (kernel %.1f s, modules and image %.1f s), ended %.1f s after it; it took %.1f s of a processor",
		what, float64(end.MemFree)/(1<<20), float64(end.MemAll)/(1<<20), r.up.Sub(began).Seconds(), end.Boot, end.Preparing, time.Since(began).Seconds(), r.cpu().Seconds())
}

// remains is all that a machine has left behind.
func (r *running) remains() string {
	text := "--- console of the guest\n" + r.console.String()
	if s := r.stderr.String(); s != "" {
		text += "--- " + qemu + "\n" + s
	}
	return text
}

func orMinute(d time.Duration) time.Duration {
	if d == 0 {
		return time.Minute
	}
	return d
}

// inherited are the flags of package testing that mean the same in the guest.
// Its timeout is not among them: the guest has a time of its own.
func inherited() []string {
	return []string{"-test.v=test2json", "-test.short=" + strconv.FormatBool(testing.Short()), "-test.paniconexit0"}
}

// deadline is when the tests are told to end, so that we can still tell how they
// did; it may depend on when they first wrote something. Zero: they have time.
func (m *Machine) deadline(t *testing.T) func(spoke time.Time) time.Time {
	last, limited := t.Deadline()
	if limited {
		last = last.Add(-min(grace+10*time.Second, time.Until(last)/4))
	}
	return func(spoke time.Time) time.Time {
		if m.limit != 0 && !spoke.IsZero() {
			return spoke.Add(m.limit)
		}
		return last
	}
}

// foreignArgs are the arguments that are not package testing's own.
func foreignArgs() []string {
	var args []string
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(strings.TrimLeft(a, "-"), "test.") {
			args = append(args, a)
		}
	}
	return args
}

func environment() []string {
	env := []string{
		insideEnv + "=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp", "LC_ALL=C.UTF-8",
	}
	if testing.Verbose() {
		env = append(env, verboseEnv+"=1")
	}
	if lab.InCI() {
		env = append(env, "CI=true")
	}
	return env
}
