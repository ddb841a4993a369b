package isakmp

import (
	"encoding/binary"
	"fmt"
	"strings"

	"oakley/internal/doi"
)

// Proposal is a proposal payload (RFC 2408 section 3.5). Proposals with the
// same number are one offer: all of them together.
type Proposal struct {
	Number     uint8
	Protocol   doi.Protocol
	SPI        []byte
	Transforms []Transform
}

// proposalFixed is number, protocol, SPI size and the number of transforms.
const proposalFixed = 4

// append appends the proposal with its generic header.
func (p *Proposal) append(b []byte, next doi.Payload) []byte {
	begin := len(b)
	b = append(b, byte(next), 0, 0, 0,
		p.Number, byte(p.Protocol), byte(len(p.SPI)), byte(len(p.Transforms)))
	b = append(b, p.SPI...)
	for i := range p.Transforms {
		follow := doi.PayloadTransform
		if i+1 == len(p.Transforms) {
			follow = doi.PayloadNone
		}
		b = p.Transforms[i].append(b, follow)
	}
	putLength(b, begin)
	return b
}

// String is "proposal 1 esp spi 0x01020304: ESP_3DES ...; ESP_AES ...": the
// transforms in the peer's order.
func (p Proposal) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "proposal %d %s", p.Number, protoName(p.Protocol))
	if len(p.SPI) > 0 {
		b.WriteString(" spi " + spiString(p.SPI))
	}
	for i := range p.Transforms {
		b.WriteString(separator(i, ": ", "; "))
		b.WriteString(p.Transforms[i].Describe(p.Protocol))
	}
	return b.String()
}

// proposalReader reads the proposals of one SA payload. The slices have room
// for what the bytes really hold, so that a whole SA costs one allocation each.
type proposalReader struct {
	proposals  []Proposal
	transforms []Transform
	attributes []Attribute
}

// newProposalReader counts what chain holds, without judging it: what is wrong
// ends the count, and read will say why.
func newProposalReader(chain []byte) proposalReader {
	proposals, transforms, attributes := 0, 0, 0
	for chain != nil && proposals < MaxProposals {
		var proposal, transform []byte
		if proposal, chain = split(chain); len(proposal) < GenericLen+proposalFixed {
			break
		}
		proposals++
		body := proposal[GenericLen:]
		body = body[min(len(body), proposalFixed+int(body[2])):]
		for body != nil && transforms < MaxTransforms {
			if transform, body = split(body); len(transform) < GenericLen+transformFixed {
				break
			}
			transforms++
			attributes += countAttributes(transform[GenericLen+transformFixed:])
		}
	}
	return proposalReader{
		proposals:  make([]Proposal, 0, proposals),
		transforms: make([]Transform, 0, transforms),
		attributes: make([]Attribute, 0, attributes),
	}
}

// split cuts the payload at the start of chain off; nil when there is none. The
// rest is nil at the end.
func split(chain []byte) (payload, rest []byte) {
	if len(chain) < GenericLen {
		return nil, nil
	}
	n := int(binary.BigEndian.Uint16(chain[2:]))
	if n < GenericLen || n > len(chain) {
		return nil, nil
	}
	if n == len(chain) {
		return chain, nil
	}
	return chain[:n], chain[n:]
}

// read reads all of chain, off bytes into the message. Proposal numbers may
// repeat (one offer of several protocols) and grow, never fall (RFC 2408
// section 4.2).
func (r *proposalReader) read(chain []byte, off int) error {
	if len(chain) == 0 {
		return bad(off, doi.PayloadSA, doi.NotifyBadProposalSyntax, "no proposal")
	}
	for next := doi.PayloadProposal; next != doi.PayloadNone; {
		if len(r.proposals) == MaxProposals {
			return bad(off, doi.PayloadProposal, doi.NotifyBadProposalSyntax, "more than %d proposals", MaxProposals)
		}
		follow, n, err := generic(doi.PayloadProposal, chain, off)
		if err != nil {
			return err
		}
		if follow != doi.PayloadNone && follow != doi.PayloadProposal {
			return bad(off, doi.PayloadProposal, doi.NotifyBadProposalSyntax, "payload type %d follows a proposal", uint8(follow))
		}
		p, err := r.proposal(chain[GenericLen:n], off+GenericLen)
		if err != nil {
			return err
		}
		if k := len(r.proposals); k > 0 && p.Number < r.proposals[k-1].Number {
			return bad(off+GenericLen, doi.PayloadProposal, doi.NotifyBadProposalSyntax,
				"proposal %d after proposal %d", p.Number, r.proposals[k-1].Number)
		}
		r.proposals = append(r.proposals, p)
		chain, off, next = chain[n:], off+n, follow
	}
	if len(chain) > 0 {
		return bad(off, doi.PayloadProposal, doi.NotifyBadProposalSyntax, "%d bytes follow the last proposal", len(chain))
	}
	return nil
}

func (r *proposalReader) proposal(body []byte, off int) (Proposal, error) {
	fault := func(at int, n doi.Notify, format string, args ...any) (Proposal, error) {
		return Proposal{}, bad(off+at, doi.PayloadProposal, n, format, args...)
	}
	if len(body) < proposalFixed {
		return fault(0, doi.NotifyPayloadMalformed, "%d bytes, a proposal has at least %d", len(body), proposalFixed)
	}
	p := Proposal{Number: body[0], Protocol: doi.Protocol(body[1])}
	size, claimed := int(body[2]), int(body[3])
	switch {
	case p.Protocol == 0:
		return fault(1, doi.NotifyInvalidProtocolID, "the protocol is zero")
	case !proposalSPISize(p.Protocol, size):
		return fault(2, doi.NotifyInvalidSPI, "an SPI of %d bytes is none of %s's", size, protoName(p.Protocol))
	case size > len(body)-proposalFixed:
		return fault(2, doi.NotifyPayloadMalformed, "an SPI of %d bytes, but %d are left", size, len(body)-proposalFixed)
	case claimed == 0:
		return fault(3, doi.NotifyBadProposalSyntax, "no transform")
	}
	p.SPI = clip(body, proposalFixed, proposalFixed+size)
	if (p.Protocol == doi.ProtoESP || p.Protocol == doi.ProtoAH) && binary.BigEndian.Uint32(p.SPI) < minSPI {
		return fault(proposalFixed, doi.NotifyInvalidSPI, "SPI 0x%x is reserved", p.SPI)
	}
	begin := len(r.transforms)
	if err := r.readTransforms(body[proposalFixed+size:], off+proposalFixed+size, p.Protocol); err != nil {
		return Proposal{}, err
	}
	p.Transforms = r.transforms[begin:len(r.transforms):len(r.transforms)]
	if n := len(p.Transforms); n != claimed {
		return fault(3, doi.NotifyBadProposalSyntax, "claims %d transforms and has %d", claimed, n)
	}
	return p, nil
}

// minSPI is the first SPI that is not reserved (RFC 2406 section 2.1).
const minSPI = 256

// proposalSPISize tells whether an SPI of that size is the protocol's. The
// cookies are ISAKMP's, so its own is ignored (RFC 2408 section 3.5); a
// CPI has two bytes or four (RFC 3173 section 4). Protocols that are not known
// are left to be passed over.
func proposalSPISize(p doi.Protocol, size int) bool {
	switch p {
	case doi.ProtoAH, doi.ProtoESP:
		return size == 4
	case doi.ProtoIPComp:
		return size == 2 || size == 4
	}
	return size <= MaxSPI
}
