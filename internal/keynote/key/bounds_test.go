package key

import (
	"crypto/dsa" //lint:ignore SA1019 RFC 2792 has DSA, and credentials that are in use are signed with it
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// written is a principal of integers.
func written(t testing.TB, name string, is ...*big.Int) string {
	t.Helper()
	der, err := asn1.Marshal(is)
	must(t, err)
	return name + "-hex:" + hex.EncodeToString(der)
}

func n(i int64) *big.Int { return big.NewInt(i) }

// odd is the least odd number of so many bits.
func odd(bits uint) *big.Int {
	return new(big.Int).SetBit(new(big.Int).Lsh(n(1), bits-1), 0, 1)
}

func TestRSAKeysAreBounded(t *testing.T) {
	for _, c := range []struct {
		key, want string
	}{
		{written(t, "rsa", odd(1024), n(3)), ""},
		{written(t, "rsa", odd(512), n(65537)), ""}, // a name, if no signer
		{written(t, "rsa", odd(MaxModulus), n(1<<31-1)), ""},
		{written(t, "rsa", odd(MaxModulus+1), n(3)), "16385 bits; 16384 are the most"},
		{written(t, "rsa", odd(1024), n(1<<31+1)), "a public exponent of 32 bits"},
		{written(t, "rsa", odd(1024), odd(1023)), "a public exponent of 1023 bits"},
		{written(t, "rsa", odd(1024), n(1)), "public exponent 1;"},
		{written(t, "rsa", odd(1024), n(0)), "public exponent 0;"},
		{written(t, "rsa", odd(1024), n(4)), "public exponent 4;"},
		{written(t, "rsa", new(big.Int).Lsh(n(1), 1023), n(3)), "this one is even"},
		{written(t, "rsa", n(0), n(0)), "this one is even"},
		{written(t, "rsa", n(3), n(3)), "not greater than its exponent"},
		{written(t, "rsa", new(big.Int).Neg(odd(1024)), n(3)), "negative"},
		{written(t, "rsa", odd(1024)), "1 INTEGERs instead of 2"},
		{written(t, "rsa", odd(1024), n(3), n(3)), "3 INTEGERs instead of 2"},
		{written(t, "rsa", odd(1024), n(3)) + "00", "1 bytes follow"},
		{"rsa-hex:" + strings.Repeat("0", MaxText+2), "65536 are the most"},
		{"rsa-hex:", "no ASN.1 SEQUENCE"},
		{"rsa-hex:30030201", "its end is cut off"},
		{"rsa-hex:3084ffffffff", "its end is cut off"},
	} {
		_, err := Canonical(c.key)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: %v, not %q", c.key, err, c.want)
		}
	}
}

func TestDSAKeysAreBounded(t *testing.T) {
	d := private(t, "dsa.pem").(*dsa.PrivateKey)
	good := []*big.Int{d.Y, d.P, d.Q, d.G}
	with := func(at int, x *big.Int) string {
		is := slices.Clone(good)
		is[at] = x
		return written(t, "dsa", is...)
	}
	for _, c := range []struct {
		key, want string
	}{
		{written(t, "dsa", good...), ""},
		{with(0, n(1)), "not between 1 and p"},
		{with(0, n(0)), "not between 1 and p"},
		{with(0, d.P), "not between 1 and p"},
		{with(3, n(1)), "not between 1 and p"},
		{with(3, odd(5000)), "not between 1 and p"},
		{with(1, odd(MaxPrime+1)), "p of 4097 bits; 4096 are the most"},
		{with(1, new(big.Int).Add(d.P, n(1))), "even"},
		{with(1, new(big.Int).Add(d.P, n(2))), "q does not divide p - 1"},
		{with(2, new(big.Int).Add(d.Q, n(1))), "even"},
		{with(2, odd(1024)), "q of 1024 bits"},
		{with(2, n(0)), "q of 0 bits"},
		{with(1, n(1)), "q does not divide p - 1"},
		{with(0, n(-5)), "negative"},
		{written(t, "dsa", d.P, d.Q, d.G, d.Y), "q of"},
		{written(t, "dsa", d.Y), "1 INTEGERs instead of 4"},
	} {
		_, err := Canonical(c.key)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: %v, not %q", c.key, err, c.want)
		}
	}
}

// A key of 512 bits, as OpenBSD's sources have one in their tests, is a name that
// can be compared; what it signs counts for nothing.
func TestShortKeysNameAndDoNotSign(t *testing.T) {
	const short = "dsa-hex:3081de02402ae5e2d8c12fbaec4934dd5a98cbe39159" +
		"f1b8d02143a5e3d07c96c0acedef73d508a54286bb19b53cd2b7" +
		"bd0beca47b12ec75ddd7a7aeece8b724fbf940ca220241008cfe" +
		"2799793dc5eef44cc78228d2a42e76246326e6f442d7c14eb705" +
		"3e48d49a001350177e7d320d762d87f10ecbeceffb12b359e4c0" +
		"f827e05b34ef336823710215008773db9f8a9d42e7ad53c023d1" +
		"61dda43ae081a9024069f506a956d69c8a0a2ab6d6a888f57dd0" +
		"6593f537135b6d3c2bc928634f7e5e03b12c9fbac7ce4a6ce708" +
		"b63bdcda576e5eeecfb68930a5c3ca8df71d84fd0e"
	if got := canonical(t, short); got != short {
		t.Errorf("its canonical form is %s", got)
	}
	err := Verify(short, "sig-dsa-sha1-hex:3006020101020101", under(t, "sig-dsa-sha1-hex"))
	if err == nil || !strings.Contains(err.Error(), "a DSA key of 512 bits count for nothing") {
		t.Errorf("it verifies: %v", err)
	}
	err = Verify(written(t, "rsa", odd(1023), n(3)), "sig-rsa-sha1-hex:00", under(t, "sig-rsa-sha1-hex"))
	if err == nil || !strings.Contains(err.Error(), "an RSA key of 1023 bits") {
		t.Errorf("it verifies: %v", err)
	}
}

func TestPrivateKeysAreNoPrincipals(t *testing.T) {
	text, err := EncodePrivate("rsa-hex", private(t, "rsa.pem"))
	must(t, err)
	for _, p := range []string{text, strings.ToUpper(text[:20]) + text[20:]} {
		_, err := Canonical(p)
		if !errors.Is(err, ErrPrivate) || strings.Contains(err.Error(), text[16:40]) {
			t.Errorf("%v", err)
		}
	}
}

// Every beginning of a key or signature is read without a panic and is no key.
func TestNoBeginningOfAKeyIsAKey(t *testing.T) {
	for _, whole := range []string{
		principals(t)["rsa"],
		principals(t)["dsa"],
		"x509-hex:" + hex.EncodeToString(storedPEM(t, "rsa-cert.pem")),
		"x509-hex:" + hex.EncodeToString(storedPEM(t, "ec-cert.pem")),
		canonical(t, "x509-hex:"+hex.EncodeToString(storedPEM(t, "ec-cert.pem"))),
	} {
		must(t, func() error { _, err := Canonical(whole); return err }())
		for i := strings.Index(whole, ":") + 1; i < len(whole); i++ {
			if c, err := Canonical(whole[:i]); err == nil {
				t.Fatalf("%d of %d characters are %s", i, len(whole), c)
			}
		}
	}
	keys := principals(t)
	for _, s := range signatures(t) {
		for i := range len(s[1]) {
			if Verify(keys[s[0]], s[1][:i], under(t, s[1][:i])) == nil {
				t.Fatalf("%d of %d characters verify", i, len(s[1]))
			}
		}
	}
}
