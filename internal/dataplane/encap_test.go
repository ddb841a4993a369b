package dataplane_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"oakley/internal/dataplane"
)

var (
	peer    = netip.MustParseAddrPort("192.0.2.9:4500")
	here    = netip.MustParseAddrPort("192.0.2.1:4500")
	another = netip.MustParseAddrPort("192.0.2.2:4500")
	any4    = netip.MustParseAddrPort("0.0.0.0:4500")
	any6    = netip.MustParseAddrPort("[::]:4500")
	peer6   = netip.MustParseAddrPort("[2001:db8::9]:4500")
	here6   = netip.MustParseAddrPort("[2001:db8::1]:4500")
)

func opened(t *testing.T, table *dataplane.EncapTable, local netip.AddrPort) (c dataplane.IKEConn, sent *[]string) {
	t.Helper()
	sent = new([]string)
	c, err := table.Open(local, func(b []byte, local, remote netip.AddrPort) error {
		*sent = append(*sent, local.String()+" "+remote.String()+" "+string(b))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, sent
}

// TestEncapReaders: a datagram is its address's reader's, else that of all
// addresses of its family.
func TestEncapReaders(t *testing.T) {
	var table dataplane.EncapTable
	one, _ := opened(t, &table, here)
	all, _ := opened(t, &table, any4)
	six, _ := opened(t, &table, any6)
	if _, err := table.Open(here, nil); !errors.Is(err, dataplane.ErrExists) {
		t.Errorf("a second reader: %v", err)
	}
	for _, x := range []struct {
		local, remote netip.AddrPort
		reader        dataplane.IKEConn
	}{{here, peer, one}, {another, peer, all}, {here6, peer6, six}} {
		b := []byte("to " + x.local.String())
		if !table.Deliver(b, x.remote, x.local) {
			t.Errorf("%s: lost", b)
		}
		want := string(b)
		clear(b) // the caller's again
		buf := make([]byte, 100)
		n, remote, local, err := x.reader.ReadFrom(buf)
		if err != nil || string(buf[:n]) != want || remote != x.remote || local != x.local {
			t.Errorf("%s: %q from %s to %s, %v", x.local, buf[:n], remote, local, err)
		}
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	table.Deliver([]byte("next"), peer, here)
	buf := make([]byte, 100)
	if n, _, _, err := all.ReadFrom(buf); err != nil || string(buf[:n]) != "next" {
		t.Errorf("after the end of an address's reader: %q, %v", buf[:n], err)
	}
	opened(t, &table, here)
	if err := one.Close(); err != nil { // again, and not its successor
		t.Error(err)
	}
	if _, err := table.Open(here, nil); !errors.Is(err, dataplane.ErrExists) {
		t.Errorf("the successor went with the first: %v", err)
	}
}

// TestEncapFull: nobody who does not read keeps more than a bounded number of
// datagrams.
func TestEncapFull(t *testing.T) {
	var table dataplane.EncapTable
	if !table.Deliver([]byte("x"), peer, here) {
		t.Error("a datagram for nobody counts as one that somebody lost")
	}
	c, _ := opened(t, &table, here)
	kept := 0
	for table.Deliver([]byte("x"), peer, here) {
		if kept++; kept > 100_000 {
			t.Fatal("no end")
		}
	}
	buf := make([]byte, 10)
	if _, _, _, err := c.ReadFrom(buf); err != nil {
		t.Error(err)
	}
	if !table.Deliver([]byte("x"), peer, here) {
		t.Error("no room after one was read")
	}
}

func TestEncapWrites(t *testing.T) {
	var table dataplane.EncapTable
	c, sent := opened(t, &table, here)
	for range 2 {
		if err := errors.Join(c.WriteTo([]byte("IKE"), here, peer), c.Keepalive(here, peer)); err != nil {
			t.Error(err)
		}
	}
	to := here.String() + " " + peer.String() + " "
	for i, want := range []string{"\x00\x00\x00\x00IKE", "\xff", "\x00\x00\x00\x00IKE", "\xff"} {
		if (*sent)[i] != to+want {
			t.Errorf("sent %q, not %q", (*sent)[i], to+want)
		}
	}
	if c.LocalAddr() != here {
		t.Error(c.LocalAddr())
	}
}

// TestEncapEnds: a read ends with its connection and with the table, and what is
// closed neither writes nor opens.
func TestEncapEnds(t *testing.T) {
	for name, end := range map[string]func(*dataplane.EncapTable, dataplane.IKEConn){
		"connection": func(_ *dataplane.EncapTable, c dataplane.IKEConn) { _ = c.Close() },
		"table":      func(table *dataplane.EncapTable, _ dataplane.IKEConn) { table.Close() },
	} {
		var table dataplane.EncapTable
		c, sent := opened(t, &table, here)
		ended := make(chan error)
		go func() {
			_, _, _, err := c.ReadFrom(make([]byte, 10))
			ended <- err
		}()
		end(&table, c)
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the read ends with %v", name, err)
		}
		if err := c.WriteTo([]byte("x"), here, peer); !errors.Is(err, net.ErrClosed) || len(*sent) != 0 {
			t.Errorf("%s: a write is %v, sent %q", name, err, *sent)
		}
		if _, err := table.Open(here, nil); name == "table" && !errors.Is(err, dataplane.ErrClosed) {
			t.Errorf("a closed table opens: %v", err)
		}
	}
}
