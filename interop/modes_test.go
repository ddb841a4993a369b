package interop

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

// espTransform and ahTransform are a protocol section each, called esp or ah,
// with one transform of tunnel mode.
func espTransform(tags string) string { return protocolSection("esp", "IPSEC_ESP", tags) }
func ahTransform(tags string) string  { return protocolSection("ah", "IPSEC_AH", tags) }

func protocolSection(name, id, tags string) string {
	return fmt.Sprintf("[%[1]s]\nPROTOCOL_ID= %[2]s\nTransforms= %[1]s-transform\n\n[%[1]s-transform]\n%[3]s\nLife= LIFE_QUICK_MODE\n\n", name, id, tags)
}

const esn = "\nEXTENDED_SEQUENCE_NUMBERS= yes"

// modeCase is a mode and the network in which it is tried.
type modeCase struct {
	Mode
	outer6, inner6, nat bool
	clear               bool // it encrypts nothing
	want                lab.Class
}

// modeCases are all the ways of protecting packets that have no test of their
// own.
func modeCases() []modeCase {
	mode := func(name, protocols string, sections ...string) Mode {
		return Mode{Name: name, Protocols: protocols, Sections: strings.Join(sections, "")}
	}
	hosts := func(name, protocols string, sections ...string) Mode {
		m := mode(name, protocols, sections...)
		m.Hosts = true
		return m
	}
	return []modeCase{
		{Mode: mode("AH", "QM-AH-SHA2-256"), clear: true, want: lab.AH},
		{Mode: mode("AH in IPv6", "QM-AH-SHA"), outer6: true, inner6: true, clear: true, want: lab.AH},
		{Mode: mode("AH, IPv4 in IPv6", "QM-AH-RIPEMD"), outer6: true, clear: true, want: lab.AH},
		{Mode: mode("AH with GMAC", "ah", ahTransform("TRANSFORM_ID= AES_256_GMAC")), clear: true, want: lab.AH},
		{Mode: mode("AH with XCBC and ESN", "ah", ahTransform("TRANSFORM_ID= AES_XCBC"+esn)), clear: true, want: lab.AH},
		{Mode: hosts("AH, transport", "QM-AH-TRP-SHA2-512"), clear: true, want: lab.AH},
		{Mode: hosts("AH, transport, IPv6", "QM-AH-TRP-MD5"), outer6: true, clear: true, want: lab.AH},
		{Mode: hosts("ESP, transport", "QM-ESP-TRP-AES-SHA2-256"), want: lab.ESP},
		{Mode: hosts("ESP, transport, IPv6", "QM-ESP-TRP-AESGCM-128"), outer6: true, want: lab.ESP},
		{Mode: hosts("ESP, transport, NAT", "QM-ESP-TRP-AES-SHA"), nat: true, want: lab.ESPinUDP},
		{Mode: mode("AH and ESP", "QM-AH-SHA,QM-ESP-AES-SHA"), want: lab.AH},
		{Mode: mode("AH and ESP that only encrypts", "QM-ESP-AES,QM-AH-SHA2-256"), want: lab.AH},
		{Mode: mode("AH and ESP, IPv6 in IPv4", "QM-AH-TRP-SHA,QM-ESP-3DES-MD5"), inner6: true, want: lab.AH},
		{Mode: hosts("AH and ESP, transport", "QM-AH-TRP-SHA,QM-ESP-TRP-AES-SHA"), want: lab.AH},
		{Mode: mode("IPComp and ESP", "QM-IPCOMP-DEFLATE,QM-ESP-AES-SHA"), want: lab.ESP},
		{Mode: mode("IPComp and ESP, NAT", "QM-IPCOMP-DEFLATE,QM-ESP-AESGCM-128"), nat: true, want: lab.ESPinUDP},
		{Mode: mode("IPComp and ESP, IPv6", "QM-IPCOMP-DEFLATE,QM-ESP-AES-SHA"), outer6: true, inner6: true, want: lab.ESP},
		{Mode: hosts("IPComp and ESP, transport", "QM-IPCOMP-TRP-DEFLATE,QM-ESP-TRP-AES-SHA"), want: lab.ESP},
		{Mode: mode("IPComp, ESP and AH", "QM-AH-SHA,QM-ESP-AES-SHA,QM-IPCOMP-DEFLATE"), want: lab.AH},
		{Mode: hosts("IPComp and ESP, transport, NAT", "QM-IPCOMP-TRP-DEFLATE,QM-ESP-TRP-AES-SHA"), nat: true, want: lab.ESPinUDP},
		{Mode: hosts("IPComp, ESP and AH, transport, IPv6", "QM-AH-TRP-SHA,QM-ESP-TRP-AES-SHA,QM-IPCOMP-TRP-DEFLATE"), outer6: true, want: lab.AH},
		{Mode: mode("ESN", "esp", espTransform("TRANSFORM_ID= AES_GCM_16\nKEY_LENGTH= 128"+esn)), want: lab.ESP},
		{Mode: mode("ESN with HMAC", "esp", espTransform("TRANSFORM_ID= AES\nAUTHENTICATION_ALGORITHM= HMAC_SHA2_256"+esn)), want: lab.ESP},
		{Mode: mode("ChaCha20-Poly1305", "esp", espTransform("TRANSFORM_ID= CHACHA20_POLY1305")), want: lab.ESP},
		{Mode: mode("Skipjack", "esp", espTransform("TRANSFORM_ID= SKIPJACK\nAUTHENTICATION_ALGORITHM= HMAC_RIPEMD")), want: lab.ESP},
		{Mode: mode("CAST, 80 bits", "esp", espTransform("TRANSFORM_ID= CAST\nKEY_LENGTH= 80\nAUTHENTICATION_ALGORITHM= HMAC_MD5")), want: lab.ESP},
		{Mode: mode("Blowfish, 448 bits", "esp", espTransform("TRANSFORM_ID= BLOWFISH\nKEY_LENGTH= 448\nAUTHENTICATION_ALGORITHM= HMAC_SHA")), want: lab.ESP},
		{Mode: mode("GMAC", "QM-ESP-AESGMAC-192"), clear: true, want: lab.ESP},
		{Mode: mode("CTR with XCBC", "esp", espTransform("TRANSFORM_ID= AES_CTR\nKEY_LENGTH= 192\nAUTHENTICATION_ALGORITHM= AES_XCBC_MAC")), want: lab.ESP},
	}
}

// TestModes has two isakmpd agree on each mode and carries pings, UDP and TCP
// both ways through a rekey, while the internet sees nothing but it.
func TestModes(t *testing.T) {
	for _, c := range modeCases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			tryMode(t, c)
		})
	}
}

func tryMode(t *testing.T, c modeCase) {
	lab.Need(t, "root", "tun")
	net, err := lab.New(t).HowTo(lab.HowToOptions{NAT: c.nat})
	must(t, err)
	spy, err := net.Spy(lab.SpyOptions{})
	if c.clear {
		spy, err = net.Internet.Spy("west", lab.SpyOptions{})
	}
	must(t, err)
	s := &site{HowTo: net, spy: spy}
	outer, inner := s.V4, s.V4
	if c.outer6 {
		outer = s.V6
	}
	if c.inner6 {
		inner = s.V6
	}
	ragweed, slippery := ends(outer, inner, Tunnel{P1: Phase1s[5], Mode: &c.Mode, Initiate: true, P2Life: 6 * time.Second})
	slippery.Initiate = false
	start, err := s.Ragweed.State()
	must(t, err)
	r, l := s.both(t, ragweed, slippery)
	_, err = r.Log.Wait(phase2Done, 15*time.Second)
	must(t, err)
	a, b, toA, toB := s.Dandelion, s.Icy, inner.Dandelion, inner.Icy
	if c.Hosts {
		a, b, toA, toB = s.Ragweed, s.Slippery, outer.RagweedSeen, outer.Slippery
	}
	_, err = a.Ping(toB, 10, 10*time.Second)
	must(t, err)
	_, err = b.Ping(toA, 10, 10*time.Second)
	must(t, err)
	echo, err := b.Echo(netip.AddrPortFrom(toB, 7777))
	must(t, err)
	defer echo.Close()
	job, err := a.Send(b, netip.AddrPortFrom(toB, 9100), 1<<20, 20*time.Second)
	must(t, err)
	if !job.Intact() {
		t.Errorf("TCP: sent %x, got %x", job.SentSum, job.GotSum)
	}
	// Not beside TCP, which fills queues until they drop something.
	stream, err := a.StartUDP(netip.AddrPortFrom(toB, 7777), 1000, 4*time.Millisecond)
	must(t, err)
	_, err = r.Log.WaitAfter(r.Log.Mark(), `phase 2 \(quick mode\) rekeyed`, 15*time.Second)
	must(t, err)
	must(t, stream.AwaitAnswers(100, 10*time.Second))
	if n := stream.Stop(2 * time.Second); n.Lost() != 0 || n.Duplicates != 0 {
		t.Errorf("UDP through a rekey: %v; lost %v", n, stream.Missing(10))
	}
	v := spy.Settle() // now: without a daemon, TCP's last words are in clear
	if err := v.Check(); err != nil {
		t.Error(err)
	}
	if v.Packets[lab.Other] != 0 || v.Packets[c.want] < 300 || v.Protected() != v.Packets[c.want] {
		t.Errorf("the spy saw %v, expected nothing but %s and IKE", v, c.want)
	}
	must(t, r.End())
	must(t, l.End())
	after, err := s.Ragweed.State()
	must(t, err)
	if d := start.Diff(after); d != "" {
		t.Errorf("left behind on Ragweed:\n%s", d)
	}
}
