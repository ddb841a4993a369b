package captures

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"oakley/internal/ipsec"
)

var keep = flag.String("keep", "", "folder in which the capture and its keys are left")

// cipherNames are what tshark 4.0 can decipher, by its names. What is not here it
// does not know.
var cipherNames = map[ipsec.Cipher]string{
	ipsec.CipherNull:     "NULL",
	ipsec.CipherDES:      "DES-CBC [RFC2405]",
	ipsec.Cipher3DES:     "TripleDES-CBC [RFC2451]",
	ipsec.CipherBlowfish: "BLOWFISH-CBC [RFC2451]",
	ipsec.CipherCAST:     "CAST5-CBC [RFC2144]",
	ipsec.CipherAESCBC:   "AES-CBC [RFC3602]",
	ipsec.CipherAESCTR:   "AES-CTR [RFC3686]",
	ipsec.CipherAESGCM8:  "AES-GCM with 8 octet ICV [RFC4106]",
	ipsec.CipherAESGCM12: "AES-GCM with 12 octet ICV [RFC4106]",
	ipsec.CipherAESGCM16: "AES-GCM with 16 octet ICV [RFC4106]",
}

// unchecked is the hash whose length tshark knows, and no more.
const unchecked = ipsec.AuthAESXCBC

// authNames are tshark's names.
var authNames = map[ipsec.Auth]string{
	ipsec.AuthNone:          "NULL",
	ipsec.AuthHMACMD5:       "HMAC-MD5-96 [RFC2403]",
	ipsec.AuthHMACSHA1:      "HMAC-SHA-1-96 [RFC2404]",
	ipsec.AuthHMACRIPEMD160: "MAC-RIPEMD-160-96 [RFC2857]",
	ipsec.AuthHMACSHA256:    "HMAC-SHA-256-128 [RFC4868]",
	ipsec.AuthHMACSHA384:    "HMAC-SHA-384-192 [RFC4868]",
	ipsec.AuthHMACSHA512:    "HMAC-SHA-512-256 [RFC4868]",
	unchecked:               "ANY 96 bit authentication [no checking]",
}

// keyLine is a line of tshark's table of SAs; empty for one that it has no use
// for.
func keyLine(sa *ipsec.SA) string {
	cipher, ok := cipherNames[sa.Cipher]
	if sa.ID.Proto != ipsec.ProtoESP || !ok {
		return ""
	}
	family := "IPv4"
	if sa.ID.Dst.Is6() {
		family = "IPv6"
	}
	hex := func(parts ...[]byte) string {
		if key := bytes.Join(parts, nil); len(key) > 0 {
			return fmt.Sprintf("0x%x", key)
		}
		return ""
	}
	return fmt.Sprintf("%q,\"*\",\"*\",\"0x%s\",%q,%q,%q,%q\n",
		family, sa.ID.SPI, cipher, hex(sa.Key, sa.Salt), authNames[sa.Auth], hex(sa.AuthKey))
}

// fields are what tshark is asked for, of every frame.
var fields = []string{
	"frame.protocols", "_ws.malformed", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "ip.dsfield", "ipv6.tclass",
	"ip.checksum.status", "udp.checksum.status", "tcp.checksum.status",
	"udp.srcport", "udp.dstport", "udp.payload", "tcp.srcport", "tcp.dstport", "tcp.payload", "tcp.seq_raw",
	"esp.spi", "esp.sequence", "esp.icv_good", "esp.icv_bad", "esp.protocol", "esp.pad",
	"ah.spi", "ah.sequence", "ah.next_header", "ah.icv", "ipcomp.cpi", "ipcomp.next_header",
}

// frame is what tshark saw in a packet: all values of a field, outermost first.
type frame map[string][]string

// last is the innermost value of a field.
func (f frame) last(field string) string {
	if v := f[field]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// inspect gives packets and keys to tshark, in files in dir, and returns what it
// made of each.
func inspect(t *testing.T, packets [][]byte, keys, dir string) []frame {
	t.Helper()
	file := filepath.Join(dir, "captures.pcap")
	write := func(name string, content []byte) {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, pcap(t, packets))
	write(filepath.Join(dir, "esp_sa"), []byte(keys))
	write(filepath.Join(dir, "preferences"), []byte(strings.Join([]string{
		"esp.enable_encryption_decode: TRUE", "esp.enable_authentication_check: TRUE",
		"ip.check_checksum: TRUE", "udp.check_checksum: TRUE", "tcp.check_checksum: TRUE", "",
	}, "\n")))
	args := []string{"-n", "-r", file, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	cmd.Env = append(os.Environ(), "WIRESHARK_CONFIG_DIR="+dir)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, errs.String())
	}
	if strings.Contains(errs.String(), "esp_sa") {
		t.Fatalf("tshark does not take its table of SAs:\n%s", errs.String())
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(packets) {
		t.Fatalf("tshark saw %d frames of %d:\n%s", len(lines), len(packets), errs.String())
	}
	var all []frame
	for _, line := range lines {
		f := frame{}
		for i, v := range strings.Split(line, "\t") {
			if v != "" {
				f[fields[i]] = strings.Split(v, "|")
			}
		}
		all = append(all, f)
	}
	return all
}

// pcap is a capture file of IP packets, a millisecond apart.
func pcap(t *testing.T, packets [][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	err := w.WriteFileHeader(65535, layers.LinkTypeRaw)
	start := time.Unix(1_000_000_000, 0)
	for i, pkt := range packets {
		if err == nil {
			at := start.Add(time.Duration(i) * time.Millisecond)
			err = w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(pkt), Length: len(pkt)}, pkt)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
