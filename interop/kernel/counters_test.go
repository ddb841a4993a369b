package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

// report is what our daemon says about its SAs and what it has dropped.
func report(t *testing.T, d *interop.Isakmpd) {
	t.Helper()
	must(t, d.Signal(syscall.SIGUSR1))
	var text []byte
	ok := lab.Until(5*time.Second, func() (ok bool) {
		text, _ = d.ReadFile(filepath.Join(lab.RunDir(), "isakmpd.report"))
		return len(text) > 0
	})
	if !ok {
		t.Error("isakmpd writes no report")
	}
	t.Logf("isakmpd says:\n%s", text)
}

// dropped tells what the kernels of the hosts have dropped, and why; it is for
// reading when packets were lost.
func dropped(t *testing.T, hosts ...*lab.Host) {
	t.Helper()
	for _, h := range hosts {
		var b strings.Builder
		err := h.Do(func() error {
			for _, name := range []string{"/proc/thread-self/net/xfrm_stat", "/proc/thread-self/net/snmp"} {
				text, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				b.Write(text)
			}
			return nil
		})
		if err != nil {
			t.Errorf("counters of %s: %v", h, err)
		}
		for line := range strings.Lines(b.String()) {
			fields := strings.Fields(line)
			if strings.HasPrefix(line, "Xfrm") && len(fields) == 2 && fields[1] != "0" || strings.HasPrefix(line, "Ip:") || strings.HasPrefix(line, "Udp:") {
				t.Logf("%s: %s", h, strings.TrimSpace(line))
			}
		}
	}
}
