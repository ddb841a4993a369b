package oakley

import (
	"bytes"
	"testing"

	"oakley/internal/doi"
)

func TestRoundTrip(t *testing.T) {
	for c := range ciphers {
		for h := range hashes {
			s := Suite{Cipher: c, Hash: h}
			k, err := Derive(s, SKEYIDPreShared(h, []byte("key"), []byte("ni"), []byte("nr")), []byte("gxy"), [8]byte{1}, [8]byte{2})
			if err != nil {
				t.Fatal(err)
			}
			iv := k.IV([]byte("gxi"), []byte("gxr"))
			ct, next := k.Encrypt(iv, []byte("some payloads of a message"))
			plain, next2, err := k.Decrypt(iv, ct)
			if err != nil || !bytes.Equal(next, next2) || !bytes.HasPrefix(plain, []byte("some payloads of a message")) {
				t.Fatalf("%v: %q %v", s, plain, err)
			}
			if len(k.KeyMat(nil, doi.ProtoESP, []byte{1, 2, 3, 4}, nil, nil, 100)) != 100 {
				t.Fatal("keymat")
			}
		}
	}
}
