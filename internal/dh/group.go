// Package dh is the Diffie-Hellman half of IKE: the MODP groups of RFC 2409 and
// RFC 3526, the curves of RFC 5903, RFC 5114 and RFC 6932, and Curve25519.
//
// A public value from the network is believed only after Check; Shared checks
// it again. Everything that depends on a secret exponent takes the same time
// for every exponent of a group: nothing secret goes through math/big, chooses
// a branch or an address.
package dh

import (
	"fmt"
	"io"

	"oakley/internal/doi"
)

// Group is one Diffie-Hellman group. Groups are shared and never change; all
// methods may be called at the same time.
type Group struct {
	id   doi.Group
	name string
	arithmetic
}

// arithmetic is what a kind of group knows. Errors name neither the group nor
// the peer: Group adds the first, its caller the second.
type arithmetic interface {
	// publicLen is the length of a public value on the wire, in bytes.
	publicLen() int
	// check refuses a public value; it is not constant time, public values are
	// no secrets.
	check(public []byte) error
	// generate makes a key pair.
	generate(rand io.Reader) (keyPair, error)
}

// keyPair is a secret and the public value that belongs to it.
type keyPair interface {
	public() []byte
	// shared is called with values that passed check.
	shared(peer []byte) ([]byte, error)
	wipe()
}

// Lookup finds a group by its number. The error of an unknown one says which
// there are.
func Lookup(id doi.Group) (*Group, error) {
	if g, ok := groups[id]; ok {
		return g, nil
	}
	if why, ok := refused[id]; ok {
		return nil, fmt.Errorf("Diffie-Hellman group %d (%s) is not supported: use one of 1, 2, 5, 14-21, 25-31", uint16(id), why)
	}
	return nil, fmt.Errorf("Diffie-Hellman group %d is unknown: use one of 1, 2, 5, 14-21, 25-31", uint16(id))
}

// ID is the group's number.
func (g *Group) ID() doi.Group { return g.id }

// String is the group's number and name, for messages.
func (g *Group) String() string { return fmt.Sprintf("group %d (%s)", uint16(g.id), g.name) }

// PublicLen is the length of a public value on the wire in bytes: that of the
// prime for MODP (RFC 2409 section 5), of x|y for a curve (RFC 5903 section 7),
// 32 for Curve25519.
func (g *Group) PublicLen() int { return g.publicLen() }

// PublicError is a public value that must not be used: INVALID-KEY-INFORMATION
// is the notify that answers it.
type PublicError struct {
	Group  *Group
	Reason error
}

func (e *PublicError) Error() string {
	return fmt.Sprintf("public value refused in %v: %v", e.Group, e.Reason)
}

// Unwrap is the reason.
func (e *PublicError) Unwrap() error { return e.Reason }

// Check refuses, with a *PublicError, public values that are no proper element
// of the group: of another length than PublicLen, 0, 1, p-1, p and above (RFC
// 6989 section 2.1), coordinates of p and above or a point off the curve
// (section 2.3), points of small order on Curve25519 (RFC 7748 section 6.1).
//
// Values whose leading zeros were stripped are refused: RFC 2409 section 5
// wants them padded, and a length that tells is a leak on the peer's side.
func (g *Group) Check(public []byte) error {
	if len(public) != g.publicLen() {
		return &PublicError{g, fmt.Errorf("%w: %d bytes, expected %d", ErrLength, len(public), g.publicLen())}
	}
	if err := g.check(public); err != nil {
		return &PublicError{g, err}
	}
	return nil
}

// Generate makes a secret exponent and its public value from random bytes; it
// fails only when rand does.
func (g *Group) Generate(rand io.Reader) (*Private, error) {
	k, err := g.generate(rand)
	if err != nil {
		return nil, fmt.Errorf("no key pair for %v: %w", g, err)
	}
	return &Private{group: g, pair: k}, nil
}

// Private is a key pair. It is meant for one exchange.
type Private struct {
	group *Group
	pair  keyPair
	wiped bool
}

// Group is the group of the key pair.
func (p *Private) Group() *Group { return p.group }

// Public is the public value as it goes onto the wire. It is not to be changed.
func (p *Private) Public() []byte { return p.pair.public() }

// Shared is g^xy: padded with zeros on the left to the length of the prime for
// MODP (RFC 2409 section 5), the x coordinate for a curve (RFC 5903 section 9).
// The error is that of Check, or tells that Wipe came first.
func (p *Private) Shared(peer []byte) ([]byte, error) {
	if p.wiped {
		return nil, errWiped
	}
	if err := p.group.Check(peer); err != nil {
		return nil, err
	}
	s, err := p.pair.shared(peer)
	if err != nil {
		return nil, &PublicError{p.group, err}
	}
	return s, nil
}

// Wipe forgets the secret as far as the language lets us; afterwards only the
// public value is left.
func (p *Private) Wipe() {
	p.wiped = true
	p.pair.wipe()
}
