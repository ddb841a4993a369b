package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
)

// oakley is a subject: the data plane of this project, a process for each
// gateway, keyed by hand so that nothing but traffic is measured.
type oakley struct {
	suite string
	udp   bool
}

// suites are the algorithms that can be measured.
var suites = map[string]struct {
	cipher ipsec.Cipher
	auth   ipsec.Auth
}{
	"aes-128-gcm":      {ipsec.CipherAESGCM16, ipsec.AuthNone},
	"aes-128-cbc-sha1": {ipsec.CipherAESCBC, ipsec.AuthHMACSHA1},
	"3des-sha1":        {ipsec.Cipher3DES, ipsec.AuthHMACSHA1},
}

func (o oakley) transport() string {
	if o.udp {
		return "udp"
	}
	return "raw"
}

func (o oakley) name() string { return fmt.Sprintf("oakley %s %s", o.suite, o.transport()) }

func (o oakley) start(n *network) (pids [2]int, err error) {
	for i, h := range n.gateway {
		p, err := n.self(h, "plane", o.suite, o.transport(), fmt.Sprint(i))
		if err != nil {
			return pids, err
		}
		if _, err := p.Log.Wait("ready", 10*time.Second); err != nil {
			return pids, fmt.Errorf("the data plane did not start: %w\n%s", err, p.Log)
		}
		pids[i] = p.Pid()
	}
	return pids, nil
}

// runPlane is gateway number me until it is killed.
func runPlane(suite, transport string, me int) error {
	algs, ok := suites[suite]
	if !ok || me < 0 || me > 1 {
		return fmt.Errorf("plane %s %s %d: no such suite or gateway", suite, transport, me)
	}
	p, err := userspace.New(userspace.Options{})
	if err != nil {
		return err
	}
	defer p.Close()
	ctx := context.Background()
	peer := 1 - me
	out := ipsec.Flow{
		ID: "bench/out", Dir: ipsec.Out, Selector: ipsec.Selector{Src: lan[me], Dst: lan[peer]},
		Local: wan[me], Remote: wan[peer], Proto: ipsec.ProtoESP, Owner: ipsec.OwnerManual,
	}
	in := out
	in.ID, in.Dir, in.Selector = "bench/in", ipsec.In, out.Selector.Reverse()
	if err := p.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: out}, {Flow: in}}); err != nil {
		return err
	}
	sa := func(from int, flow ipsec.Flow) *ipsec.SA {
		to := 1 - from
		sa := &ipsec.SA{
			ID: ipsec.SAID{Dir: flow.Dir, Proto: ipsec.ProtoESP, SPI: ipsec.SPI(0x1000 + from), Dst: wan[to]}, Src: wan[from],
			Cipher: algs.cipher, Key: testKey(algs.cipher.Info().DefKey), Salt: testKey(algs.cipher.Info().Salt),
			Auth: algs.auth, AuthKey: testKey(algs.auth.Info().Key), Replay: 64,
			Selector: flow.Selector, Flow: flow.ID, Owner: ipsec.OwnerManual,
		}
		if transport == "udp" {
			sa.Encap = &ipsec.Encap{Local: netip.AddrPortFrom(wan[me], 4500), Remote: netip.AddrPortFrom(wan[peer], 4500)}
			if flow.Dir == ipsec.Out {
				sa.ID.Port = 4500
			}
		}
		return sa
	}
	if err := errors.Join(p.AddSA(ctx, sa(peer, in)), p.AddSA(ctx, sa(me, out))); err != nil {
		return err
	}
	stop, err := startProfile(me)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Println("ready")
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGTERM, unix.SIGINT)
	<-end
	return nil
}

// profileDir names a folder for processor profiles of the gateways, by
// environment: "go tool pprof -top gateway0.pprof" reads them.
const profileDir = "VPNBENCH_PROFILE"

func startProfile(me int) (stop func(), err error) {
	dir := os.Getenv(profileDir)
	if dir == "" {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("gateway%d.pprof", me)))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

// testKey is no secret: the network lives for a measurement.
func testKey(n int) []byte {
	k := make([]byte, n)
	for i := range k {
		k[i] = byte(37*i + 11)
	}
	return k
}
