package isakmp

import (
	"bytes"
	"errors"
	"testing"
)

func seed(f *testing.F, add func(datagram []byte)) {
	var ps []Payload
	for _, s := range samples() {
		ps = append(ps, s.payload)
		add(message(s.payload))
	}
	add(message(ps...))
	add(firstMessage())
	for _, list := range [][]malformed{malformedHeaders(), malformedChains(), malformedSAs(), malformedOthers()} {
		for _, c := range list {
			if len(c.bytes) < 4096 {
				add(c.bytes)
			}
		}
	}
}

// checkRefused holds what every refusal holds.
func checkRefused(t *testing.T, m *Message, err error, size int) {
	var e *Error
	if m != nil || !errors.As(err, &e) {
		t.Fatalf("refused with %T %v and message %v", err, err, m)
	}
	if e.Offset < 0 || e.Offset > size || !e.Notify.IsError() {
		t.Fatalf("offset %d of %d bytes, notification %s", e.Offset, size, e.Notify)
	}
	printable(t, err.Error())
}

// FuzzParse: any datagram is refused with an error that can be answered, or is
// a message that is appended again byte for byte.
func FuzzParse(f *testing.F) {
	seed(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		m, err := Parse(b)
		if !bytes.Equal(b, before) {
			t.Fatal("parsing changed the datagram")
		}
		if err != nil {
			checkRefused(t, m, err, len(b))
			return
		}
		if got := m.Append(nil); !bytes.Equal(got, b) {
			t.Fatalf("appended again it is\n%x, it was\n%x", got, b)
		}
		checkBytes(t, m, b[HeaderLen:])
		printable(t, m.String())
	})
}

// FuzzParseDecrypted: the same of what decryption with any key may yield, where
// padding may follow.
func FuzzParseDecrypted(f *testing.F) {
	seed(f, func(b []byte) {
		if len(b) < HeaderLen {
			return
		}
		f.Add(b[:HeaderLen], b[HeaderLen:])
		f.Add(b[:HeaderLen], append(bytes.Clone(b[HeaderLen:]), 0, 0, 0, 3))
	})
	f.Fuzz(func(t *testing.T, header, body []byte) {
		h, err := ParseHeader(header)
		if err != nil {
			return
		}
		m, err := ParseDecrypted(h, body)
		if err != nil {
			checkRefused(t, m, err, HeaderLen+len(body))
			return
		}
		end := 0
		for i := range m.Payloads {
			end += len(m.Raw(i))
		}
		if rest := len(body) - end; rest < 0 || rest > maxPadding {
			t.Fatalf("%d bytes of padding", rest)
		}
		checkBytes(t, m, body[:end])
		printable(t, m.String())
	})
}
