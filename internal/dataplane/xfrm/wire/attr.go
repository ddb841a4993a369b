package wire

import "fmt"

// attr is the type of an attribute.
type attr uint16

const (
	attrAlgAuth        attr = 1
	attrAlgCrypt       attr = 2
	attrAlgComp        attr = 3
	attrEncap          attr = 4
	attrTmpl           attr = 5
	attrSA             attr = 6
	attrPolicy         attr = 7
	attrLifeCurrent    attr = 9
	attrReplay         attr = 10
	attrReplayThresh   attr = 11
	attrTimerThresh    attr = 12
	attrSrcAddr        attr = 13
	attrCoAddr         attr = 14
	attrLastUsed       attr = 15
	attrPolicyType     attr = 16
	attrAlgAEAD        attr = 18
	attrAlgAuthTrunc   attr = 20
	attrMark           attr = 21
	attrTFCPad         attr = 22
	attrReplayESN      attr = 23
	attrExtraFlags     attr = 24
	attrProto          attr = 25
	attrAddrFilter     attr = 26
	attrOutMark        attr = 29
	attrOutMarkMask    attr = 30
	attrIfID           attr = 31
	attrMappingAge     attr = 32
	attrHeader              = 4
	attrTypeMask            = 0x3fff // without the bits for "nested" and "network order"
	longestAttribute        = 1<<16 - 1 - attrHeader
	attrSPDInfo        attr = 1 // of NEWSPDINFO
	attrSPDHash        attr = 2
	attrSPDThresholds4 attr = 3
	attrSPDThresholds6 attr = 4
)

// appendAttr appends an attribute whose value f appends.
func appendAttr(b []byte, t attr, f func(b []byte) []byte) []byte {
	at := len(b)
	b = zeros(b, attrHeader)
	b = f(b)
	native.PutUint16(b[at:], uint16(len(b)-at))
	native.PutUint16(b[at+2:], uint16(t))
	return pad(b)
}

func appendU32(b []byte, t attr, v uint32) []byte {
	return appendAttr(b, t, func(b []byte) []byte { return native.AppendUint32(b, v) })
}

// attributes calls f for each attribute of b, until f fails.
func attributes(b []byte, f func(t attr, v []byte) error) error {
	for len(b) >= attrHeader {
		n := int(native.Uint16(b))
		if n < attrHeader || n > len(b) {
			return fmt.Errorf("an attribute of %d bytes where %d are left: %w", n, len(b), ErrShort)
		}
		t := attr(native.Uint16(b[2:]) & attrTypeMask)
		if err := f(t, b[attrHeader:n:n]); err != nil {
			return fmt.Errorf("attribute %d: %w", t, err)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// atLeast cuts v to n bytes; an error when it is shorter.
func atLeast(v []byte, n int) ([]byte, error) {
	if len(v) < n {
		return nil, fmt.Errorf("%d bytes, expected %d: %w", len(v), n, ErrShort)
	}
	return v[:n], nil
}

// body splits a message into its fixed part of n bytes and its attributes.
func body(what string, b []byte, n int) (fixed, rest []byte, err error) {
	if len(b) < n {
		return nil, nil, fmt.Errorf("%s of %d bytes, expected at least %d: %w", what, len(b), n, ErrShort)
	}
	return b[:n], b[n:], nil
}

func parseU32(v []byte, to *uint32) error {
	v, err := atLeast(v, 4)
	if err == nil {
		*to = native.Uint32(v)
	}
	return err
}
