package ipsecadm

import (
	"slices"
	"strings"
)

// Usage is how the program is called.
const Usage = "usage: ipsecadm [-S socket] [command] [modifier ...]\n" +
	"\"ipsecadm --help\" lists the commands\n"

// spec is a command.
type spec struct {
	name    string
	mods    []string // modifiers that it takes
	needs   []string // those that it cannot do without; "a|b": one of them
	operand func(f *form, word string)
	takesOp string // what the operand is, for usage
	build   func(f *form) Command
	refusal string // why there is no such command, and what there is instead
}

var (
	idMods   = []string{"-srcid", "-srcid_type", "-dstid", "-dstid_type"}
	kindMods = []string{"-ah", "-esp", "-oldah", "-oldesp", "-ip4", "-ipcomp", "-tcpmd5"}
)

const oldForms = "of RFC 1826 to 1829 has neither sequence numbers nor authentication that resists today's attackers, and is not made here; "

// specs are the commands; the first is what a line without a command means.
var specs = []spec{
	{
		name: "new esp", build: buildESP, needs: []string{"-dst", "-src", "-spi", "-enc"},
		mods: append([]string{
			"-dst", "-src", "-spi", "-enc", "-key", "-keyfile", "-auth", "-authkey", "-authkeyfile",
			"-forcetunnel", "-proxy", "-udpencap",
		}, idMods...),
	},
	{
		name: "new ah", build: buildAH, needs: []string{"-dst", "-src", "-spi", "-auth", "-key|-keyfile"},
		mods: append([]string{"-dst", "-src", "-spi", "-auth", "-key", "-keyfile", "-forcetunnel", "-proxy"}, idMods...),
	},
	{name: "old esp", refusal: "the ESP " + oldForms + `use "new esp" with the same -enc and with -auth, on both sides`},
	{name: "old ah", refusal: "the AH " + oldForms + `use "new ah", on both sides`},
	{
		name: "ip4", build: buildIP4, needs: []string{"-dst", "-src", "-spi"},
		mods: []string{"-dst", "-src", "-spi"},
	},
	{
		name: "ipcomp", build: buildIPComp, needs: []string{"-dst", "-src", "-cpi"},
		mods: []string{"-dst", "-src", "-cpi", "-comp", "-forcetunnel"},
	},
	{
		name:    "tcpmd5",
		refusal: `the TCP option of RFC 2385 is the business of the program that has the connection (TCP_MD5SIG in tcp(7), as BGP daemons set it); to protect TCP here, make SAs with "new esp" or "new ah" and a flow with -transport tcp`,
	},
	{
		name: "group", build: buildGroup, needs: []string{"-dst", "-spi", "-dst2", "-spi2"},
		mods: []string{"-dst", "-spi", "-proto", "-dst2", "-spi2", "-proto2"},
	},
	{
		name: "delspi", build: buildDelete, needs: []string{"-dst", "-spi"},
		mods: []string{"-dst", "-spi", "-proto"},
	},
	{
		name: "flow", build: buildFlow, needs: []string{"-addr"},
		mods: append([]string{
			"-addr", "-src", "-dst", "-proto", "-transport", "-sport", "-dport", "-in", "-out",
			"-require", "-use", "-acquire", "-dontacq", "-deny", "-bypass", "-permit", "-order", "-delete", "-spi",
		}, idMods...),
	},
	{name: "flush", build: func(f *form) Command { return Flush{f.kinds()} }, mods: kindMods},
	{name: "show", build: func(f *form) Command { return Show{f.kinds()} }, mods: kindMods},
	{name: "monitor", build: func(*form) Command { return Monitor{} }},
	{name: "enable", build: func(f *form) Command { return Switch{f.proto, true} }, operand: switched, takesOp: "[esp|ah|ip4|ipcomp]"},
	{name: "disable", build: buildDisable, operand: switched, takesOp: "esp|ah|ip4|ipcomp"},
}

// takes lists a command's modifiers in words.
func (s *spec) takes() string {
	if len(s.mods) == 0 {
		return "none"
	}
	return strings.Join(s.mods, " ")
}

// usage is how a command is written.
func (s *spec) usage() string {
	b := "usage: ipsecadm " + s.name
	if s.takesOp != "" {
		b += " " + s.takesOp
	}
	for i := 0; i < len(s.mods); i++ {
		m := s.mods[i]
		text, needed := m+" "+modifiers[m].value, slices.Contains(s.needs, m)
		if file := m + "file"; slices.Contains(s.mods, file) {
			i++ // it is next
			text += " | " + file + " " + modifiers[file].value
			if slices.Contains(s.needs, m+"|"+file) {
				b += " {" + text + "}"
				continue
			}
		}
		text = strings.TrimSpace(text)
		if !needed {
			text = "[" + text + "]"
		}
		b += " " + text
	}
	return b + "\n"
}

// Help lists every command.
func Help() string {
	var b strings.Builder
	b.WriteString("usage: ipsecadm [-S socket] [command] [modifier ...]\n\n")
	for i := range specs {
		if specs[i].refusal == "" {
			b.WriteString(strings.Replace(specs[i].usage(), "usage: ", "  ", 1))
		}
	}
	b.WriteString("\nWithout a command: new esp. Keys are better in files, which \"ps\" does not show.\nSee ipsecadm(8).\n")
	return b.String()
}
