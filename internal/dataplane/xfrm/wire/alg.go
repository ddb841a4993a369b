package wire

import (
	"bytes"
	"fmt"
)

const algName = 64

// Alg is a cipher or a compression: its name in the kernel and its key.
type Alg struct {
	Name string
	Key  []byte
}

// AuthAlg is a hash and how many bits of it are sent.
type AuthAlg struct {
	Name  string
	Key   []byte
	Trunc uint32
}

// AEAD is a combined mode: its key with the salt behind it, and the bits of its
// ICV.
type AEAD struct {
	Name string
	Key  []byte
	ICV  uint32
}

// appendAlg appends name, length of the key in bits, what follows it, key.
func appendAlg(b []byte, name string, key []byte, more ...uint32) []byte {
	n := min(len(name), algName-1)
	b = zeros(append(b, name[:n]...), algName-n)
	b = native.AppendUint32(b, uint32(len(key)*8))
	for _, v := range more {
		b = native.AppendUint32(b, v)
	}
	return append(b, key...)
}

// parseAlg reads what appendAlg wrote, with more numbers between.
func parseAlg(v []byte, more int) (name string, key []byte, numbers [1]uint32, err error) {
	head := algName + 4 + 4*more
	if len(v) < head {
		return "", nil, numbers, fmt.Errorf("an algorithm of %d bytes, expected at least %d: %w", len(v), head, ErrShort)
	}
	text, _, _ := bytes.Cut(v[:algName], []byte{0})
	n := (uint64(native.Uint32(v[algName:])) + 7) / 8
	if n > uint64(len(v)-head) {
		return "", nil, numbers, fmt.Errorf("algorithm %q says that its key has %d bytes, and %d are there: %w", text, n, len(v)-head, ErrShort)
	}
	if more > 0 {
		numbers[0] = native.Uint32(v[algName+4:])
	}
	return string(text), bytes.Clone(v[head : head+int(n)]), numbers, nil
}

func (a *Alg) attr(b []byte, t attr) []byte {
	if a == nil {
		return b
	}
	return appendAttr(b, t, func(b []byte) []byte { return appendAlg(b, a.Name, a.Key) })
}

func (a *AuthAlg) attr(b []byte, t attr) []byte {
	if a == nil {
		return b
	}
	return appendAttr(b, t, func(b []byte) []byte { return appendAlg(b, a.Name, a.Key, a.Trunc) })
}

func (a *AEAD) attr(b []byte, t attr) []byte {
	if a == nil {
		return b
	}
	return appendAttr(b, t, func(b []byte) []byte { return appendAlg(b, a.Name, a.Key, a.ICV) })
}
