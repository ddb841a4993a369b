package conf

import (
	"fmt"
	"strconv"
	"strings"
)

// PlaneOptions are settings of the data plane. What is zero is left to it.
type PlaneOptions struct {
	MTU        int    // of the TUN device, in bytes
	OuterMTU   int    // in bytes
	DF         string // of outer IPv4 headers: clear, copy or set
	NoClampMSS bool
	NoOffload  bool
	Spread     bool
	// Of the kernel's IPsec alone.
	Hold    bool   // packets that ask for an SA wait for it in the kernel
	Hash    string // policies between IPv4 prefixes of these lengths and longer are hashed: 24/24
	Hash6   string // the same for IPv6
	Mark    string // value/mask that packets bear whom policies shall see
	OutMark string // value/mask that packets get when they leave an SA
}

// Bounds of MTUs, in bytes: with less IPv4 does not work (RFC 791 section 3.2).
const (
	minMTU = 576
	maxMTU = 65535
)

// planeOption is what one word of Data-plane-options sets. One that takes no
// argument has no read.
type planeOption struct {
	name string
	flag func(*PlaneOptions) *bool
	read func(*loader, *PlaneOptions, value)
}

var planeOptions = []choice[*planeOption]{
	{"mtu", &planeOption{name: "mtu", read: func(l *loader, o *PlaneOptions, arg value) {
		o.MTU, _ = l.number(arg, "MTU in bytes", minMTU, maxMTU)
	}}},
	{"outer-mtu", &planeOption{name: "outer-mtu", read: func(l *loader, o *PlaneOptions, arg value) {
		o.OuterMTU, _ = l.number(arg, "MTU in bytes", minMTU, maxMTU)
	}}},
	{"df", &planeOption{name: "df", read: func(l *loader, o *PlaneOptions, arg value) {
		o.DF, _ = oneOf(l, arg, "handling of the don't-fragment mark", []choice[string]{{"clear", "clear"}, {"copy", "copy"}, {"set", "set"}})
	}}},
	{"no-clamp-mss", &planeOption{name: "no-clamp-mss", flag: func(o *PlaneOptions) *bool { return &o.NoClampMSS }}},
	{"no-offload", &planeOption{name: "no-offload", flag: func(o *PlaneOptions) *bool { return &o.NoOffload }}},
	{"spread", &planeOption{name: "spread", flag: func(o *PlaneOptions) *bool { return &o.Spread }}},
	{"hold", &planeOption{name: "hold", flag: func(o *PlaneOptions) *bool { return &o.Hold }}},
	{"hash", &planeOption{name: "hash", read: func(l *loader, o *PlaneOptions, arg value) { o.Hash = l.lengths(arg, 32) }}},
	{"hash6", &planeOption{name: "hash6", read: func(l *loader, o *PlaneOptions, arg value) { o.Hash6 = l.lengths(arg, 128) }}},
	{"mark", &planeOption{name: "mark", read: func(l *loader, o *PlaneOptions, arg value) { o.Mark = l.mark(arg) }}},
	{"out-mark", &planeOption{name: "out-mark", read: func(l *loader, o *PlaneOptions, arg value) { o.OutMark = l.mark(arg) }}},
}

// lengths reads two prefix lengths, of this side and of the other.
func (l *loader) lengths(x value, most uint64) string {
	local, remote, ok := strings.Cut(x.text, "/")
	a, err1 := strconv.ParseUint(local, 10, 8)
	b, err2 := strconv.ParseUint(remote, 10, 8)
	if !ok || err1 != nil || err2 != nil || a > most || b > most {
		l.fail(x, "write the shortest prefix of this side and of the other, as 24/24", "%s is no pair of prefix lengths from 0 to %d", quote(x.text), most)
		return ""
	}
	return strconv.FormatUint(a, 10) + "/" + strconv.FormatUint(b, 10)
}

// mark reads a packet mark and its mask, which is all bits if it is left out.
func (l *loader) mark(x value) string {
	v, m, masked := strings.Cut(x.text, "/")
	if !masked {
		m = "0xffffffff"
	}
	val, err1 := strconv.ParseUint(v, 0, 32)
	mask, err2 := strconv.ParseUint(m, 0, 32)
	if err1 != nil || err2 != nil || val&^mask != 0 {
		l.fail(x, "write a number, or a number and the bits that count, as 0x10/0xff", "%s is no packet mark", quote(x.text))
		return ""
	}
	return fmt.Sprintf("%#x/%#x", val, mask)
}

func (l *loader) readPlaneOptions(v view) {
	o := &l.cfg.General.PlaneOptions
	given := map[string]bool{}
	for _, x := range v.get("Data-plane-options").items() {
		word, text, argued := strings.Cut(x.text, "=")
		name, arg := x.part(0, word), x.part(len(x.text)-len(text), text)
		opt, ok := oneOf(l, name, "option of a data plane", planeOptions)
		switch {
		case !ok:
		case given[opt.name]:
			l.fail(x, "write it once", "%s is there twice", opt.name)
		case opt.flag != nil && argued:
			l.fail(x, "write "+opt.name+" alone", "%s takes no value", opt.name)
		case opt.flag != nil:
			*opt.flag(o) = true
		case !argued:
			l.fail(x, "write "+opt.name+"= and its value, as outer-mtu=1400 and df=copy", "%s needs a value", opt.name)
		default:
			opt.read(l, o, arg)
		}
		if ok {
			given[opt.name] = true
		}
	}
}

// part is a part of an item, at an offset in it, without the blanks around it.
func (v value) part(from int, raw string) value {
	text := strings.Trim(raw, " \t")
	if v.tag != nil && text != "" {
		v.at.Col += from + strings.Index(raw, text)
		v.at.Len = len(text)
	}
	v.text = text
	return v
}

// String is how the options are written.
func (o PlaneOptions) String() string {
	var words []string
	add := func(is bool, word string) {
		if is {
			words = append(words, word)
		}
	}
	add(o.MTU != 0, "mtu="+strconv.Itoa(o.MTU))
	add(o.OuterMTU != 0, "outer-mtu="+strconv.Itoa(o.OuterMTU))
	add(o.DF != "", "df="+o.DF)
	add(o.NoClampMSS, "no-clamp-mss")
	add(o.NoOffload, "no-offload")
	add(o.Spread, "spread")
	add(o.Hold, "hold")
	add(o.Hash != "", "hash="+o.Hash)
	add(o.Hash6 != "", "hash6="+o.Hash6)
	add(o.Mark != "", "mark="+o.Mark)
	add(o.OutMark != "", "out-mark="+o.OutMark)
	return strings.Join(words, ", ")
}
