package iketest

import (
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
)

// TestTranscripts holds whole sessions against what they were.
func TestTranscripts(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup Setup
		play  func(g *Gateways)
	}{
		{"main-and-quick", Setup{Suites: []ike.Suite{ESP(doi.ESP3DES, 0, doi.AuthHMACSHA1, 0)}, Phase1: []ike.Phase1Transform{Phase1(doi.Cipher3DES, 0, doi.HashSHA1, doi.GroupMODP1024)}}, func(g *Gateways) {
			g.Connect()
		}},
		{"several-proposals-pfs-ipv6", Setup{
			V6:     true,
			Phase1: []ike.Phase1Transform{Phase1(doi.CipherAES, 256, doi.HashSHA2256, doi.GroupECP256), AES},
			Suites: []ike.Suite{PFSESP, ESP(doi.ESPAESGCM16, 128, 0, doi.GroupCurve25519)},
		}, func(g *Gateways) {
			g.Connect()
		}},
		{"both-start", Setup{Active: true}, func(g *Gateways) {
			g.West.Start()
			g.East.Start()
			g.Run(2 * time.Minute)
		}},
		{"lost-third-message", Setup{}, func(g *Gateways) {
			g.Tap = func(p *Packet) []Delivery {
				if s := g.Observer().Of(p.Data); s.Exchange == doi.ExchangeQuick && s.Step == 3 && s.Repeat == 0 {
					return nil
				}
				return Pass(p)
			}
			g.Connect()
		}},
		{"nobody-answers", Setup{}, func(g *Gateways) {
			g.East.Kill()
			g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
			g.Run(time.Minute)
		}},
		{"restart-and-shutdown", Setup{}, func(g *Gateways) {
			g.Connect()
			g.West.Restart()
			g.Connect()
			g.East.Handle(ike.Shutdown{})
			g.Run(500 * time.Millisecond)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.setup.Seed = 7
			g := NewGateways(t, c.setup)
			g.Transcript = true
			c.play(g)
			golden(t, "transcripts.txtar", c.name, g.Lines())
		})
	}
}
