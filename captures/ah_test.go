package captures

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"testing"

	//lint:ignore SA1019 RFC 2857 asks for it
	"golang.org/x/crypto/ripemd160"

	"oakley/internal/ipsec"
)

// hashOf are the hash functions of AH's HMACs. XCBC has no second program here
// to be compared with.
var hashOf = map[ipsec.Auth]func() hash.Hash{
	ipsec.AuthHMACMD5:       md5.New,
	ipsec.AuthHMACSHA1:      sha1.New,
	ipsec.AuthHMACRIPEMD160: ripemd160.New,
	ipsec.AuthHMACSHA256:    sha256.New,
	ipsec.AuthHMACSHA384:    sha512.New384,
	ipsec.AuthHMACSHA512:    sha512.New,
}

// checkICV proves the ICV of an outermost AH, which tshark finds and does not
// check: the HMAC of the whole packet, with zeros in place of what routers change
// and of the ICV itself (RFC 4302 section 3.3.3).
func (tr *trial) checkICV(t *testing.T, f frame, pkt []byte) {
	t.Helper()
	sa := tr.sas[len(tr.sas)-1]
	newHash := hashOf[sa.Auth]
	if sa.ID.Proto != ipsec.ProtoAH || newHash == nil || len(f["ah.icv"]) == 0 {
		return
	}
	muted := bytes.Clone(pkt)
	at := 20 + 12
	if muted[0]>>4 == 6 {
		at = 40 + 12
		muted[0], muted[1], muted[2], muted[3], muted[7] = 0x60, 0, 0, 0, 0
	} else {
		muted[1], muted[6], muted[7], muted[8], muted[10], muted[11] = 0, 0, 0, 0, 0, 0
	}
	size := sa.Auth.Info().ICV
	clear(muted[at:][:size])
	mac := hmac.New(newHash, sa.AuthKey)
	mac.Write(muted)
	if sa.ESN {
		mac.Write(make([]byte, 4)) // the high half of the number, which is not sent (section 3.3.3.2.1)
	}
	got := unhex(t, f["ah.icv"][0])
	if want := mac.Sum(nil)[:size]; len(got) < size || !bytes.Equal(got[:size], want) {
		t.Errorf("ICV of AH is %x, want %x", got, want)
	}
}
