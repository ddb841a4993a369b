package main

import (
	"io"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"oakley/internal/daemon"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/dataplane/xfrm"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// What the flags say is what the kernel's plane is given.
func TestFlagsReachTheKernel(t *testing.T) {
	f, err := parseFlags([]string{
		"--plane", "kernel", "-6", "-N", "4501", "--listen", "2001:db8::1", "--journal", "/var/lib/x", "--hold", "--hash", "24/16",
		"--hash6", "64/128", "--mark", "7", "--out-mark", "0x10/0xff",
	}, io.Discard)
	must(t, err)
	want := xfrm.Options{
		NoIPv4: true, EncapPort: 4501, Local: []netip.Addr{netip.MustParseAddr("2001:db8::1")}, Journal: "/var/lib/x", Hold: true,
		Thresholds4: &wire.Thresholds{Local: 24, Remote: 16}, Thresholds6: &wire.Thresholds{Local: 64, Remote: 128},
		Mark: &wire.Mark{Value: 7, Mask: 1<<32 - 1}, OutMark: &wire.Mark{Value: 0x10, Mask: 0xff},
	}
	if f.kind != kernel || !reflect.DeepEqual(f.kernel, want) {
		t.Errorf("%s %+v\nwant %+v", f.kind, f.kernel, want)
	}
	f, err = parseFlags(nil, io.Discard)
	must(t, err)
	if f.kind != own || !reflect.DeepEqual(f.kernel, xfrm.Options{EncapPort: 4500, Journal: xfrm.DefaultJournal}) {
		t.Errorf("without flags: %s %+v", f.kind, f.kernel)
	}
}

// Each plane has the flags that it has.
func TestFlagsOfTheOtherPlane(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"--plane kernel --mtu 1300 --df copy", "--mtu, --df: that is for --plane user, and this is --plane kernel"},
		{"--plane kernel --spread", "--spread: that is for --plane user"},
		{"--hold", "--hold: that is for --plane kernel, and this is --plane user"},
		{"--mark 1", "--mark: that is for --plane kernel"},
		{"--plane auto --hold --mtu 1300", ""},
		{"--plane mine", "user, kernel, auto"},
		{"--plane kernel --mark 0x100/0xff", "not in its mask 0xff"},
		{"--plane kernel --mark 4294967296", "32 bits"},
		{"--plane kernel --hash 24", "two prefixes"},
		{"--plane kernel --hash 33/24", "up to 32 bits"},
		{"--plane kernel --hash6 128/129", "up to 128 bits"},
	} {
		_, err := parseFlags(strings.Fields(c.args), io.Discard)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v\nwant %q", c.args, err, c.says)
		}
	}
	set := (&flags{}).set()
	for name := range belongs {
		if set.Lookup(name) == nil {
			t.Errorf("--%s belongs to a plane, and is no flag", name)
		}
	}
}

// auto is the kernel where it can protect, and says why.
func TestChoosing(t *testing.T) {
	able := &xfrm.Abilities{Kernel: "6.1", Protos: []ipsec.Proto{ipsec.ProtoESP}}
	for _, c := range []struct {
		args string
		can  *xfrm.Abilities
		err  error
		want kind
		says string // in the log, or the error
	}{
		{"", nil, nil, own, ""},
		{"--plane auto", able, nil, kernel, "this kernel has ESP"},
		{"--plane auto --mtu 1300", able, nil, kernel, "--mtu"},
		{"--plane auto --hold", &xfrm.Abilities{}, nil, own, "modules esp4 and esp6"},
		{"--plane auto", nil, unix.EPROTONOSUPPORT, own, "protocol not supported"},
		{"--plane kernel", able, nil, kernel, ""},
		{"--plane kernel", &xfrm.Abilities{}, nil, -1, "has no ESP"},
		{"--plane kernel", nil, unix.EPERM, -1, "not permitted"},
	} {
		f, err := parseFlags(strings.Fields(c.args), io.Discard)
		must(t, err)
		var said strings.Builder
		got, err := choose(f, func() (*xfrm.Abilities, error) { return c.can, c.err }, daemon.NewLog(daemon.NewText(&said)))
		if err != nil {
			got = -1
			said.WriteString(err.Error())
		}
		if got != c.want || !strings.Contains(said.String(), c.says) || c.says == "" && said.Len() > 0 {
			t.Errorf("%q: %d, want %d, and it says %q", c.args, got, c.want, &said)
		}
		if got == kernel && f.kernel.Abilities != c.can {
			t.Errorf("%q: the kernel is asked twice", c.args)
		}
	}
	if f, err := parseFlags([]string{"--plane", "auto"}, io.Discard); err != nil || f.own.MTU != userspace.DefaultMTU {
		t.Errorf("%v", err)
	}
}
