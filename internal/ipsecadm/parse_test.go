package ipsecadm

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"oakley/internal/ipsec"
)

var (
	east, west = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	ends       = "-src 192.0.2.1 -dst 192.0.2.2"
)

// files are key files that there are.
var files = map[string]string{
	"/k/aes":  strings.Repeat("0f", 16) + "\n",
	"/k/sha1": strings.Repeat("11", 10) + "\n" + strings.Repeat("22", 10) + "\n",
}

func readFile(path string) ([]byte, error) {
	if text, ok := files[path]; ok {
		return []byte(text), nil
	}
	return nil, errors.New("the key file " + path + " is not there")
}

func parse(line string) (Command, []string, error) { return Parse(strings.Fields(line), readFile) }

func repeat(b byte, n int) []byte { return []byte(strings.Repeat(string(rune(b)), n)) }

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func flowOf(d ipsec.Direction, t ipsec.FlowType, src, dst string) ipsec.Flow {
	s := ipsec.Selector{Src: prefix(src), Dst: prefix(dst)}
	return ipsec.Flow{
		ID: flowID(d, s), Dir: d, Type: t, Selector: s, Order: defaultOrder, Proto: ipsec.ProtoESP, Owner: ipsec.OwnerManual, Conn: "manual",
	}
}

func TestCommands(t *testing.T) {
	hexOf := func(digits string, n int) string { return strings.Repeat(digits, n) }
	aes := NewSA{
		Proto: ipsec.ProtoESP, Src: east, Dst: west, SPI: 0x1001,
		Cipher: ipsec.CipherAESCBC, Key: repeat(0x0f, 16), Auth: ipsec.AuthHMACSHA1, AuthKey: append(repeat(0x11, 10), repeat(0x22, 10)...),
	}
	with := func(change func(*NewSA)) NewSA {
		sa := aes
		change(&sa)
		return sa
	}
	peered := func(f ipsec.Flow, local, remote netip.Addr) ipsec.Flow {
		f.Local, f.Remote = local, remote
		return f
	}
	byFile := " -enc aes -keyfile /k/aes -auth sha1 -authkeyfile /k/sha1"
	net := flowOf(ipsec.Out, ipsec.FlowRequire, "10.1.0.0/16", "10.2.0.0/16")
	for line, want := range map[string]Command{
		"new esp " + ends + " -spi 1001" + byFile:                 aes,
		ends + " -spi 1001" + byFile:                              aes, // new esp is what a line without a command means
		"new esp " + ends + " -spi 1001 -forcetunnel" + byFile:    with(func(sa *NewSA) { sa.Tunnel = true }),
		"new esp " + ends + " -spi 1001 -udpencap 4500" + byFile:  with(func(sa *NewSA) { sa.UDPPort = 4500 }),
		"new esp " + ends + " -spi 1001 -proxy 10.1.1.1" + byFile: with(func(sa *NewSA) { sa.Tunnel, sa.Proxy = true, netip.MustParseAddr("10.1.1.1") }),
		"new esp " + ends + " -spi FfFfFfFf -srcid a.example -srcid_type fqdn -dstid 10.0.0.0/8" + byFile: with(func(sa *NewSA) {
			sa.SPI, sa.SrcID, sa.DstID = 0xffffffff, "a.example", "10.0.0.0/8"
		}),
		"new esp " + ends + " -spi 1001 -enc null -auth sha1 -authkeyfile /k/sha1": with(func(sa *NewSA) { sa.Cipher, sa.Key = ipsec.CipherNull, nil }),
		"new esp -src 2001:db8::1 -dst 2001:db8::2 -spi 1001" + byFile: with(func(sa *NewSA) {
			sa.Src, sa.Dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
		}),
		"new ah " + ends + " -spi 1001 -auth sha2-512 -key " + hexOf("0f", 64): NewSA{
			Proto: ipsec.ProtoAH, Src: east, Dst: west, SPI: 0x1001, Auth: ipsec.AuthHMACSHA512, AuthKey: repeat(0x0f, 64),
		},
		"ip4 " + ends + " -spi 1001":                                                    NewSA{Proto: ipsec.ProtoIPIP, Src: east, Dst: west, SPI: 0x1001, Tunnel: true},
		"ipcomp " + ends + " -cpi 2":                                                    NewSA{Proto: ipsec.ProtoIPComp, Src: east, Dst: west, SPI: 2, Comp: ipsec.CompDeflate},
		"ipcomp " + ends + " -cpi ffff -comp deflate -forcetunnel":                      NewSA{Proto: ipsec.ProtoIPComp, Src: east, Dst: west, SPI: 0xffff, Comp: ipsec.CompDeflate, Tunnel: true},
		"group -dst 192.0.2.2 -spi 1001 -dst2 192.0.2.2 -spi2 1002":                     Group{SAName{west, 0x1001, ipsec.ProtoESP}, SAName{west, 0x1002, ipsec.ProtoAH}},
		"group -dst 192.0.2.2 -spi 2 -proto 108 -dst2 192.0.2.2 -spi2 1002 -proto2 ESP": Group{SAName{west, 2, ipsec.ProtoIPComp}, SAName{west, 0x1002, ipsec.ProtoESP}},
		"delspi -dst 192.0.2.2 -spi 1001":                                               DeleteSA{SAName{west, 0x1001, ipsec.ProtoESP}},
		"delspi -dst 192.0.2.2 -spi 1001 -proto 4":                                      DeleteSA{SAName{west, 0x1001, ipsec.ProtoIPIP}},
		"flow " + ends + " -addr 10.1.0.0/16 10.2.0.0/16":                               Flow{Flow: peered(net, east, west)},
		"flow " + ends + " -addr 10.1.0.0 255.255.0.0 10.2.0.0 255.255.0.0 -out":        Flow{Flow: peered(net, east, west)},
		"flow -dst 192.0.2.2 -addr 10.1.0.0/16 10.2.0.0/16 -require":                    Flow{Flow: peered(net, netip.Addr{}, west)},
		"flow -delete -addr 10.1.0.0/16 10.2.0.0/16":                                    Flow{Delete: true, Flow: net},
		"flow -in -use " + ends + " -addr 10.2.0.0/16 10.1.0.0/16":                      Flow{Flow: peered(flowOf(ipsec.In, ipsec.FlowUse, "10.2.0.0/16", "10.1.0.0/16"), east, west)},
		"flow -in -acquire -addr 10.2.0.0/16 10.1.0.0/16":                               Flow{Flow: flowOf(ipsec.In, ipsec.FlowAcquire, "10.2.0.0/16", "10.1.0.0/16")}, // any peer
		"flow -dontacq -addr 192.0.2.1/32 192.0.2.2/32":                                 Flow{Flow: peered(flowOf(ipsec.Out, ipsec.FlowDontAcq, "192.0.2.1/32", "192.0.2.2/32"), east, west)},
		"flow -in -src 0.0.0.0 -dst 0.0.0.0 -addr 192.0.2.2/32 192.0.2.1/32":            Flow{Flow: peered(flowOf(ipsec.In, ipsec.FlowRequire, "192.0.2.2/32", "192.0.2.1/32"), east, west)},
		"flush":           Flush{},
		"flush -esp -ip4": Flush{[]ipsec.Proto{ipsec.ProtoIPIP, ipsec.ProtoESP}},
		"flush -oldesp":   Flush{[]ipsec.Proto{}},
		"show -ah":        Show{[]ipsec.Proto{ipsec.ProtoAH}},
		"monitor":         Monitor{},
		"enable esp":      Switch{ipsec.ProtoESP, true},
		"disable 51":      Switch{ipsec.ProtoAH, false},
		"enable":          Switch{0, true},
	} {
		got, _, err := parse(line)
		if err != nil {
			t.Errorf("%s\n%v", line, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n%+v, want\n%+v", line, got, want)
		}
	}
}

func TestFlowsOfPortsAndTypes(t *testing.T) {
	c, notices, err := parse("flow -dst 192.0.2.2 -addr 2001:db8:1:: ffff:ffff:ffff:: 2001:db8:2::/48 -transport tcp")
	if err == nil {
		t.Fatalf("a mask and a length: %+v %v", c, notices)
	}
	c, notices, err = parse("flow -dst 192.0.2.2 -addr 2001:db8:1:: ffff:ffff:ffff:: 2001:db8:2:: ffff:ffff:ffff:: -transport tcp -sport 1024 -dport smtp -order 7 -spi 1001 -srcid me@example.org -dstid gw.example.org -proto ah")
	if err != nil || len(notices) != 1 || !strings.Contains(notices[0], "-spi") {
		t.Fatalf("%v, %v", notices, err)
	}
	f := c.(Flow).Flow
	want := ipsec.Selector{Src: prefix("2001:db8:1::/48"), Dst: prefix("2001:db8:2::/48"), Proto: 6, SrcPort: 1024, DstPort: 25}
	if f.Selector != want || f.Order != 7 || f.LocalID != "me@example.org" || f.RemoteID != "gw.example.org" || f.Proto != ipsec.ProtoAH {
		t.Errorf("%+v", f)
	}
	for _, words := range []string{"-bypass", "-permit", "-permit -bypass"} {
		c, _, err = parse("flow -addr 10.1.1.0/24 10.1.1.0/24 " + words)
		if err != nil || c.(Flow).Type != ipsec.FlowBypass || c.(Flow).Proto != 0 {
			t.Errorf("%s: %+v, %v", words, c, err)
		}
	}
	// The same packets have the same name, in each direction one.
	seen := map[ipsec.FlowID]string{}
	for _, line := range []string{
		"flow -deny -addr 10.1.0.0/16 10.2.0.0/16", "flow -deny -in -addr 10.1.0.0/16 10.2.0.0/16", "flow -deny -addr 10.1.0.0/16 10.2.0.0/17",
		"flow -deny -addr 10.1.0.0/16 10.2.0.0/16 -transport 6", "flow -deny -addr 10.1.0.0/16 10.2.0.0/16 -dport 6", "flow -deny -addr 10.1.0.0/16 10.2.0.0/16 -sport 6",
	} {
		c, _, err := parse(line)
		if err != nil {
			t.Fatal(err)
		}
		id := c.(Flow).ID
		if seen[id] != "" {
			t.Errorf("%s and %s have one name, %s", line, seen[id], id)
		}
		seen[id] = line
	}
}

// TestMistakes: each line has each of its mistakes told.
func TestMistakes(t *testing.T) {
	long := strings.Repeat("0", 16)
	esp := "new esp " + ends + " -spi 1001 -enc aes -keyfile /k/aes -auth sha1 -authkeyfile /k/sha1 "
	for line, says := range map[string][]string{
		"":             {"no command"},
		"nwe esp -spi": {"is it new esp?"},
		"new":          {"new esp or new ah"},
		"new foo":      {"new esp or new ah"},
		"flwo -addr":   {"is it flow?"},
		"zzzzzz":       {"the commands are new esp, new ah, ip4"},
		"old esp -spi": {`use "new esp"`},
		"old ah":       {`use "new ah"`},
		"tcpmd5 -src ::1 -dst ::1 -spi 100 -key deadbeef": {"TCP_MD5SIG"},
		"new esp":    {"needs -dst: an address", "needs -src: an address", "needs -spi: a hexadecimal", "needs -enc: des, 3des, blf, cast, skipjack, aes or null"},
		"new ah":     {"needs -dst", "needs -src", "needs -spi", "needs -auth: md5, sha1, rmd160, sha2-256, sha2-384 or sha2-512", "needs -key or -keyfile"},
		"ipcomp":     {"needs -dst", "needs -src", "needs -cpi"},
		"group":      {"needs -dst:", "needs -spi:", "needs -dst2:", "needs -spi2:"},
		"flow":       {"flow needs -addr: two networks"},
		"disable":    {"disable needs a protocol: esp, ah, ip4 or ipcomp"},
		"enable tcp": {`"tcp" is no IPsec protocol`},
		"new esp -src -dst 192.0.2.300 -spi -enc":                                {"-src: an address is wanted", `-dst "192.0.2.300" is no address`, "-spi: a hexadecimal", "-enc: des"},
		esp + "-dst 192.0.2.2":                                                   {"-dst is given twice"},
		esp + "-cpi 100 -frocetunnel -wurst x stray":                             {"-cpi is not for new esp, which takes -dst", "is it -forcetunnel?", `"-wurst" is no modifier`, `"stray": a modifier`},
		esp + "-proto2 ah":                                                       {"-proto2 is not for new esp"},
		esp + "-proto3 ah":                                                       {`"-proto3" is no modifier; -proto`},
		esp + "-key 00":                                                          {"-key and -keyfile are both given"},
		esp + "-udpencap 0":                                                      {`-udpencap "0" is no port`},
		esp + "-proxy 0.0.0.0":                                                   {"-proxy 0.0.0.0: the inner source"},
		esp + "-srcid a@b -srcid_type fqdn -dstid_type prefix":                   {"it is a ufqdn", "-dstid_type without -dstid"},
		esp + "-srcid a -srcid_type ufqdn -dstid b -dstid_type x":                {"it has no @", "prefix, fqdn or ufqdn is wanted"},
		esp + "-srcid 10.0.0.0 -srcid_type prefix":                               {"is no prefix"},
		"new esp -src 192.0.2.1 -dst 192.0.2.1 -spi 0x1001 -enc aes -key 0x00":   {"both 192.0.2.1", `without 0x: -spi "1001"`, "-key: write the hexadecimal digits without 0x"},
		"new esp -src 192.0.2.1 -dst 2001:db8::2 -spi ff -enc des -key 1":        {"two address families", "below 100 (hexadecimal) are reserved", "odd number"},
		"new esp -src 0.0.0.0 -dst fe80::1%eth0 -spi 100000000 -enc des -key xy": {"-src 0.0.0.0: the SA's own end", "without an interface", "too large", "character 1 is no hexadecimal digit"},
		"new esp -src 224.0.0.1 -dst 192.0.2.0/24 -spi zz -enc rot13 -auth crc":  {"multicast", "not a network", "no hexadecimal number", `"rot13" is no cipher: des`, `"crc" is no hash: md5`},
		"new esp " + ends + " -spi 1001 -enc aes-gcm -key 00":                    {"counter"},
		"new esp " + ends + " -spi 1001 -enc AESCTR -key 00":                     {"RFC 3686"},
		"new esp " + ends + " -spi 1001 -enc chacha20-poly1305 -key 00":          {"let isakmpd negotiate"},
		"new ah " + ends + " -spi 1001 -auth aes-gmac -key 00":                   {"RFC 4543"},
		"new esp " + ends + " -spi 1001 -enc null":                               {"protects nothing"},
		"new esp " + ends + " -spi 1001 -enc null -key 00 -authkey 00":           {"null takes no key", "no -auth"},
		"new esp " + ends + " -spi 1001 -enc aes -auth md5":                      {"-enc aes needs a key: -keyfile or -key with 16, 24 or 32 bytes (32, 48 or 64 hex digits)", "-auth md5 needs a key: -authkeyfile or -authkey with 16 bytes"},
		"new esp " + ends + " -spi 1001 -enc des -key 00":                        {"-key has 1 byte (2 hex digits): -enc des takes 8 bytes (16 hex digits)"},
		"new esp " + ends + " -spi 1001 -enc 3des -key " + long:                  {"-enc 3des takes 24 bytes (48 hex digits)"},
		"new esp " + ends + " -spi 1001 -enc blf -key 00":                        {"-enc blf takes 5 to 56 bytes (10 to 112 hex digits)"},
		"new esp " + ends + " -spi 1001 -enc cast -key 00":                       {"-enc cast takes 5 to 16 bytes"},
		"new esp " + ends + " -spi 1001 -enc skipjack -key 00":                   {"-enc skipjack takes 10 bytes"},
		"new esp " + ends + " -spi 1001 -enc aes -keyfile /k/sha1":               {"-keyfile has 20 bytes"},
		"new esp " + ends + " -spi 1001 -enc aes -keyfile /k/none":               {"-keyfile: the key file /k/none is not there"},
		"new ah " + ends + " -spi 1001 -auth sha2-384 -key 00":                   {"-auth sha2-384 takes 48 bytes (96 hex digits)"},
		"new ah " + ends + " -spi 1001 -auth rmd160 -authkey 00":                 {"-authkey is not for new ah", "needs -key or -keyfile"},
		"ipcomp " + ends + " -cpi 3":                                             {"reserved (RFC 3173 section 3.3): 100 to ffff, or 2"},
		"ipcomp " + ends + " -cpi 10000 -comp lzs":                               {"too large", "no LZS here"},
		"ipcomp " + ends + " -cpi 100 -comp gzip":                                {"deflate is"},
		"ip4 " + ends + " -spi 1":                                                {"reserved"},
		"group -dst 192.0.2.2 -spi 1001 -proto ah -dst2 192.0.2.2 -spi2 1001":    {"a group has two SAs"},
		"delspi -dst 192.0.2.2 -spi 1001 -proto udp":                             {`-proto "udp" is no IPsec protocol: esp (50), ah (51), ip4 (4) or ipcomp (108) is`},
		"flow -addr 10.1.0.0/16":                                                 {"-addr: two networks are wanted"},
		"flow -addr 10.1.0.0 255.255.0.0 10.2.0.0":                               {"-addr: two networks are wanted"},
		"flow -addr 10.1.0.0/33 10.2/16 -deny":                                   {`"10.1.0.0/33" is no network`, `"10.2/16" is no network`},
		"flow -addr 10.1.0.0 255.0.255.0 10.2.0.0 ffff:: -deny":                  {"has holes", "no mask of 10.2.0.0"},
		"flow -addr 10.1.0.0/16 2001:db8::/32 -deny":                             {"two address families"},
		"flow -addr 10.1.0.0/16 10.2.0.0/16":                                     {"-dst is needed: which gateway is before 10.2.0.0/16?"},
		"flow -addr 10.1.0.0/16 10.2.0.0/16 -deny -dst 192.0.2.2 -proto ah":      {"-dst is not for a flow of type deny", "-proto is not"},
		"flow -addr 10.1.0.0/16 10.2.0.0/16 -deny -require -bypass":              {"-require and -deny and -bypass are given: a flow has one type"},
		"flow -addr 10.1.0.0/16 10.2.0.0/16 -in -out -deny":                      {"-in and -out are both given"},
		"flow -addr 10.1.0.0/16 10.2.0.0/16 -deny -order -1":                     {"-order: a number is wanted", `"-1" is no modifier`},
		"flow -addr 10.1.0.0/16 10.2.0.0/16 -deny -order x":                      {`-order "x" is no number`},
		"flow -addr 10.1.0.0/16 10.2.0.0/16 -deny -transport icmp -dport 80":     {"protocol 1 has no ports"},
		"flow -addr 10.1.0.0/16 10.2.0.0/16 -deny -transport 256 -sport nope":    {`-transport "256" is no protocol`, `-sport "nope" is no port`},
		"flow -addr 10.1.0.0/16 10.2.0.0/16 -src 192.0.2.1 -dst 2001:db8::1":     {"two address families"},
		"flow -addr 10.1.0.0/16 10.2.0.0/16 -src 192.0.2.1 -dst 192.0.2.1":       {"both 192.0.2.1"},
		"flush esp":        {`"esp": a modifier`},
		"flush -udp":       {`"-udp" is no modifier`},
		"monitor -esp":     {"which takes none"},
		"enable esp extra": {`"extra": a modifier`},
	} {
		c, _, err := parse(line)
		m, ok := errors.AsType[*Mistakes](err)
		if !ok {
			t.Errorf("%q is taken: %+v", line, c)
			continue
		}
		for _, want := range says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q, but\n%v", line, want, err)
			}
		}
		if len(m.All) != len(says) && !strings.Contains(line, "rmd160") {
			t.Errorf("%q: %d mistakes, want %d:\n%v", line, len(m.All), len(says), err)
		}
	}
}

// TestEmptyWords: what a script's variable that is not set leaves behind.
func TestEmptyWords(t *testing.T) {
	esp := strings.Fields("new esp " + ends + " -spi 1001 -enc aes -keyfile /k/aes -auth sha1 -authkeyfile /k/sha1")
	flow := strings.Fields("flow -dst 192.0.2.2 -addr 10.1.0.0/16 10.2.0.0/16 -sport 1 -dport 2 -transport 6 -proto esp -srcid a -order 1")
	for _, line := range [][]string{esp, flow} {
		for i := range line {
			if i < 2 || strings.HasPrefix(line[i], "-") {
				continue
			}
			some := append([]string(nil), line...)
			some[i] = ""
			if c, _, err := Parse(some, readFile); err == nil {
				t.Errorf("%q is taken: %+v", some, c)
			}
		}
	}
}

func TestKeysAreNeverShown(t *testing.T) {
	for _, line := range []string{
		"new esp " + ends + " -spi 1001 -enc aes -key c0ffeec0ffeex",
		"new esp " + ends + " -spi 1001 -enc aes -key c0ffeec0ffee",
		"new esp " + ends + " -spi 1001 -enc aes -key c0ffeec0ffe",
		"new esp " + ends + " -spi 1001 -enc aes -key 0xc0ffeec0ffee",
	} {
		if _, _, err := parse(line); err == nil || strings.Contains(err.Error(), "c0ffee") {
			t.Errorf("%v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("new esp " + ends + " -spi 1001 -enc aes -keyfile /k/aes -auth sha1 -authkeyfile /k/sha1")
	f.Add("flow " + ends + " -addr 10.1.0.0 255.255.0.0 10.2.0.0 255.255.0.0 -out -transport tcp -dport smtp")
	f.Add("group -dst 192.0.2.2 -spi 1001 -dst2 ::1 -spi2 1002 -proto 51")
	f.Fuzz(func(t *testing.T, line string) {
		c, _, err := Parse(strings.Split(line, " "), readFile)
		if (c == nil) == (err == nil) {
			t.Errorf("%v and %v", c, err)
		}
		if fl, ok := c.(Flow); ok && (!fl.Selector.Src.IsValid() || !fl.Selector.Dst.IsValid() || fl.ID == "") {
			t.Errorf("%+v", fl)
		}
		if sa, ok := c.(NewSA); ok && (sa.SPI < 2 || !sa.Src.IsValid() || sa.Src.Is4() != sa.Dst.Is4()) {
			t.Errorf("%+v", sa)
		}
	})
}
