package isakmp

import (
	"encoding/binary"
	"fmt"
	"strings"

	"oakley/internal/doi"
)

// SA is the security association payload (RFC 2408 section 3.4, RFC 2407
// section 4.6.1).
type SA struct {
	DOI       uint32
	Situation uint32
	Proposals []Proposal
}

// Kind is doi.PayloadSA.
func (*SA) Kind() doi.Payload { return doi.PayloadSA }

// AppendBody appends DOI, situation and proposals.
func (s *SA) AppendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, s.DOI)
	b = binary.BigEndian.AppendUint32(b, s.Situation)
	for i := range s.Proposals {
		next := doi.PayloadProposal
		if i+1 == len(s.Proposals) {
			next = doi.PayloadNone
		}
		b = s.Proposals[i].append(b, next)
	}
	return b
}

func (s *SA) String() string {
	var b strings.Builder
	b.WriteString("sa(doi ")
	if s.DOI == doi.IPsec {
		b.WriteString("ipsec")
	} else {
		fmt.Fprintf(&b, "%d", s.DOI)
	}
	if s.Situation != doi.SituationIdentityOnly {
		fmt.Fprintf(&b, ", situation 0x%x", s.Situation)
	}
	for i := range s.Proposals {
		b.WriteString(", ")
		b.WriteString(s.Proposals[i].String())
	}
	return b.String() + ")"
}

// saFixed is the DOI and the situation.
const saFixed = 8

// parseSA reads the body. Only the IPsec DOI's identity-only situation is read:
// the length of any other situation is not known (RFC 2407 section 4.6.1).
func parseSA(body []byte, off int) (Payload, error) {
	if len(body) < saFixed {
		return nil, bad(off, doi.PayloadSA, doi.NotifyPayloadMalformed, "%d bytes, DOI and situation have %d", len(body), saFixed)
	}
	s := &SA{DOI: binary.BigEndian.Uint32(body), Situation: binary.BigEndian.Uint32(body[4:])}
	if s.DOI != doi.IPsec {
		return nil, bad(off, doi.PayloadSA, doi.NotifyDOINotSupported, "DOI %d, only %d (IPsec) is known", s.DOI, doi.IPsec)
	}
	if s.Situation != doi.SituationIdentityOnly {
		return nil, bad(off+4, doi.PayloadSA, doi.NotifySituationNotSupported,
			"situation 0x%x, only 0x%x (identity only) is known", s.Situation, doi.SituationIdentityOnly)
	}
	r := newProposalReader(body[saFixed:])
	if err := r.read(body[saFixed:], off+saFixed); err != nil {
		return nil, err
	}
	s.Proposals = r.proposals
	return s, nil
}
