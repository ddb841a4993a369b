package captures

import "oakley/internal/ipsec"

func espOf(mode ipsec.Mode, cipher ipsec.Cipher, auth ipsec.Auth, keyLen int) step {
	return step{proto: ipsec.ProtoESP, mode: mode, cipher: cipher, auth: auth, keyLen: keyLen}
}

var (
	espT  = espOf(ipsec.Tunnel, ipsec.CipherAESGCM16, ipsec.AuthNone, 0)
	espX  = espOf(ipsec.Transport, ipsec.CipherAESGCM16, ipsec.AuthNone, 0)
	cbcT  = espOf(ipsec.Tunnel, ipsec.CipherAESCBC, ipsec.AuthHMACSHA256, 0)
	cbcX  = espOf(ipsec.Transport, ipsec.CipherAESCBC, ipsec.AuthHMACSHA256, 0)
	ahT   = step{proto: ipsec.ProtoAH, mode: ipsec.Tunnel, auth: ipsec.AuthHMACSHA256}
	ahX   = step{proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA1}
	compT = step{proto: ipsec.ProtoIPComp, mode: ipsec.Tunnel}
	compX = step{proto: ipsec.ProtoIPComp, mode: ipsec.Transport}
	inIP  = step{proto: ipsec.ProtoIPIP, mode: ipsec.Tunnel}
)

func inUDP(s step) step { s.udp = true; return s }

func between(s step, e ends) step { s.ends = e; return s }

func withESN(s step) step { s.esn = true; return s }

func withCPI(s step, cpi ipsec.SPI) step { s.cpi = cpi; return s }

// stacks are the modes and what they are combined to.
var stacks = [][]step{
	{espT},
	{espX},
	{cbcT},
	{cbcX},
	{inUDP(espT)},
	{inUDP(espX)},
	{inUDP(cbcT)},
	{inUDP(cbcX)},
	{ahT},
	{ahX},
	{compT},
	{compX},
	{withCPI(compX, ipsec.CPIDeflate)},
	{inIP},
	{espX, ahX},
	{espT, ahX},
	{espT, ahT},
	{compT, espT},
	{compX, espX},
	{compX, cbcX},
	{compX, ahX},
	{compX, espX, ahX},
	{compT, espT, ahT},
	{compT, inUDP(espT)},
	{compX, inUDP(espX)},
	{inIP, espX},
	{inIP, ahX},
	{espT, espT},
	{ahT, espT},
	{espT, cbcT, ahT},
	{espT, between(cbcT, farEnds)},
	{espT, between(espT, otherIP)},
	{ahT, between(espT, farEnds)},
	{espT, between(ahT, otherIP)},
	{espT, between(inUDP(espT), farEnds)},
	{compT, espT, between(cbcT, farEnds), between(ahX, farEnds)},
	{cbcX, between(espT, farEnds)},
	{withESN(espT)},
	{withESN(espX)},
	{withESN(cbcT)},
	{withESN(inUDP(cbcX))},
	{withESN(ahT)},
	{withESN(ahX)},
}

// suites are the algorithms of ESP.
var suites = []step{
	{cipher: ipsec.CipherNull, auth: ipsec.AuthHMACSHA1},
	{cipher: ipsec.CipherDES, auth: ipsec.AuthHMACMD5},
	{cipher: ipsec.Cipher3DES, auth: ipsec.AuthHMACSHA1},
	{cipher: ipsec.CipherBlowfish, auth: ipsec.AuthHMACSHA1},
	{cipher: ipsec.CipherCAST, auth: ipsec.AuthHMACSHA1},
	{cipher: ipsec.CipherSkipjack, auth: ipsec.AuthHMACSHA1},
	{cipher: ipsec.CipherAESCBC, keyLen: 16, auth: ipsec.AuthHMACSHA1},
	{cipher: ipsec.CipherAESCBC, keyLen: 24, auth: ipsec.AuthHMACSHA256},
	{cipher: ipsec.CipherAESCBC, keyLen: 32, auth: ipsec.AuthHMACSHA512},
	{cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACMD5},
	{cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACRIPEMD160},
	{cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA384},
	{cipher: ipsec.CipherAESCBC, auth: ipsec.AuthAESXCBC},
	{cipher: ipsec.CipherAESCTR, keyLen: 16, auth: ipsec.AuthHMACSHA256},
	{cipher: ipsec.CipherAESCTR, keyLen: 24, auth: ipsec.AuthHMACSHA256},
	{cipher: ipsec.CipherAESCTR, keyLen: 32, auth: ipsec.AuthHMACSHA256},
	{cipher: ipsec.CipherAESGCM8, keyLen: 16},
	{cipher: ipsec.CipherAESGCM12, keyLen: 24},
	{cipher: ipsec.CipherAESGCM16, keyLen: 16},
	{cipher: ipsec.CipherAESGCM16, keyLen: 24},
	{cipher: ipsec.CipherAESGCM16, keyLen: 32},
	{cipher: ipsec.CipherAESGMAC},
	{cipher: ipsec.CipherChaCha20Poly1305},
}

// hashes are those of AH.
var hashes = []ipsec.Auth{
	ipsec.AuthHMACMD5, ipsec.AuthHMACSHA1, ipsec.AuthHMACRIPEMD160, ipsec.AuthHMACSHA256,
	ipsec.AuthHMACSHA384, ipsec.AuthHMACSHA512, ipsec.AuthAESXCBC,
}

// trials is everything that is captured: each mode over IPv4 and IPv6, tunnels
// with the other family inside, each algorithm in both modes.
func trials() []*trial {
	var all []*trial
	add := func(outer6, inner6 bool, stack ...step) {
		all = append(all, &trial{stack: stack, outer6: outer6, inner6: inner6})
	}
	for _, s := range stacks {
		add(false, false, s...)
		add(true, true, s...)
	}
	for _, s := range []step{espT, inUDP(espT), ahT, compT} {
		add(false, true, s)
		add(true, false, s)
	}
	for _, s := range suites {
		s.proto = ipsec.ProtoESP
		add(false, false, s)
		s.mode = ipsec.Transport
		add(false, false, s)
		add(true, true, s)
	}
	for _, auth := range hashes {
		add(false, false, step{proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: auth})
		add(true, true, step{proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: auth})
	}
	return all
}
