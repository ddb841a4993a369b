package icv

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"oakley/internal/ipsec"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func times(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

func count(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// jefe is the key of the second cases of RFC 4868.
func jefe(n int) []byte { return bytes.Repeat([]byte("Jefe"), n/4) }

var vectors = []struct {
	source    string
	auth      ipsec.Auth
	key, data []byte
	icv       string
}{
	{"RFC 2202 section 2, case 1", ipsec.AuthHMACMD5, times(16, 0x0b), []byte("Hi There"), "9294727a3638bb1c13f48ef8"},
	{"RFC 2202 section 2, case 3", ipsec.AuthHMACMD5, times(16, 0xaa), times(50, 0xdd), "56be34521d144c88dbb8c733"},
	{"RFC 2202 section 3, case 1", ipsec.AuthHMACSHA1, times(20, 0x0b), []byte("Hi There"), "b617318655057264e28bc0b6"},
	{"RFC 2202 section 3, case 3", ipsec.AuthHMACSHA1, times(20, 0xaa), times(50, 0xdd), "125d7342b9ac11cd91a39af4"},
	{"RFC 2286 section 2, case 1", ipsec.AuthHMACRIPEMD160, times(20, 0x0b), []byte("Hi There"), "24cb4bd67d20fc1a5d2ed773"},
	{"RFC 2286 section 2, case 3", ipsec.AuthHMACRIPEMD160, times(20, 0xaa), times(50, 0xdd), "b0b105360de759960ab4f352"},
	{"RFC 4868 AUTH256-1", ipsec.AuthHMACSHA256, times(32, 0x0b), []byte("Hi There"), "198a607eb44bfbc69903a0f1cf2bbdc5"},
	{"RFC 4868 AUTH256-2", ipsec.AuthHMACSHA256, jefe(32), []byte("what do ya want for nothing?"), "167f928588c5cc2eef8e3093caa0e87c"},
	{"RFC 4868 AUTH256-3", ipsec.AuthHMACSHA256, times(32, 0xaa), times(50, 0xdd), "cdcb1220d1ecccea91e53aba3092f962"},
	{"RFC 4868 AUTH384-1", ipsec.AuthHMACSHA384, times(48, 0x0b), []byte("Hi There"), "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"},
	{"RFC 4868 AUTH384-2", ipsec.AuthHMACSHA384, jefe(48), []byte("what do ya want for nothing?"), "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d"},
	{"RFC 4868 AUTH512-1", ipsec.AuthHMACSHA512, times(64, 0x0b), []byte("Hi There"), "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"},
	{"RFC 4868 AUTH512-2", ipsec.AuthHMACSHA512, jefe(64), []byte("what do ya want for nothing?"), "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454"},
	{"RFC 3566 case 1", ipsec.AuthAESXCBC, count(16), nil, "75f0251d528ac01c4573dfd5"},
	{"RFC 3566 case 2", ipsec.AuthAESXCBC, count(16), count(3), "5b376580ae2f19afe7219cee"},
	{"RFC 3566 case 3", ipsec.AuthAESXCBC, count(16), count(16), "d2a246fa349b68a79998a439"},
	{"RFC 3566 case 4", ipsec.AuthAESXCBC, count(16), count(20), "47f51b4564966215b8985c63"},
	{"RFC 3566 case 5", ipsec.AuthAESXCBC, count(16), count(32), "f54f0ec8d2b9f3d36807734b"},
	{"RFC 3566 case 6", ipsec.AuthAESXCBC, count(16), count(34), "becbb3bccdb518a30677d548"},
	{"RFC 3566 case 7", ipsec.AuthAESXCBC, count(16), make([]byte, 1000), "f0dafee895db30253761103b"},
}

// Every vector, with its data cut into three parts at every place.
func TestVectors(t *testing.T) {
	for _, v := range vectors {
		m, err := New(v.auth, v.key)
		if err != nil {
			t.Fatalf("%s: %v", v.source, err)
		}
		want := unhex(v.icv)
		if m.Len() != len(want) || v.auth.Info().ICV != len(want) {
			t.Errorf("%s: an ICV of %d bytes", v.source, m.Len())
		}
		d := v.data
		for i := 0; i <= len(d) && i < 70; i++ {
			for j := i; j <= len(d) && j < 70; j += 7 {
				got := make([]byte, m.Len()+1)
				m.Sum(got, d[:i], d[i:j], d[j:])
				if !bytes.Equal(got[:m.Len()], want) || got[m.Len()] != 0 {
					t.Fatalf("%s cut at %d and %d: %x, want %x", v.source, i, j, got, want)
				}
				if !m.Verify(want, d[:i], d[i:j], d[j:]) {
					t.Fatalf("%s cut at %d and %d: not verified", v.source, i, j)
				}
			}
		}
		for i := range want {
			want[i] ^= 1
			if m.Verify(want, d, nil, nil) {
				t.Errorf("%s: byte %d of the ICV does not count", v.source, i)
			}
			want[i] ^= 1
		}
		if m.Verify(want[:len(want)-1], d, nil, nil) || m.Verify(nil, d, nil, nil) {
			t.Errorf("%s: a short ICV is taken", v.source)
		}
	}
}

func TestEveryAlgorithmHasAVector(t *testing.T) {
	for _, a := range Auths() {
		found := false
		for _, v := range vectors {
			found = found || v.auth == a
		}
		if !found {
			t.Errorf("%s has none", a)
		}
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		auth ipsec.Auth
		key  int
		want string
	}{
		{ipsec.AuthHMACMD5, 15, "HMAC-MD5 takes a key of 16 bytes, this one has 15"},
		{ipsec.AuthHMACSHA512, 65, "takes a key of 64 bytes, this one has 65"},
		{ipsec.AuthAESXCBC, 0, "AES-XCBC takes a key of 16 bytes"},
		{ipsec.AuthNone, 0, "not available here; take one of HMAC-MD5,"},
		{ipsec.AuthAESGMAC, 16, "not available here"},
		{200, 0, "not available here"},
	} {
		if _, err := New(c.auth, make([]byte, c.key)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v with %d bytes: %v, want %q", c.auth, c.key, err, c.want)
		}
	}
}

// TestAllocations: a packet costs none.
func TestAllocations(t *testing.T) {
	data, out := make([]byte, 1400), make([]byte, maxSize)
	for _, a := range Auths() {
		m, err := New(a, make([]byte, a.Info().Key))
		if err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(50, func() {
			m.Sum(out, data, data[:4], nil)
			m.Verify(out[:m.Len()], data, data[:4], nil)
		})
		if n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", a, n)
		}
	}
}

func BenchmarkSum(b *testing.B) {
	data, out := make([]byte, 1400), make([]byte, maxSize)
	for _, a := range Auths() {
		b.Run(a.String(), func(b *testing.B) {
			m, err := New(a, make([]byte, a.Info().Key))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				m.Sum(out, data, nil, nil)
			}
		})
	}
}
