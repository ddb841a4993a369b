package ah

// What routers change is not authenticated: it is taken as zero, or as what it
// will be when the packet arrives (RFC 4302 section 3.3.3.1 and appendix A).

// mask does that to a copy of a packet's headers, up to the authentication
// header, whose lengths place or find has checked.
func mask(h []byte) {
	if h[0]>>4 == 6 {
		mask6(h)
		return
	}
	h[1] = 0            // DSCP and ECN
	h[6], h[7] = 0, 0   // flags and fragment offset
	h[8] = 0            // TTL
	h[10], h[11] = 0, 0 // checksum
	options4(h[16:20], h[20:])
}

// Options of IPv4.
const (
	optEnd         = 0
	optNop         = 1
	optLooseRoute  = 131
	optStrictRoute = 137
)

// immutable are IPv4's options that no router changes (RFC 4302 appendix A1). All
// others, unknown ones among them, are zeroed as a whole.
var immutable = [256]bool{
	130: true, // security
	133: true, // extended security
	134: true, // commercial security
	148: true, // router alert
	149: true, // sender directed multi-destination delivery
}

// options4 zeroes mutable options. dst becomes where a source route ends: the
// address that the receiver will find in the header.
func options4(dst, o []byte) {
	for len(o) > 0 {
		kind := o[0]
		if kind == optEnd {
			return
		}
		if kind == optNop {
			o = o[1:]
			continue
		}
		n := len(o) // what lies about its length is zeroed to the end
		if len(o) > 1 && o[1] >= 2 && int(o[1]) < n {
			n = int(o[1])
		}
		if (kind == optLooseRoute || kind == optStrictRoute) && n >= 7 && o[2] >= 4 && int(o[2])+3 <= n {
			copy(dst, o[n-4:n])
		}
		if !immutable[kind] {
			clear(o[:n])
		}
		o = o[n:]
	}
}

func mask6(h []byte) {
	h[0], h[1], h[2], h[3] = 0x60, 0, 0, 0 // class and flow label
	h[7] = 0                               // hop limit
	at := spot{40, 6}
	for at.offset < len(h) {
		next, ok := skip(h, at)
		if !ok {
			return
		}
		ext := h[at.offset:next.offset]
		if h[at.next] == protoRouting {
			arrive(h[24:40], ext)
		} else {
			options6(ext[2:])
		}
		at = next
	}
}

// mayChange is the bit of an IPv6 option's type that says so (RFC 8200 section
// 4.2).
const mayChange = 0x20

// options6 zeroes the data of options that may change on the way.
func options6(o []byte) {
	for len(o) > 1 {
		if o[0] == 0 { // Pad1
			o = o[1:]
			continue
		}
		n := min(2+int(o[1]), len(o))
		if o[0]&mayChange != 0 {
			clear(o[2:n])
		}
		o = o[n:]
	}
}

// arrive puts destination and routing header of type 0 in the form in which the
// last host finds them.
func arrive(dst, ext []byte) {
	if ext[2] != 0 || len(ext)%16 != 8 {
		return
	}
	addrs := ext[8:]
	n := len(addrs) / 16
	left := int(ext[3])
	if left > n {
		return
	}
	for ; left > 0; left-- {
		a := addrs[16*(n-left):][:16]
		for i := range a {
			a[i], dst[i] = dst[i], a[i]
		}
	}
	ext[3] = 0
}
