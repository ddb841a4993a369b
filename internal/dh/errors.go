package dh

import "errors"

// Reasons why a public value is refused; errors.Is finds them in a
// *PublicError.
var (
	ErrLength   = errors.New("wrong length")
	ErrZero     = errors.New("it is 0")
	ErrOne      = errors.New("it is 1")
	ErrMinusOne = errors.New("it is p-1")
	ErrTooLarge = errors.New("it is not below the prime")
	ErrOffCurve = errors.New("it is not a point of the curve")
	ErrLowOrder = errors.New("it is a point of small order, everyone would know the secret")

	errRandom   = errors.New("the random source repeats itself: no usable scalar in 256 tries")
	errInfinity = errors.New("the product is the point at infinity")
	errWiped    = errors.New("the secret of this key pair was wiped")
)
