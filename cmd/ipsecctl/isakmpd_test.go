package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

// named is a sample with names for both of its ends.
func named(t *testing.T, sample, own, peer string) string {
	t.Helper()
	b, err := os.ReadFile("../../samples/" + sample + ".conf")
	must(t, err)
	conf := strings.Replace(string(b), "\nAuthentication=", "\nID= own-name\nRemote-ID= peer-name\nAuthentication=", 1)
	return conf + "\n[own-name]\nID-type= FQDN\nName= " + own + "\n\n[peer-name]\nID-type= FQDN\nName= " + peer + "\n"
}

// What two isakmpd agree on is printed as ipsec.conf(5) has it, at the socket
// where everybody looks, and who watches sees how it comes and goes.
func TestWhatWasNegotiated(t *testing.T) {
	lab.Need(t, "root", "tun")
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	ctl := func(args ...string) lab.Command {
		return lab.Command{Path: program(t), Args: args, Private: []string{lab.RunDir()}}
	}
	prints := func(args ...string) string {
		t.Helper()
		out, err := n.Ragweed.RunCommand(patience, ctl(args...))
		must(t, err)
		return out
	}
	stack, err := lab.Build("oakley/cmd/ipsecd")
	must(t, err)
	daemon, err := n.Ragweed.Start(lab.Command{Path: stack, Private: []string{lab.RunDir()}})
	must(t, err)
	if _, err := daemon.Log.Wait("ipsecd is ready", patience); err != nil {
		t.Fatal(err)
	}
	watcher, err := n.Ragweed.Start(ctl("-m"))
	must(t, err)
	lab.Eventually(t, patience, "it watches", func() bool {
		prints("-F") // of nothing
		return strings.Contains(watcher.Log.String(), "flush all SAs and flows (pid ")
	})
	// One side begins, and traffic waits for the other: else both may negotiate, and
	// there are two pairs of SAs for a while.
	waits := strings.Replace(named(t, "west", "west.example", "east.example"), "\nConnections=", "\nPassive-connections=", 1)
	west, err := interop.StartIsakmpd(n.Slippery, t.TempDir(), waits, "--data-plane=ipsecd")
	must(t, err)
	east, err := interop.StartIsakmpd(n.Ragweed, t.TempDir(), named(t, "east", "east.example", "west.example"), "--data-plane=ipsecd")
	must(t, err)
	if _, err := west.Log.Wait(`phase 2 \(quick mode\) done`, patience); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Dandelion.Ping(n.V4.Icy, 3, 15*time.Second); err != nil {
		t.Fatal(err)
	}

	spi := regexp.MustCompile(`spi 0x[0-9a-f]{8} `)
	if got, want := spi.ReplaceAllString(prints("-s", "all"), "spi 0x... "), `FLOWS:
flow esp in from 10.2.0.0/24 to 10.1.0.0/24 peer 198.51.100.2 srcid east.example dstid west.example type require
flow esp out from 10.1.0.0/24 to 10.2.0.0/24 peer 198.51.100.2 srcid east.example dstid west.example type require

SAD:
esp tunnel from 198.51.100.2 to 192.0.2.2 spi 0x... enc aes-128-gcm
esp tunnel from 192.0.2.2 to 198.51.100.2 spi 0x... enc aes-128-gcm
`; got != want {
		t.Errorf("ipsecctl -s all prints\n%s\nwant\n%s", got, want)
	}
	verbose := prints("-v", "-s", "sa")
	for _, want := range []string{
		"\tidentities:     srcid east.example dstid west.example\n", "\tconnection:     east-west\n", "\tmade by:        isakmpd\n",
		"\thard lifetime:  20m0s", "\tsequence:       ", "\treplay window:  ",
	} {
		if !strings.Contains(verbose, want) {
			t.Errorf("no %q in\n%s", want, verbose)
		}
	}
	if keys := prints("-k", "-s", "sa"); !regexp.MustCompile(`enc aes-128-gcm \\\n\tenckey 0x[0-9a-f]{40}\n`).MatchString(keys) {
		t.Errorf("a key of 128 bits and 32 of salt are missing in\n%s", keys)
	}
	if table := prints("-s", "encap"); strings.Contains(table, "/00000000/") || strings.Count(table, "198.51.100.2/") != 2 {
		t.Errorf("the flows have no SAs in\n%s", table)
	}

	must(t, east.End())
	if got, want := prints("-s", "all"), "FLOWS:\nNo flows\n\nSAD:\nNo entries\n"; got != want {
		t.Errorf("after isakmpd there is\n%s", got)
	}
	must(t, west.End())
	for _, want := range []string{
		` addflow flow esp in from 10\.2\.0\.0/24 to 10\.1\.0\.0/24 peer 198\.51\.100\.2 .* \(pid \d+\)$`,
		` getspi in esp to 192\.0\.2\.2 spi 0x[0-9a-f]{8} \(pid \d+\)$`,
		` add in esp tunnel from 198\.51\.100\.2 to 192\.0\.2\.2 spi 0x[0-9a-f]{8} enc aes-128-gcm \(pid \d+\)$`,
		` add out esp tunnel from 192\.0\.2\.2 to 198\.51\.100\.2 spi 0x[0-9a-f]{8} enc aes-128-gcm \(pid \d+\)$`,
		` delete out esp to 198\.51\.100\.2 spi 0x[0-9a-f]{8} \(pid \d+\)$`,
		` flush SAs and flows made by isakmpd \(pid \d+\)$`,
	} {
		if _, err := watcher.Log.Wait(want, patience); err != nil {
			t.Errorf("%v\n%s", err, watcher.Log)
		}
	}
	must(t, watcher.Stop(patience))
	must(t, daemon.Stop(patience))
}
