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
	seen := inspect(t, n.capture(t), keys.String())
	for _, tr := range all {
		t.Run(tr.String(), func(t *testing.T) {
			for i, at := range tr.frames {
				tr.check(t, seen[at], i)
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
	want, open := tr.shape()
	if open {
		want = append(want, p.transport())
	}
	tr.checkHeaders(t, f, i)
	if got := strings.Join(f["frame.protocols"], ""); got != strings.Join(want, ":") && !strings.HasPrefix(got, strings.Join(want, ":")+":") {
		t.Errorf("layers %s, want %s", got, strings.Join(want, ":"))
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
	equal(p.transport()+".srcport", strconv.Itoa(fromPort))
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
			if checked(s) {
				add("esp.icv_good", "1")
				add("esp.icv_bad", "0")
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
	outer := ipName(tr.outer6)
	for field, addr := range map[string]netip.Addr{outer + ".src": tr.sas[0].Src, outer + ".dst": tr.sas[0].ID.Dst} {
		if len(f[field]) == 0 || f[field][0] != addr.String() {
			t.Errorf("outer %s is %v, want %s", field, f[field], addr)
		}
	}
}

// checked tells whether tshark checks the ICV of such an SA.
func checked(s step) bool {
	_, known := cipherNames[s.cipher]
	return known && s.auth != ipsec.AuthAESXCBC
}
