package ipsec

// Drop is the reason for which a packet went no further.
type Drop uint8

// Reasons. Their order is the order in which they are printed.
const (
	DropNone        Drop = iota
	DropMalformed        // not an IP packet, or one that lies about its length
	DropShort            // shorter than header, IV, padding or ICV ask for
	DropUnknownSPI       // no such SA
	DropReplay           // seen before, or left of the window
	DropAuth             // the ICV does not match
	DropPadding          // the padding is not what RFC 4303 section 2.4 asks for
	DropNextHeader       // neither IPv4, IPv6 nor dummy in tunnel mode
	DropSelector         // the inner packet is outside its SA's selectors
	DropClear            // should have been protected
	DropNoSA             // required, and there is none (yet)
	DropDeny             // a deny flow
	DropNoFlow           // no flow matches
	DropQueueFull        // held packets or a worker's queue are at their bound
	DropSequenceEnd      // the sequence numbers are used up
	DropExpired          // the SA's hard lifetime is over
	DropTooBig           // larger than the path, and not to be fragmented
	DropSend             // the system refused to take it
	DropWrongSA          // authentic, but of an SA or a bundle that its flow does not have
	DropDisabled         // ESP or AH is switched off
	DropCompression      // IPComp that does not unpack, or that nobody agreed on
	DropReassembly       // fragments that overlap, never became whole, or were too many
	DropCongestion       // met congestion outside, and its ends know no marks for that (RFC 6040 section 4.2)
	DropEnd
)

var drops = [DropEnd]string{
	"none", "malformed", "short", "unknown SPI", "replay", "authentication", "padding", "next header", "selector",
	"clear text", "no SA", "deny", "no flow", "queue full", "sequence end", "expired", "too big", "send",
	"wrong SA", "switched off", "decompression", "reassembly", "congestion",
}

func (d Drop) String() string {
	if d < DropEnd {
		return drops[d]
	}
	return "unknown"
}

// Drops counts drops by reason.
type Drops [DropEnd]uint64
