package policy

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"oakley/internal/keynote"
)

// checks judge what an attribute is compared with, by its form.
var checks = map[Form]func(value string) *keynote.Advice{
	FormNumber:   checkNumber,
	FormAddress:  checkAddress,
	FormRange:    checkRange,
	FormProtocol: checkProtocol,
	FormTime:     checkTime,
}

func isDigits(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

func checkNumber(v string) *keynote.Advice {
	n := strings.TrimLeft(v, "0")
	if n == "" {
		n = "0"
	}
	switch {
	case !isDigits(v):
		return &keynote.Advice{Summary: "it is a number, and this is none", Hint: "write decimal digits"}
	case n != v:
		return &keynote.Advice{Summary: "numbers are not padded with zeros", Hint: "write " + n}
	}
	return nil
}

// checkAddress judges what a first or last address is compared with.
func checkAddress(v string) *keynote.Advice {
	if !addressLike(v) {
		return &keynote.Advice{Summary: "it is an address, and this is none", Hint: "write one as 010.128.001.012"}
	}
	if strings.Contains(v, "-") {
		return &keynote.Advice{Summary: "it is one address, and this is a range", Hint: "compare _addr_lower with the first and _addr_upper with the last one"}
	}
	return padded(v)
}

// checkRange judges what a filter or an identity is compared with. Names are
// everything, and so nothing can be said about them.
func checkRange(v string) *keynote.Advice {
	if _, ok := cutFold(v, dnPrefix); ok {
		return &keynote.Advice{Summary: "a distinguished name stands here as it is", Hint: "leave out " + dnPrefix}
	}
	if canonical := strings.ReplaceAll(v, oldMail, newMail); canonical != v && v[0] == '/' {
		return &keynote.Advice{Summary: "the name of a mail address in a distinguished name is emailAddress here", Hint: "write " + canonical}
	}
	if !addressLike(v) {
		return nil
	}
	lower, upper, two := strings.Cut(v, "-")
	if !two {
		return padded(v)
	}
	first, last := padded(lower), padded(upper)
	if first == nil {
		first = last
	}
	if first != nil {
		a, bad := netip.ParseAddr(unpad(lower))
		b, bad2 := netip.ParseAddr(unpad(upper))
		if bad == nil && bad2 == nil {
			first.Hint = "write " + pad(a) + "-" + pad(b)
		}
		return first
	}
	if lower > upper && len(lower) == len(upper) {
		return &keynote.Advice{Summary: "the first address of this range is above the last one", Hint: "exchange them"}
	}
	return nil
}

// addressLike tells whether somebody who wrote v meant an address, the beginning
// of one, a prefix or a range.
func addressLike(v string) bool {
	digits := strings.ContainsAny(v, "0123456789") || strings.Contains(v, "::")
	dotted := strings.Trim(v, "0123456789./-") == "" && strings.Contains(v, ".")
	colons := strings.Trim(v, "0123456789abcdefABCDEF:./-") == "" && (strings.Contains(v, "::") || strings.Count(v, ":") >= 7)
	return digits && (dotted || colons)
}

const notPadded = "addresses are padded with zeros, so that text compares as they do"

// padded judges an address, or the beginning of one that is compared with < or >.
func padded(v string) *keynote.Advice {
	if p, err := netip.ParsePrefix(unpad(v)); err == nil {
		lower, upper := ends(p)
		return &keynote.Advice{Summary: "a network is written as its first and its last address", Hint: "write " + pad(lower) + "-" + pad(upper)}
	}
	if a, err := netip.ParseAddr(unpad(v)); err == nil {
		if want := pad(a); want != v {
			return &keynote.Advice{Summary: notPadded, Hint: "write " + want}
		}
		return nil
	}
	sep, digits := ".", 3
	if strings.Contains(v, ":") {
		sep, digits = ":", 4
	}
	parts := strings.Split(v, sep)
	for i, part := range parts {
		cut := part == "" && i == len(parts)-1 // behind "010.001."
		if len(part) != digits && !cut || part != strings.ToLower(part) || strings.ContainsAny(part, "/-") {
			return &keynote.Advice{Summary: notPadded, Hint: "write each part with " + strconv.Itoa(digits) + " digits in lower case"}
		}
		if n, err := strconv.Atoi(part); digits == 3 && err == nil && n > 255 {
			return &keynote.Advice{Summary: "no part of an address is above 255", Hint: "correct " + part}
		}
	}
	return nil
}

// unpad makes what netip reads of a zero-padded IPv4 address.
func unpad(v string) string {
	addr, bits, _ := strings.Cut(v, "/")
	parts := strings.Split(addr, ".")
	if len(parts) != 4 {
		return v
	}
	for i, p := range parts {
		if parts[i] = strings.TrimLeft(p, "0"); parts[i] == "" && p != "" {
			parts[i] = "0"
		}
	}
	addr = strings.Join(parts, ".")
	if bits == "" {
		return addr
	}
	return addr + "/" + bits
}

// patterns judge the regular expressions that an attribute is matched with, by its
// form.
var patterns = map[Form]func(expression string) *keynote.Advice{
	FormAddress: checkAddressPattern,
	FormRange:   checkAddressPattern,
}

// shortPart is a part of an IPv4 address with too few digits, at the beginning or
// between two dots that are meant as such.
var shortPart = regexp.MustCompile(`(\^|\\\.)[0-9]{1,2}\\\.`)

func checkAddressPattern(expression string) *keynote.Advice {
	if !shortPart.MatchString(expression) {
		return nil
	}
	return &keynote.Advice{Summary: notPadded, Hint: `write each part with 3 digits, as "^010\\.001\\."`}
}

func checkProtocol(v string) *keynote.Advice {
	for n, name := range upperProtocols {
		switch {
		case v == name:
			return nil
		case strings.EqualFold(v, name), v == number(n):
			return &keynote.Advice{Summary: "this protocol is called " + name, Hint: `write "` + name + `"`}
		}
	}
	if n, err := strconv.Atoi(v); err == nil && n >= 0 && n <= 255 && number(n) == v {
		return nil
	}
	hint := "tcp, udp and etherip have names; the others are numbers from 0, any protocol, to 255"
	if strings.EqualFold(v, "icmp") {
		hint = `write "1"`
	}
	return &keynote.Advice{Summary: "no protocol is called so", Hint: hint}
}

// checkTime judges a moment, or the beginning of one that is compared with < or >.
func checkTime(v string) *keynote.Advice {
	const form = "times are YYYYMMDDHHmmSS, fourteen digits"
	if !isDigits(v) || len(v) < 4 || len(v) > 14 {
		return &keynote.Advice{Summary: form, Hint: "write 20261231235959, for example"}
	}
	if v < "1970" || v >= "3000" {
		return &keynote.Advice{
			Summary: form + ", and this one is in the year " + v[:4],
			Hint:    `for a time of day, whatever the date, use ~= "^........(0[89]|1[0-7])"`,
		}
	}
	const zero = "00000101000000"
	full := v
	if len(v) < len(zero) {
		full += zero[len(v):]
	}
	if len(v)%2 == 0 && !monthLost(v) {
		if _, err := time.Parse("20060102150405", full); err != nil {
			return &keynote.Advice{Summary: "there is no such moment", Hint: "correct the month, the day or the hour"}
		}
	}
	return nil
}

// monthLost tells whether the beginning of a moment ends with a month or day of 00,
// as the first moment of a year or month may be written.
func monthLost(v string) bool {
	return len(v) >= 6 && v[4:6] == "00" || len(v) >= 8 && v[6:8] == "00"
}
