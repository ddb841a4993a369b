package wire

// Thresholds say which policies the kernel finds by a hash: those whose prefixes
// are at least this long, in bits.
type Thresholds struct{ Local, Remote uint8 }

// SPDInfo is what the kernel tells of its SPD, and what it can be told.
type SPDInfo struct {
	In, Out, Fwd          uint32 // policies
	Buckets, MaxBuckets   uint32 // of the hash
	Thresholds4           *Thresholds
	Thresholds6           *Thresholds
	SockIn, SockOut, Rest uint32 // policies of sockets
}

// Append appends the message of NewSPDInfo, which sets the thresholds.
func (s *SPDInfo) Append(b []byte) []byte {
	b = native.AppendUint32(b, ^uint32(0))
	for _, v := range [...]struct {
		t attr
		v *Thresholds
	}{{attrSPDThresholds4, s.Thresholds4}, {attrSPDThresholds6, s.Thresholds6}} {
		if v.v != nil {
			b = appendAttr(b, v.t, func(b []byte) []byte { return append(b, v.v.Local, v.v.Remote) })
		}
	}
	return b
}

// ParseSPDInfo reads NewSPDInfo.
func ParseSPDInfo(b []byte) (*SPDInfo, error) {
	_, rest, err := body("the numbers of the SPD", b, 4)
	if err != nil {
		return nil, err
	}
	s := &SPDInfo{}
	return s, attributes(rest, func(t attr, v []byte) (err error) {
		switch t {
		case attrSPDInfo:
			if v, err = atLeast(v, 24); err == nil {
				for i, to := range [...]*uint32{&s.In, &s.Out, &s.Fwd, &s.SockIn, &s.SockOut, &s.Rest} {
					*to = native.Uint32(v[i*4:])
				}
			}
		case attrSPDHash:
			if v, err = atLeast(v, 8); err == nil {
				s.Buckets, s.MaxBuckets = native.Uint32(v), native.Uint32(v[4:])
			}
		case attrSPDThresholds4:
			s.Thresholds4, err = parseThresholds(v)
		case attrSPDThresholds6:
			s.Thresholds6, err = parseThresholds(v)
		}
		return err
	})
}

func parseThresholds(v []byte) (*Thresholds, error) {
	v, err := atLeast(v, 2)
	if err != nil {
		return nil, err
	}
	return &Thresholds{v[0], v[1]}, nil
}
