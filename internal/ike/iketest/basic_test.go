package iketest

import (
	"fmt"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// TestTunnel brings one tunnel up in every kind of way.
func TestTunnel(t *testing.T) {
	t.Parallel()
	phase1 := []ike.Phase1Transform{
		Phase1(doi.CipherDES, 0, doi.HashMD5, doi.GroupMODP768),
		Phase1(doi.Cipher3DES, 0, doi.HashMD5, doi.GroupMODP1024),
		Phase1(doi.Cipher3DES, 0, doi.HashSHA1, doi.GroupMODP1024),
		Phase1(doi.CipherBlowfish, 128, doi.HashSHA1, doi.GroupMODP1024),
		Phase1(doi.CipherCAST, 0, doi.HashSHA1, doi.GroupMODP1536),
		Phase1(doi.CipherAES, 128, doi.HashSHA1, doi.GroupMODP2048),
		Phase1(doi.CipherAES, 192, doi.HashSHA2384, doi.GroupECP256),
		Phase1(doi.CipherAES, 256, doi.HashSHA2256, doi.GroupECP384),
		Phase1(doi.CipherAES, 256, doi.HashSHA2512, doi.GroupBP256),
		Phase1(doi.CipherAES, 128, doi.HashSHA2256, doi.GroupCurve25519),
	}
	phase2 := []ike.Suite{
		ESP(doi.ESPDES, 0, doi.AuthHMACMD5, 0),
		ESP(doi.ESP3DES, 0, doi.AuthHMACSHA1, 0),
		ESP(doi.ESPCAST, 0, doi.AuthHMACSHA1, 0),
		ESP(doi.ESPBlowfish, 128, doi.AuthHMACMD5, doi.GroupMODP1024),
		ESP(doi.ESPAES, 128, doi.AuthHMACSHA1, doi.GroupCurve25519),
		ESP(doi.ESPAES, 256, doi.AuthHMACSHA2256, doi.GroupECP256),
		ESP(doi.ESPAES, 192, doi.AuthHMACSHA2384, 0),
		ESP(doi.ESPAESGCM16, 128, 0, doi.GroupMODP1024),
		ESP(doi.ESPAESGCM16, 256, 0, 0),
		ESP(doi.ESPNull, 0, doi.AuthHMACSHA2512, 0),
	}
	for i := range phase1 {
		for _, v6 := range []bool{false, true} {
			p1, p2 := phase1[i], phase2[i]
			t.Run(fmt.Sprintf("%s/%s/v6=%t", p1.Name, p2.Name, v6), func(t *testing.T) {
				g := NewGateways(t, Setup{Seed: uint64(i), V6: v6, Phase1: []ike.Phase1Transform{p1}, Suites: []ike.Suite{p2}})
				begin := g.West
				if v6 {
					begin = g.East
				}
				begin.Initiate("vpn")
				g.MustUp(10 * time.Second)
				g.MustSettle()
				pfs := p2.Protocols[0].Transforms[0].Group
				for _, n := range []*Node{g.West, g.East} {
					up := Events[ike.Phase2Up](n)
					if len(up) != 1 || Count[ike.Phase1Up](n) != 1 || up[0].PFS != pfs {
						t.Errorf("%s", n.Said())
					}
					if Count[ike.Failed](n)+Count[ike.Dropped](n) > 0 {
						t.Errorf("%s", n.Said())
					}
				}
				dh := 2 // the initiator's
				if pfs != 0 {
					dh += 2
				}
				if got := begin.Requests["DiffieHellman"]; got != dh {
					t.Errorf("%d Diffie-Hellman requests, expected %d", got, dh)
				}
				if g.Sent() != 9 {
					t.Errorf("%d datagrams, main mode and quick mode are 9", g.Sent())
				}
				in, out := g.West.Plane.Live(ipsec.In)[0], g.West.OutSA()
				if string(in.Key) == string(out.Key) && len(in.Key) > 0 || string(in.AuthKey) == string(out.AuthKey) && len(in.AuthKey) > 0 {
					t.Error("both directions have the same keys")
				}
			})
		}
	}
}
