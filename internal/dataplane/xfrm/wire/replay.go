package wire

import "fmt"

// Replay is how far an SA's sequence numbers have come, with a window of up to
// 32 packets.
type Replay struct {
	Sent, Seen uint32 // the last that was sent, the highest that came
	Bitmap     uint32
}

const replaySize = 12

func (r *Replay) append(b []byte) []byte {
	b = native.AppendUint32(b, r.Sent)
	b = native.AppendUint32(b, r.Seen)
	return native.AppendUint32(b, r.Bitmap)
}

func parseReplay(v []byte) (*Replay, error) {
	v, err := atLeast(v, replaySize)
	if err != nil {
		return nil, err
	}
	return &Replay{native.Uint32(v), native.Uint32(v[4:]), native.Uint32(v[8:])}, nil
}

// MaxWindow is the largest replay window, in packets, that the kernel takes.
const MaxWindow = 4096

// ReplayESN is how far an SA has come whose window is larger than 32 packets or
// whose sequence numbers are extended.
type ReplayESN struct {
	Sent, Seen uint64
	Window     uint32   // packets
	Bitmap     []uint32 // nil: as long as Window asks for, nothing seen, and not sent
}

const replayESNSize = 24

// words is how long the bitmap is.
func (r *ReplayESN) words() int {
	if r.Bitmap != nil {
		return len(r.Bitmap)
	}
	return int(r.Window+31) / 32
}

func (r *ReplayESN) append(b []byte) []byte {
	for _, v := range [...]uint32{
		uint32(r.words()), uint32(r.Sent), uint32(r.Seen), uint32(r.Sent >> 32), uint32(r.Seen >> 32), r.Window,
	} {
		b = native.AppendUint32(b, v)
	}
	for _, w := range r.Bitmap {
		b = native.AppendUint32(b, w)
	}
	return b
}

func parseReplayESN(v []byte) (*ReplayESN, error) {
	if len(v) < replayESNSize {
		return nil, fmt.Errorf("a replay state of %d bytes, expected at least %d: %w", len(v), replayESNSize, ErrShort)
	}
	at := func(i int) uint64 { return uint64(native.Uint32(v[i*4:])) }
	r := &ReplayESN{Sent: at(3)<<32 | at(1), Seen: at(4)<<32 | at(2), Window: uint32(at(5))}
	if r.Window > MaxWindow {
		return nil, fmt.Errorf("a replay window of %d packets; the kernel's largest has %d", r.Window, MaxWindow)
	}
	words, rest := at(0), v[replayESNSize:]
	if len(rest) == 0 && words == uint64(r.words()) {
		return r, nil
	}
	if words > uint64(len(rest)/4) {
		return nil, fmt.Errorf("a replay state with %d words of bitmap, and %d bytes are left: %w", words, len(rest), ErrShort)
	}
	for i := range int(words) {
		r.Bitmap = append(r.Bitmap, native.Uint32(rest[i*4:]))
	}
	return r, nil
}
