package ike

import (
	"fmt"

	"oakley/internal/doi"
	"oakley/internal/isakmp"
)

// want is how often a payload may stand in a message.
type want struct {
	kind     doi.Payload
	min, max int
}

// shape is what one message of an exchange consists of. Vendor IDs and private
// payloads may always be there.
type shape struct {
	name      string
	encrypted bool
	wants     []want
}

// The messages of main mode with pre-shared keys (RFC 2409 section 5.4) with
// the payloads of RFC 3947, of quick mode (section 5.5), and the informational
// one (section 5.7). Certificate requests are what some peers send to everyone.
var (
	mainMessage = [7]shape{
		1: {name: "main mode message 1", wants: []want{{doi.PayloadSA, 1, 1}}},
		2: {name: "main mode message 2", wants: []want{{doi.PayloadSA, 1, 1}, {doi.PayloadNotify, 0, 4}}},
		3: {name: "main mode message 3", wants: keyExchangeWants},
		4: {name: "main mode message 4", wants: keyExchangeWants},
		5: {name: "main mode message 5", encrypted: true, wants: authWants},
		6: {name: "main mode message 6", encrypted: true, wants: authWants},
	}
	keyExchangeWants = []want{
		{doi.PayloadKE, 1, 1},
		{doi.PayloadNonce, 1, 1},
		{doi.PayloadNATD, 0, 16},
		{doi.PayloadCertReq, 0, 16},
		{doi.PayloadNotify, 0, 4},
	}
	authWants = []want{
		{doi.PayloadID, 1, 1},
		{doi.PayloadHash, 1, 1},
		{doi.PayloadNotify, 0, 4},
		{doi.PayloadCert, 0, 8},
		{doi.PayloadCertReq, 0, 16},
	}
	quickWants = []want{
		{doi.PayloadHash, 1, 1},
		{doi.PayloadSA, 1, 1},
		{doi.PayloadNonce, 1, 1},
		{doi.PayloadKE, 0, 1},
		{doi.PayloadID, 0, 2},
		{doi.PayloadNATOA, 0, 2},
		{doi.PayloadNotify, 0, 4},
	}
	quickMessage = [4]shape{
		1: {name: "quick mode message 1", encrypted: true, wants: quickWants},
		2: {name: "quick mode message 2", encrypted: true, wants: quickWants},
		3: {name: "quick mode message 3", encrypted: true, wants: []want{{doi.PayloadHash, 1, 1}, {doi.PayloadNotify, 0, 4}}},
	}
	infoMessage = shape{
		name: "informational message", encrypted: true,
		wants: []want{{doi.PayloadHash, 1, 1}, {doi.PayloadNotify, 0, 8}, {doi.PayloadDelete, 0, 8}},
	}
)

// check holds a message against its shape.
func (s *shape) check(m *isakmp.Message) *rejection {
	var count [256]int
	for _, p := range m.Payloads {
		count[p.Kind()]++
	}
	for _, w := range s.wants {
		switch n := count[w.kind]; {
		case n < w.min:
			return dropNotify(FaultMisbehaved, doi.NotifyPayloadMalformed, fmt.Sprintf("%s has no %s payload", s.name, w.kind))
		case n > w.max:
			return dropNotify(FaultMisbehaved, doi.NotifyPayloadMalformed, fmt.Sprintf("%s has %d %s payloads, %d at most", s.name, n, w.kind, w.max))
		}
		count[w.kind] = 0
	}
	count[doi.PayloadVendor] = 0
	for k, n := range count {
		// RFC 2408 section 3.1 leaves 128 and above to private use.
		if n > 0 && k < 128 {
			return dropNotify(FaultMisbehaved, doi.NotifyInvalidPayloadType, fmt.Sprintf("%s has a %s payload, which has no place there", s.name, doi.Payload(k)))
		}
	}
	return nil
}

// checkHashed holds a phase 2 message against its shape. Its first payload is
// the hash, over all that follows (RFC 2409 section 5.5).
func (s *shape) checkHashed(m *isakmp.Message) (hash []byte, rej *rejection) {
	if rej := s.check(m); rej != nil {
		return nil, rej
	}
	h, ok := m.Payloads[0].(*isakmp.Hash)
	if !ok {
		return nil, drop(FaultMisbehaved, fmt.Sprintf("%s begins with %s, not with HASH", s.name, m.Payloads[0].Kind()))
	}
	return h.Data, nil
}

// payload returns the first payload of a type.
func payload[T isakmp.Payload](m *isakmp.Message) (p T, at int, ok bool) {
	for i, q := range m.Payloads {
		if t, is := q.(T); is {
			return t, i, true
		}
	}
	return p, -1, false
}

// payloads returns all payloads of a type.
func payloads[T isakmp.Payload](m *isakmp.Message) []T {
	var all []T
	for _, q := range m.Payloads {
		if t, is := q.(T); is {
			all = append(all, t)
		}
	}
	return all
}

// rejection says what becomes of a message that is not taken. Without kill the
// state is untouched, byte for byte.
type rejection struct {
	kill   bool // the exchange ends
	fault  Fault
	notify doi.Notify // 0: no answer
	reason string
	failed *Failed // both sides' proposals and the like, for the event
}

func (r *rejection) Error() string { return r.reason }

func drop(f Fault, reason string) *rejection { return &rejection{fault: f, reason: reason} }

func dropNotify(f Fault, n doi.Notify, reason string) *rejection {
	return &rejection{fault: f, notify: n, reason: reason}
}

func kill(f Fault, n doi.Notify, reason string) *rejection {
	return &rejection{kill: true, fault: f, notify: n, reason: reason}
}
