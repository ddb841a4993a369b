package captures

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// TestCaptures: what each mode and algorithm puts on the wire is what tshark
// takes it for.
func TestCaptures(t *testing.T) {
	lab.Need(t, "tshark")
	n := newNetwork(t)
	all := trials()
	var keys strings.Builder
	for i, tr := range all {
		t.Run("traffic of "+tr.String(), func(t *testing.T) { tr.run(t, n, i) })
		for _, sa := range tr.sas {
			keys.WriteString(keyLine(sa))
		}
	}
	if t.Failed() {
		return
	}
	dir := *keep
	if dir == "" {
		dir = t.TempDir()
	}
	seen := inspect(t, n.capture(t), keys.String(), dir)
	for _, tr := range all {
		t.Run(tr.String(), func(t *testing.T) {
			for i, at := range tr.frames {
				tr.check(t, seen[at], i)
				tr.checkICV(t, seen[at], n.frames[at])
				if t.Failed() {
					t.Fatalf("frame %d: %v\n%x", at+1, seen[at], n.frames[at])
				}
			}
		})
	}
}

// check compares what tshark saw with the i-th packet of a trial.
func (tr *trial) check(t *testing.T, f frame, i int) {
	p := tr.packets[i]
	names, open := tr.shape()
	if open {
		names = append(names, p.transport(), "data")
	}
	tr.checkHeaders(t, f, i)
	if got, want := f.last("frame.protocols"), strings.Join(names, ":"); got != want {
		t.Errorf("layers %s, want %s", got, want)
	}
	if !open {
		return
	}
	equal := func(field, want string) {
		t.Helper()
		if got := f.last(field); got != want {
			t.Errorf("inner %s is %q, want %q", field, got, want)
		}
	}
	ip := ipName(tr.inner6)
	equal(ip+".src", p.src.String())
	equal(ip+".dst", p.dst.String())
	equal(p.transport()+".srcport", strconv.Itoa(p.port()))
	equal(p.transport()+".dstport", strconv.Itoa(toPort))
	equal(p.transport()+".payload", hex.EncodeToString([]byte(p.payload)))
	if p.tcp {
		equal("tcp.seq_raw", strconv.Itoa(int(p.number)))
	}
	if f["_ws.malformed"] != nil {
		t.Error("tshark calls it malformed")
	}
	for _, proto := range []string{"ip", "udp", "tcp"} {
		if slices.Contains(f[proto+".checksum.status"], "0") {
			t.Errorf("a wrong checksum of %s: %v", proto, f[proto+".checksum.status"])
		}
	}
}

// checkHeaders looks at the headers of the SAs, outermost first, as far as they
// can be seen.
func (tr *trial) checkHeaders(t *testing.T, f frame, i int) {
	want := map[string][]string{}
	add := func(field, value string) { want[field] = append(want[field], value) }
	for k := len(tr.stack) - 1; k >= 0; k-- {
		s, sa := tr.stack[k], tr.sas[k]
		switch s.proto {
		case ipsec.ProtoESP:
			add("esp.spi", "0x"+sa.ID.SPI.String())
			add("esp.sequence", strconv.Itoa(i+1))
			if _, known := cipherNames[s.cipher]; known {
				v := verdictOf(s)
				add("esp.icv_good", v.good)
				add("esp.icv_bad", v.bad)
			}
		case ipsec.ProtoAH:
			add("ah.spi", "0x"+sa.ID.SPI.String())
			add("ah.sequence", strconv.Itoa(i+1))
		case ipsec.ProtoIPComp:
			add("ipcomp.cpi", fmt.Sprintf("0x%04x", uint32(sa.ID.SPI)))
		}
		if _, known := cipherNames[s.cipher]; s.proto == ipsec.ProtoESP && !known {
			break
		}
	}
	for _, field := range []string{"esp.spi", "esp.sequence", "esp.icv_good", "esp.icv_bad", "ah.spi", "ah.sequence", "ipcomp.cpi"} {
		if !slices.Equal(f[field], want[field]) {
			t.Errorf("%s is %v, want %v", field, f[field], want[field])
		}
	}
	sa := tr.sas[len(tr.sas)-1]
	// Outer headers take the class of the inner one (RFC 6040 section 4.1).
	for _, class := range append(f["ip.dsfield"], f["ipv6.tclass"]...) {
		if v, err := strconv.ParseUint(class, 0, 8); err != nil || uint8(v) != tr.packets[i].tos {
			t.Errorf("a class of %s, want 0x%02x in every IP header", class, tr.packets[i].tos)
		}
	}
	for _, pad := range f["esp.pad"] {
		for k, b := range unhex(t, pad) {
			if int(b) != k+1 {
				t.Errorf("padding %s, want 01 02 03 ... (RFC 4303 section 2.4)", pad)
				break
			}
		}
	}
	outer := ipName(sa.ID.Dst.Is6())
	for field, addr := range map[string]netip.Addr{outer + ".src": sa.Src, outer + ".dst": sa.ID.Dst} {
		if len(f[field]) == 0 || f[field][0] != addr.String() {
			t.Errorf("outer %s is %v, want %s", field, f[field], addr)
		}
	}
}

// verdict is what tshark says about the ICV of ESP.
type verdict struct{ good, bad string }

// verdictOf is right for most. Of XCBC it says nothing, and of extended sequence
// numbers it does not know: their high half, which is not sent, goes into the ICV
// (RFC 4303 section 2.2.1).
func verdictOf(s step) verdict {
	switch {
	case s.esn:
		return verdict{"0", "1"}
	case s.auth == unchecked:
		return verdict{"0", "0"}
	}
	return verdict{"1", "0"}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("tshark's bytes %q: %v", s, err)
	}
	return b
}

// TestAWrongKeyIsSeen: what TestCaptures demands is not there when tshark has
// another key, so it comes of the keys alone.
func TestAWrongKeyIsSeen(t *testing.T) {
	lab.Need(t, "tshark")
	n := newNetwork(t)
	tr := &trial{stack: []step{cbcT}}
	tr.run(t, n, 0)
	payload := hex.EncodeToString([]byte(tr.packets[0].payload))
	for _, c := range []struct {
		name       string
		spoil      func(sa *ipsec.SA)
		good, open bool
	}{
		{"right keys", func(sa *ipsec.SA) {}, true, true},
		{"another authentication key", func(sa *ipsec.SA) { sa.AuthKey = pattern(len(sa.AuthKey), 99) }, false, true},
		{"another cipher key", func(sa *ipsec.SA) { sa.Key = pattern(len(sa.Key), 99) }, true, false},
		{"another SPI", func(sa *ipsec.SA) { sa.ID.SPI++ }, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sa := *tr.sas[0]
			c.spoil(&sa)
			f := inspect(t, n.capture(t), keyLine(&sa), t.TempDir())[0]
			good, open := f.last("esp.icv_good") == "1", f.last("udp.payload") == payload
			if nonsense := f.last("_ws.malformed") != ""; nonsense && !c.open {
				good = c.good // what a wrong key makes of the packet may stop tshark before it tells
			}
			if good != c.good || open != c.open {
				t.Errorf("ICV good %t and payload seen %t, want %t and %t: %v", good, open, c.good, c.open, f)
			}
		})
	}
}
