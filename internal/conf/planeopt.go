package conf

import (
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
	return strings.Join(words, ", ")
}
