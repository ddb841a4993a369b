package vmtest

import (
	"flag"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/lab"
)

// troubleEnv names the trouble that TestTrouble is to make. Without it that test
// does nothing: TestTroubleIsReported runs it in a process of its own.
const troubleEnv = "OAKLEY_VMTEST_TROUBLE"

var colour = flag.String("colour", "", "an argument of this package's own, to see that it reaches the guest")

// troubles are what happens in a guest.
var troubles = map[string]struct {
	machine Machine
	in      func(t *testing.T)
	args    []string // of the test program, beside those that choose the test
	want    []string // in its output
	never   []string
}{
	"tests": {
		in: func(t *testing.T) {
			t.Run("good", func(t *testing.T) { t.Log("said by the good one") })
			t.Run("bad", func(t *testing.T) { t.Error("four is not five") })
			t.Run("needs much", func(t *testing.T) { lab.Need(t, "no-such-program") })
			t.Run("group", func(t *testing.T) {
				t.Run("one", func(t *testing.T) { t.Parallel() })
				t.Run("two/three", func(t *testing.T) {
					t.Parallel()
					t.Error("three fails")
				})
			})
			t.Run("explodes", func(*testing.T) { panic("the roof came down") })
		},
		args: []string{"-test.v"},
		want: []string{
			"said by the good one", "four is not five", "there is no program no-such-program", "three fails",
			"the roof came down", "--- FAIL: TestTrouble ",
			"--- PASS: TestTrouble/good", "--- FAIL: TestTrouble/bad", "--- SKIP: TestTrouble/needs_much",
			"--- FAIL: TestTrouble/group ", "--- FAIL: TestTrouble/explodes",
		},
	},
	"selection": {
		in: func(t *testing.T) {
			t.Run("chosen", func(t *testing.T) {
				t.Errorf("short %t, verbose %t, colour %s", testing.Short(), testing.Verbose(), *colour)
			})
			t.Run("not chosen", func(t *testing.T) { t.Error("it runs nevertheless") })
			t.Run("chosen too", func(t *testing.T) { t.Error("it is skipped nevertheless") })
		},
		args:  []string{"-test.run=^TestTrouble$/^chosen|^TestNothing/x", "-test.skip=/too", "-test.short", "-colour=green"},
		want:  []string{"--- FAIL: TestTrouble ", "--- FAIL: TestTrouble/chosen ", "short true, verbose false, colour green"},
		never: []string{"nevertheless"},
	},
	"hanging test": {
		machine: Machine{Quiet: 5 * time.Minute},
		in: func(t *testing.T) {
			t.Run("waits", func(*testing.T) { waitsForEver() })
		},
		want: []string{"have written nothing for 5m0s", "vmtest.waitsForEver", "--- FAIL: TestTrouble/waits"},
	},
	"no time left": {
		machine: Machine{limit: time.Nanosecond},
		in: func(t *testing.T) {
			for i := 0; ; i++ { // it is busy, and not quiet
				t.Log(i)
				<-time.After(time.Millisecond)
			}
		},
		want: []string{"the time that the tests have is over", "SIGQUIT", "vmtest.init.func", "--- FAIL: TestTrouble"},
	},
	"dying kernel": {
		in: func(t *testing.T) {
			t.Run("kills", func(t *testing.T) { must(t, os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)) })
		},
		want: []string{"the machine died", "sysrq triggered crash", "--- FAIL: TestTrouble"},
	},
	"hanging machine": {
		machine: Machine{Silence: 6 * time.Second},
		in: func(t *testing.T) {
			port, err := os.OpenFile("/dev/ttyS1", os.O_RDWR, 0)
			must(t, err)
			must(t, unix.IoctlSetInt(int(port.Fd()), unix.TCXONC, unix.TCOOFF)) // from now on nothing leaves it
			waitsForEver()
		},
		want: []string{"the machine hangs", "console of the guest", "--- FAIL: TestTrouble"},
	},
	"missing module": {
		machine: Machine{Modules: []string{"perpetuum_mobile"}},
		in:      func(*testing.T) {},
		want:    []string{"has no module perpetuum_mobile"},
	},
}

// waitsForEver waits where the Go runtime does not see that nothing will come.
func waitsForEver() { _ = unix.Pause() }

// TestTrouble makes the trouble that it is asked for.
func TestTrouble(t *testing.T) {
	name := os.Getenv(troubleEnv)
	if name == "" {
		return
	}
	trouble := troubles[name]
	trouble.machine.Env = append(trouble.machine.Env, troubleEnv+"="+name)
	Run(t, trouble.machine, trouble.in)
}

// What goes wrong in a guest is a failure here that says what went wrong.
func TestTroubleIsReported(t *testing.T) {
	t.Parallel()
	Need(t)
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"-test.run=^TestTrouble$", "-test.timeout=5m"}, trouble.args...)
			cmd := exec.Command("/proc/self/exe", args...)
			// The skipped test is to be skipped, in CI too.
			cmd.Env = append(os.Environ(), troubleEnv+"="+name, "CI=")
			out, err := cmd.CombinedOutput()
			t.Logf("%v\n%s", err, out)
			if err == nil {
				t.Error("it passed")
			}
			for _, w := range trouble.want {
				if !strings.Contains(string(out), w) {
					t.Errorf("its output lacks %s", strconv.Quote(w))
				}
			}
			for _, n := range trouble.never {
				if strings.Contains(string(out), n) {
					t.Errorf("its output has %s", strconv.Quote(n))
				}
			}
		})
	}
}
