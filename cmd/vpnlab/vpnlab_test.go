package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBuilds()
	os.Exit(code)
}

func show(t *testing.T, o options) (string, error) {
	t.Helper()
	var b strings.Builder
	err := demonstrate(context.Background(), &screen{w: &b, start: time.Now()}, o)
	return b.String(), err
}

func TestTheDemonstrationWorks(t *testing.T) {
	lab.Need(t, "root", "tun")
	if _, err := lab.Build("oakley/cmd/ipsecd"); err != nil {
		t.Fatal(err)
	}
	isakmpd, err := lab.Build("oakley/cmd/isakmpd")
	if err != nil {
		t.Fatal(err)
	}
	for _, nat := range []bool{false, true} {
		t.Run(fmt.Sprintf("NAT %v", nat), func(t *testing.T) {
			pcap := filepath.Join(t.TempDir(), "spy.pcap")
			out, err := show(t, options{isakmpd: isakmpd, plane: "ipsecd", nat: nat, pcap: pcap, jobSize: 10 << 20})
			t.Log(out)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				"Ragweed   phase 1", "Slippery  phase 1", "Ragweed   phase 2", "Slippery  phase 2",
				"first answer", "the same; 10.0 MB", "no inner address", "Ragweed is as it was", "Slippery is as it was",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q", want)
				}
			}
			if strings.Contains(out, "\x1b") {
				t.Error("colour where there is no terminal")
			}
			if st, err := os.Stat(pcap); err != nil || st.Size() < 10<<20 {
				t.Errorf("the recording: %v %v", st, err)
			}
		})
	}
}

func TestAFailedStepIsAFailure(t *testing.T) {
	lab.Need(t, "root")
	broken := filepath.Join(t.TempDir(), "isakmpd")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho 'no mood today' >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := show(t, options{isakmpd: broken, jobSize: 1})
	if err == nil || !strings.Contains(out, "ended with status 3") || !strings.Contains(out, "no mood today") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := show(t, options{isakmpd: filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("without the program: %v", err)
	}
}

func TestLogLinesAreCutToTheirMessage(t *testing.T) {
	for line, want := range map[string]string{
		`2026-11-21 01:02:03.004 info: phase 1 done with peer X, 3DES event=phase1-up peer=X`: "phase 1 done with peer X, 3DES",
		`2026-11-21 01:02:03.004 notice: listening on 192.0.2.2:500 event="a b"`:              "listening on 192.0.2.2:500",
		`as it is`: "as it is",
	} {
		if got := message(line); got != want {
			t.Errorf("%q: %q", line, got)
		}
	}
	if got := wrap("one two three four", 9); got != "one two\nthree\nfour" {
		t.Errorf("wrapped: %q", got)
	}
	if got := section("a\nSAs: 2\nx\n  y\n\nFlows: 1\n", "SAs: "); got != "SAs: 2\nx\n  y" {
		t.Errorf("section: %q", got)
	}
}

// TestTheFilesAreTheHowTos compares them with what the how-to prints, section by
// section in its order.
func TestTheFilesAreTheHowTos(t *testing.T) {
	lab.Need(t, "root")
	net, err := lab.New(t).HowTo(lab.HowToOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		g    gateway
		want []string
	}{
		{ragweed(net), []string{"[General]", "[Phase 1]", "[Phase 2]", "[Slippery]", "[Ragweed-Slippery]", "[NET-Badplants]", "[NET-Carefull]", "[Default-main-mode]", "[Default-quick-mode]"}},
		{slippery(net), []string{"[General]", "[Phase 1]", "[Phase 2]", "[Ragweed]", "[Slippery-Ragweed]", "[NET-Badplants]", "[NET-Carefull]", "[Default-main-mode]", "[Default-quick-mode]"}},
	} {
		var got []string
		for line := range strings.Lines(c.g.conf("/isakmpd.policy")) {
			if strings.HasPrefix(line, "[") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s has %v", c.g.name, got)
		}
		if !strings.Contains(c.g.conf("/isakmpd.policy"), "Netmask= 255.255.255.0\n") {
			t.Errorf("%s has no netmask:\n%s", c.g.name, c.g.conf("/isakmpd.policy"))
		}
	}
}
