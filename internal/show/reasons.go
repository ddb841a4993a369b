package show

import "oakley/internal/ipsec"

// reasons say what it means that packets were dropped, and what to look at.
var reasons = [ipsec.DropEnd]string{
	ipsec.DropMalformed:   "no IP packet, or one that lies about its length; if there are many, look at what is between the ends with tcpdump",
	ipsec.DropShort:       "too short for a header, an IV, padding or an ICV: cut on the way, or the ends have different algorithms",
	ipsec.DropUnknownSPI:  "no SA has the SPI: the peer uses one that ended or was flushed here, after a restart for example, or somebody probes; compare ipsecctl -s sa on both ends",
	ipsec.DropReplay:      "seen before, or older than the replay window; a few are the network's reordering, many are somebody who repeats packets or a peer that began to count anew",
	ipsec.DropAuth:        "the ICV does not match: forged, changed on the way, or the ends have different authentication keys or algorithms; compare both ends with ipsecctl -k -s sa",
	ipsec.DropPadding:     "decrypted to something with wrong padding: the ends have different encryption keys, or the peer pads in a way of its own",
	ipsec.DropNextHeader:  "what was protected is neither IPv4 nor IPv6 where a whole packet is to be: one end is in tunnel mode and the other in transport mode, or keys differ",
	ipsec.DropSelector:    "what was in the tunnel is not from or not for the networks that it was made for; compare the networks of both ends",
	ipsec.DropClear:       "came in clear although a flow protects it: the peer has no flow for it or its tunnel is down, or somebody forges",
	ipsec.DropNoSA:        "had to be protected and there was no SA: negotiation is under way or fails; look at isakmpd's log",
	ipsec.DropDeny:        "a flow of type deny forbids them; ipsecctl -s flow shows which",
	ipsec.DropNoFlow:      "came to the tunnel device, or to the kernel through a tunnel, and no flow takes it: a few are what this host says to neighbours on every device, many are an incoming flow that is missing, a route that belongs to no flow, or selectors narrower than it",
	ipsec.DropQueueFull:   "waited for an SA or for a worker and there were too many: negotiation takes long, or this machine is too slow for the traffic",
	ipsec.DropSequenceEnd: "the sequence numbers of the SA are used up and no new SA came in time; shorten its lifetime or use extended sequence numbers",
	ipsec.DropExpired:     "its hard lifetime is over, and it was used all the same; compare lifetimes and clocks of both ends",
	ipsec.DropTooBig:      "larger than the path and not to be fragmented; the sender was told, and does not listen if this goes on: look for filters that drop ICMP",
	ipsec.DropSend:        "this host refused to take it: no route, a packet filter or a full queue; the log has the error",
	ipsec.DropWrongSA:     "authentic, but from an SA or a bundle that the flow for it does not have; compare the flows of both ends",
	ipsec.DropDisabled:    "the protocol is switched off as a whole here",
	ipsec.DropCompression: "compressed data that does not unpack, or compression that nobody agreed on",
	ipsec.DropReassembly:  "fragments that overlap, never became whole, or were too many; lower the MTU of the tunnel device if they are the peer's own",
	ipsec.DropCongestion:  "a router on the way was congested and marked them, and what is inside knows no such marks, so that a loss has to tell the sender",
}

// drops are the lines for what an SA dropped; nothing when that is nothing.
func (p *page) drops(d *ipsec.Drops, why bool) {
	name := "dropped"
	for reason := ipsec.DropNone + 1; reason < ipsec.DropEnd; reason++ {
		n := d[reason]
		if n == 0 {
			continue
		}
		p.field(name, "%d %s", n, reason)
		if why {
			p.field("", "  %s", reasons[reason])
		}
		name = ""
	}
}
