package keynote

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Errors of a calculation. They make the test false in which they happen (RFC
// 2704 section 5.3.4).
var (
	errDivision  = errors.New("division by zero")
	errIntRange  = errors.New("the integer is not between -2147483648 and 2147483647")
	errReal      = errors.New("the floating point number is too large")
	errExponent  = errors.New("an integer cannot have a negative exponent")
	errString    = errors.New("the string becomes too long")
	errWork      = errors.New("the assertion needs too much work")
	errUndefined = errors.New("the result is no number")
)

// isNumber tells whether s is a decimal number: digits with an optional sign,
// fraction and exponent, and blanks around them.
func isNumber(s string) bool {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	digits := func() (n int) {
		for n < len(s) && isDigit(s[n]) {
			n++
		}
		s = s[n:]
		return n
	}
	n := digits()
	if s != "" && s[0] == '.' {
		s = s[1:]
		n += digits()
	}
	if n == 0 {
		return false
	}
	if s != "" && s[0]|0x20 == 'e' {
		s = s[1:]
		if s != "" && (s[0] == '-' || s[0] == '+') {
			s = s[1:]
		}
		return digits() > 0 && s == ""
	}
	return s == ""
}

// toInt is the operator @: fractions are rounded down, and what is no number is
// zero (RFC 2704 section 4.6.5). A number out of range is an error and not zero,
// since zero would make the largest amount the smallest.
func toInt(s string) (int32, error) {
	if s = strings.Trim(s, " \t\n\v\f\r"); !isNumber(s) {
		return 0, nil
	}
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return int32(n), nil
	}
	f, _ := strconv.ParseFloat(s, 64) // an infinity is out of range too
	if f = math.Floor(f); f < math.MinInt32 || f > math.MaxInt32 {
		return 0, errIntRange
	}
	return int32(f), nil
}

// toFloat is the operator &.
func toFloat(s string) (float32, error) {
	if s = strings.Trim(s, " \t\n\v\f\r"); !isNumber(s) {
		return 0, nil
	}
	f, err := strconv.ParseFloat(s, 32)
	if err != nil {
		return 0, errReal
	}
	return float32(f), nil
}

// calculate is an operation on integers of 32 bits; what does not fit is an
// error. Division rounds towards zero and the remainder has the sign of the
// dividend, as in C.
func calculate(o op, a, b int32) (int32, error) {
	x, y := int64(a), int64(b)
	var r int64
	switch o {
	case opAdd:
		r = x + y
	case opSub:
		r = x - y
	case opMul:
		r = x * y
	case opDiv, opMod:
		if y == 0 {
			return 0, errDivision
		}
		if r = x / y; o == opMod {
			r = x % y
		}
	case opPow:
		return power(x, y)
	}
	if r < math.MinInt32 || r > math.MaxInt32 {
		return 0, errIntRange
	}
	return int32(r), nil
}

// power is x to the y by squaring. It ends after at most 31 steps, and before
// anything grows beyond 64 bits.
func power(x, y int64) (int32, error) {
	if y < 0 {
		return 0, errExponent
	}
	r := int64(1)
	for ; y > 0; y >>= 1 {
		if y&1 == 1 {
			if r *= x; r < math.MinInt32 || r > math.MaxInt32 {
				return 0, errIntRange
			}
		}
		if y > 1 {
			if x *= x; x > math.MaxInt32+1 {
				return 0, errIntRange
			}
		}
	}
	return int32(r), nil
}

// calculateFloat is an operation on the floats of C.
func calculateFloat(o op, a, b float32) (float32, error) {
	var r float32
	switch o {
	case opAdd:
		r = a + b
	case opSub:
		r = a - b
	case opMul:
		r = a * b
	case opDiv:
		if b == 0 {
			return 0, errDivision
		}
		r = a / b
	case opPow:
		p := math.Pow(float64(a), float64(b))
		if math.IsNaN(p) {
			return 0, errUndefined
		}
		r = float32(p)
	}
	if r > math.MaxFloat32 || r < -math.MaxFloat32 {
		return 0, errReal
	}
	return r, nil
}
