package ipsecadm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// fake is a data plane that keeps what it is told, and refuses what a test wants
// refused.
type fake struct {
	dataplane.Backend // what no test needs
	sas               []ipsec.SAState
	flows             []ipsec.Flow
	refuse            func(call string) error
	kernel            bool
	lacks             []string
}

func (f *fake) may(format string, args ...any) error {
	if f.refuse == nil {
		return nil
	}
	return f.refuse(fmt.Sprintf(format, args...))
}

func (f *fake) at(id ipsec.SAID) int {
	return slices.IndexFunc(f.sas, func(s ipsec.SAState) bool { return s.SA.ID == id })
}

func (f *fake) Info() dataplane.Info {
	return dataplane.Info{Name: "fake", Detail: "a fake", Protos: []ipsec.Proto{ipsec.ProtoESP, ipsec.ProtoAH}, Kernel: f.kernel, Lacks: f.lacks}
}

func (f *fake) Enable(context.Context, ipsec.Proto, bool) error { return f.may("enable") }

func (f *fake) AddSA(_ context.Context, sa *ipsec.SA) error {
	if f.at(sa.ID) >= 0 {
		return dataplane.ErrExists
	}
	if err := f.may("add %s %s", sa.Mode, sa.ID); err != nil {
		return err
	}
	f.sas = append(f.sas, ipsec.SAState{SA: *sa})
	return nil
}

func (f *fake) DeleteSA(_ context.Context, id ipsec.SAID) error {
	i := f.at(id)
	if i < 0 {
		return dataplane.ErrNoSA
	}
	if err := f.may("delete %s", id); err != nil {
		return err
	}
	f.sas = slices.Delete(f.sas, i, i+1)
	return nil
}

func (f *fake) UpdateSA(_ context.Context, id ipsec.SAID, u ipsec.SAUpdate) error {
	if err := f.may("update %s %d", id, u.Bundle.Index); err != nil {
		return err
	}
	f.sas[f.at(id)].SA.Bundle = *u.Bundle
	return nil
}

func (f *fake) ApplyFlows(_ context.Context, changes []ipsec.FlowChange) error {
	for _, c := range changes {
		if c.Remove {
			f.flows = slices.DeleteFunc(f.flows, func(o ipsec.Flow) bool { return o.ID == c.Flow.ID })
		} else {
			f.flows = append(f.flows, c.Flow)
		}
	}
	return f.may("flows")
}

func (f *fake) Dump(_ context.Context, q dataplane.Query) (dataplane.State, error) {
	st := dataplane.State{SAs: slices.Clone(f.sas), Flows: slices.Clone(f.flows), Off: []ipsec.Proto{ipsec.ProtoAH}}
	for i := range st.SAs {
		if !q.Keys {
			st.SAs[i].SA.Key, st.SAs[i].SA.AuthKey = nil, nil
		}
	}
	return st, f.may("dump")
}

func (f *fake) Flush(context.Context, ipsec.Owner) error {
	f.sas, f.flows = nil, nil
	return f.may("flush")
}

// desk is a person at a host whose address is east's.
type desk struct {
	t       *testing.T
	plane   *fake
	out     bytes.Buffer
	notices []string
}

func sit(t *testing.T) *desk { return &desk{t: t, plane: &fake{}} }

func (d *desk) try(line string) error {
	c, _, err := parse(line)
	if err != nil {
		d.t.Fatalf("%s: %v", line, err)
	}
	r := &Runner{
		Backend: d.plane, Local: func(a netip.Addr) bool { return a == east }, Out: &d.out,
		Notice: func(text string) { d.notices = append(d.notices, text) },
	}
	return r.Run(d.t.Context(), c)
}

func (d *desk) do(lines ...string) {
	d.t.Helper()
	for _, line := range lines {
		if err := d.try(line); err != nil {
			d.t.Fatalf("%s: %v", line, err)
		}
	}
}

const (
	outSA  = "new esp -src 192.0.2.1 -dst 192.0.2.2 -spi 1001 -enc aes -keyfile /k/aes -auth sha1 -authkeyfile /k/sha1 "
	inSA   = "new esp -src 192.0.2.2 -dst 192.0.2.1 -spi 1002 -enc aes -keyfile /k/aes -auth sha1 -authkeyfile /k/sha1 "
	outNet = "flow -src 192.0.2.1 -dst 192.0.2.2 -addr 10.1.0.0/16 10.2.0.0/16 -out"
	inNet  = "flow -src 192.0.2.1 -dst 192.0.2.2 -addr 10.2.0.0/16 10.1.0.0/16 -in"
	outEnd = "flow -addr 192.0.2.1/32 192.0.2.2/32 -transport tcp"
	inEnd  = "flow -addr 192.0.2.2/32 192.0.2.1/32 -transport tcp -in"
)

func TestSAsAreThoseOfThisHost(t *testing.T) {
	d := sit(t)
	d.do(outSA+"-srcid us -dstid them", inSA+"-srcid them -dstid us", strings.ReplaceAll(outSA, "1001", "1003")+"-udpencap 4501", strings.ReplaceAll(inSA, "1002", "1004")+"-udpencap 4501")
	for i, s := range d.plane.sas {
		sa := &s.SA
		dir, far := ipsec.Out, west
		if i%2 == 1 {
			dir, far = ipsec.In, east
		}
		if sa.ID.Dir != dir || sa.ID.Dst != far || sa.Owner != ipsec.OwnerManual || sa.Replay != 0 || sa.Flow != "" || sa.Hard != (ipsec.Lifetime{}) || sa.Mode != ipsec.Transport {
			t.Errorf("%+v", sa)
		}
		if i < 2 && (sa.LocalID != "us" || sa.RemoteID != "them" || sa.Encap != nil || sa.ID.Port != 0) {
			t.Errorf("%+v", sa)
		}
		if want := (ipsec.Encap{Local: netip.AddrPortFrom(east, 4500), Remote: netip.AddrPortFrom(west, 4501)}); i >= 2 && (sa.Encap == nil || *sa.Encap != want) {
			t.Errorf("%+v, want %+v", sa.Encap, want)
		}
	}
	if d.plane.sas[2].SA.ID.Port != 4501 || d.plane.sas[3].SA.ID.Port != 0 {
		t.Error("a port belongs to the name of an outgoing SA alone")
	}
	if err := d.try("ip4 -src 192.0.2.8 -dst 192.0.2.9 -spi 1001"); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("%v", err)
	}
	d.do("ipcomp -src 192.0.2.1 -dst 192.0.2.2 -cpi 2")
	if c := d.plane.sas[4].SA; c.Comp != ipsec.CompDeflate {
		t.Errorf("%+v", c)
	}
}

// TestNetworksMakeTunnels in whatever order SAs and flows are made.
func TestNetworksMakeTunnels(t *testing.T) {
	all := prefix("0.0.0.0/0")
	for _, lines := range [][]string{
		{outSA, inSA, outNet, inNet},
		{outNet, inNet, outSA, inSA},
		{outSA, outNet, inNet, inSA},
		{outSA + "-forcetunnel", inSA + "-forcetunnel", outEnd, inEnd},
		{outEnd, outSA, inEnd, inSA, outNet, inNet},
	} {
		d := sit(t)
		d.do(lines...)
		for _, s := range d.plane.sas {
			if s.SA.Mode != ipsec.Tunnel || s.SA.Selector != (ipsec.Selector{Src: all, Dst: all}) || len(s.SA.Key) != 16 || len(s.SA.AuthKey) != 20 {
				t.Errorf("%v: %+v", lines, s.SA)
			}
		}
		if len(d.plane.sas) != 2 {
			t.Errorf("%v: %d SAs", lines, len(d.plane.sas))
		}
	}
	for _, lines := range [][]string{
		{outSA, inSA, outEnd, inEnd},
		{outEnd, inEnd, outSA, inSA},
		{outSA, inSA, "flow -deny -addr 10.1.0.0/16 10.2.0.0/16", outNet + " -proto ah", "flow -dst 192.0.2.7 -addr 10.1.0.0/16 10.2.0.0/16"},
	} {
		d := sit(t)
		d.do(lines...)
		for _, s := range d.plane.sas {
			if s.SA.Mode != ipsec.Transport || s.SA.Selector != (ipsec.Selector{Src: host(s.SA.Src), Dst: host(s.SA.ID.Dst)}) {
				t.Errorf("%v: %+v", lines, s.SA)
			}
		}
		for _, f := range d.plane.flows {
			if f.Selector.Dst.IsSingleIP() != (f.Mode == ipsec.Transport) && f.Type == ipsec.FlowRequire {
				t.Errorf("%v: flow %+v", lines, f)
			}
		}
	}
}

func TestFlowsKeepWhatProxySays(t *testing.T) {
	d := sit(t)
	d.do(inSA+"-proxy 10.2.0.9", inNet)
	want := ipsec.Selector{Src: prefix("10.2.0.9/32"), Dst: prefix("0.0.0.0/0")}
	if sa := d.plane.sas[0].SA; sa.Mode != ipsec.Tunnel || sa.Selector != want {
		t.Errorf("%+v", sa)
	}
	d.do(outSA + "-proxy 10.2.0.9")
	if len(d.notices) != 1 || !strings.Contains(d.notices[0], "incoming") {
		t.Errorf("%v", d.notices)
	}
}

func TestAnSAThatCannotBecomeATunnelStays(t *testing.T) {
	d := sit(t)
	d.do(outSA)
	broken := errors.New("no tunnels today")
	d.plane.refuse = func(call string) error {
		if strings.HasPrefix(call, "add tunnel") {
			return broken
		}
		return nil
	}
	if err := d.try(outNet); !errors.Is(err, broken) || len(d.plane.sas) != 1 || d.plane.sas[0].SA.Mode != ipsec.Transport || len(d.plane.flows) != 0 {
		t.Errorf("%v\n%+v\n%+v", err, d.plane.sas, d.plane.flows)
	}
	d.plane.refuse = func(call string) error {
		if strings.HasPrefix(call, "add ") {
			return broken
		}
		return nil
	}
	if err := d.try(outNet); err == nil || !strings.Contains(err.Error(), "it is gone") {
		t.Errorf("%v", err)
	}
}

func TestTwoFamiliesInOneTunnel(t *testing.T) {
	d := sit(t)
	d.do(inSA+"-forcetunnel", "flow -in -dst 192.0.2.2 -addr fd00:2::/64 fd00:1::/64")
	if sa := d.plane.sas[0].SA; sa.Selector.Src != prefix("::/0") {
		t.Errorf("%+v", sa)
	}
	if err := d.try(inNet); err == nil || !strings.Contains(err.Error(), "two address families") || len(d.plane.flows) != 1 {
		t.Errorf("%v", err)
	}
}

func TestAGroupThatIsRefusedStaysAsItWas(t *testing.T) {
	d := sit(t)
	for spi := 0x1001; spi < 0x1004; spi++ {
		d.do(fmt.Sprintf("ip4 -src 192.0.2.1 -dst 192.0.2.2 -spi %x", spi))
	}
	two := func(x, y int) string {
		return fmt.Sprintf("group -proto ip4 -proto2 ip4 -dst 192.0.2.2 -dst2 192.0.2.2 -spi %x -spi2 %x", x, y)
	}
	d.do(two(0x1001, 0x1002))
	was := slices.Clone(d.plane.sas)
	d.plane.refuse = func(call string) error {
		if strings.HasSuffix(call, " 2") {
			return errors.New("no third today")
		}
		return nil
	}
	if err := d.try(two(0x1002, 0x1003)); err == nil || !strings.Contains(err.Error(), "no third today") {
		t.Errorf("%v", err)
	}
	for i := range was {
		if d.plane.sas[i].SA.Bundle != was[i].SA.Bundle {
			t.Errorf("%+v, was %+v", d.plane.sas[i].SA.Bundle, was[i].SA.Bundle)
		}
	}
	d.plane.refuse = nil
	d.do(two(0x1002, 0x1003))
	for i, s := range d.plane.sas {
		if s.SA.Bundle.Of != 3 || int(s.SA.Bundle.Index) != i || s.SA.Bundle.ID == was[0].SA.Bundle.ID {
			t.Errorf("%+v", s.SA.Bundle)
		}
	}
	d.plane.sas[0].SA.Owner = ipsec.OwnerIKE
	if err := d.try(two(0x1001, 0x1003)); err == nil || !strings.Contains(err.Error(), "isakmpd groups its own") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsIsakmpdsIsSaid(t *testing.T) {
	for _, line := range []string{"delspi -dst 192.0.2.2 -spi 1001", "flush", "flush -esp"} {
		d := sit(t)
		d.do(outSA)
		d.plane.sas[0].SA.Owner = ipsec.OwnerIKE
		d.do(line)
		if len(d.plane.sas) != 0 || len(d.notices) != 1 || !strings.Contains(d.notices[0], "isakmpd") {
			t.Errorf("%s: %v", line, d.notices)
		}
	}
	// By hand is meant when both have such an SA.
	d := sit(t)
	d.do(outSA + "-udpencap 4500")
	d.plane.sas[0].SA.Owner = ipsec.OwnerIKE
	d.do(outSA+"-udpencap 4501", "delspi -dst 192.0.2.2 -spi 1001")
	if len(d.plane.sas) != 1 || d.plane.sas[0].SA.Owner != ipsec.OwnerIKE {
		t.Errorf("%+v", d.plane.sas)
	}
}

func TestSwitchesOfThisDataPlane(t *testing.T) {
	d := sit(t)
	d.do("enable")
	if d.out.String() != "esp on\nah off\nip4 not in this data plane\nipcomp not in this data plane\n" {
		t.Errorf("%s", d.out.String())
	}
}

// TestBeyondTheDataPlane: what cannot be done is refused with what the data plane
// is and, where that is the kernel, what it lacks and who has it.
func TestBeyondTheDataPlane(t *testing.T) {
	for _, line := range []string{outSA, strings.ReplaceAll(outNet, "192.0.2.2", "192.0.2.9"), "enable ip4", "group -dst 192.0.2.2 -spi 1008 -dst2 192.0.2.2 -spi2 1009 -proto2 esp"} {
		d := sit(t)
		d.do(strings.ReplaceAll(outSA, "1001", "1008"), strings.ReplaceAll(outSA, "1001", "1009"))
		d.plane.refuse = func(call string) error {
			if call == "dump" {
				return nil
			}
			return fmt.Errorf("no such thing: %w", dataplane.ErrUnsupported)
		}
		err := d.try(line)
		if !errors.Is(err, dataplane.ErrUnsupported) || !strings.Contains(err.Error(), "the data plane is a fake") || strings.Contains(err.Error(), "kernel") {
			t.Errorf("%s: %v", line, err)
		}
		d.plane.kernel, d.plane.lacks = true, []string{"Skipjack (no module has it)", "DES (modules des_generic)"}
		err = d.try(line)
		if err == nil || !strings.Contains(err.Error(), "The kernel carries the traffic (a fake; it lacks Skipjack (no module has it), DES (modules des_generic)). ipsecd's own stack can do it") || !strings.Contains(err.Error(), `"ipsecd &"`) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// TestAFailingDataPlane is heard of, whatever is done.
func TestAFailingDataPlane(t *testing.T) {
	broken := errors.New("the plane is on fire")
	for _, line := range []string{outSA, outNet, outNet + " -delete", "delspi -dst 192.0.2.2 -spi 1009", "group -dst 192.0.2.2 -spi 1009 -dst2 192.0.2.2 -spi2 1002", "flush", "flush -esp", "show", "enable"} {
		d := sit(t)
		d.do(strings.ReplaceAll(outSA, "1001", "1009"))
		d.plane.refuse = func(string) error { return broken }
		if err := d.try(line); !errors.Is(err, broken) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestMonitorNeedsWhoCanBeWatched(t *testing.T) {
	if err := sit(t).try("monitor"); !errors.Is(err, dataplane.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}
