// Package ipsecd is the control socket of the user-space stack as a process: a
// server around a data plane, and a client that is a data plane itself. SAs and
// flows live in the server and outlive the clients.
//
// Both sides send frames: four bytes of length and a JSON document, which has a
// bound. A client asks, the server answers with the request's number, in any
// order; an answer may come in pages. Events come unasked to clients that
// registered for their kind. A connection that begins by asking for IKE's side of
// the encapsulation port, or to watch, carries that and nothing else.
package ipsecd

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// version is that of the protocol: both sides have to have the same.
const version = 3

// maxFrame bounds a frame in bytes. A transaction of flows is the largest
// request.
const maxFrame = 8 << 20

// pageSize is how many SAs or flows one answer to a dump lists.
const pageSize = 500

// operation is what a request asks for.
type operation string

const (
	opHello      operation = "hello"
	opAlloc      operation = "alloc-spi"
	opAdd        operation = "add-sa"
	opUpdate     operation = "update-sa"
	opDelete     operation = "delete-sa"
	opGet        operation = "get-sa"
	opFlows      operation = "apply-flows"
	opEndAcquire operation = "end-acquire"
	opDump       operation = "dump"
	opFlush      operation = "flush"
	opTotals     operation = "totals"
	opEnable     operation = "enable"
	opRegister   operation = "register"
	opEncap      operation = "encap"
	opMonitor    operation = "monitor"
)

// Events are kinds of events, added up.
type Events uint8

// Kinds of events. Whoever takes Acquires has to answer each, or to end: one that
// nobody answers holds its flow's packets back until it is given up. Who takes
// Expiries is also told when another client deletes an SA, as a hard one, and gets
// Lost when another flushes or removes flows. Otherwise Lost is told to all that
// take any.
const (
	Acquires Events = 1 << iota
	Expiries
	Mappings

	NoEvents  Events = 0
	AllEvents        = Acquires | Expiries | Mappings
)

// request is what a client sends. What its operation does not need is absent.
type request struct {
	ID      uint64
	Op      operation
	Version int                   `json:",omitempty"`
	SPI     *dataplane.SPIRequest `json:",omitempty"`
	SA      *ipsec.SA             `json:",omitempty"`
	Name    *ipsec.SAID           `json:",omitempty"`
	Update  *ipsec.SAUpdate       `json:",omitempty"`
	Flows   flowChanges           `json:",omitempty"`
	Acquire dataplane.AcquireID   `json:",omitempty"`
	Failed  string                `json:",omitempty"` // of an acquire; empty: SAs are there
	Query   *dataplane.Query      `json:",omitempty"`
	Owner   ipsec.Owner           `json:",omitempty"`
	Proto   ipsec.Proto           `json:",omitempty"`
	On      bool                  `json:",omitempty"`
	Local   netip.AddrPort        `json:",omitzero"`
	Events  Events                `json:",omitempty"`
}

// answer is what the server sends: to a request, or an event when ID is 0.
type answer struct {
	ID      uint64          `json:",omitempty"`
	Kind    kind            `json:",omitempty"` // of an error
	Error   string          `json:",omitempty"`
	More    bool            `json:",omitempty"` // another page follows
	Version int             `json:",omitempty"`
	Info    *dataplane.Info `json:",omitempty"`
	// Transient: the process ends when there is neither a client nor anything to
	// keep.
	Transient bool              `json:",omitempty"`
	SPI       ipsec.SPI         `json:",omitempty"`
	SA        *ipsec.SAState    `json:",omitempty"`
	State     *dataplane.State  `json:",omitempty"`
	Event     *event            `json:",omitempty"`
	Totals    *dataplane.Totals `json:",omitempty"`
	Others    int               `json:",omitempty"` // with Totals: clients of other processes
}

// maxChanges bounds a transaction of flows: a few bytes of JSON can stand for much
// memory.
const maxChanges = 1 << 16

// flowChanges is a transaction over the SPD.
type flowChanges []ipsec.FlowChange

// UnmarshalJSON stops where there are too many.
func (c *flowChanges) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("flows are %v, expected a list", t)
	}
	for *c = nil; d.More(); {
		if len(*c) >= maxChanges {
			return fmt.Errorf("more than %d changes of flows in one request", maxChanges)
		}
		var one ipsec.FlowChange
		if err := d.Decode(&one); err != nil {
			return err
		}
		*c = append(*c, one)
	}
	return nil
}

// first tells whether a connection may begin with a request.
func (r *request) first() bool {
	return r.Op == opHello || r.Op == opEncap || r.Op == opMonitor
}

// event is one of its fields.
type event struct {
	Acquire *dataplane.Acquire `json:",omitempty"`
	Expire  *dataplane.Expire  `json:",omitempty"`
	Mapping *dataplane.Mapping `json:",omitempty"`
	Lost    bool               `json:",omitempty"`
}

// datagram is one of IKE on the encapsulation port, either way. An empty one from
// the client is a keepalive.
type datagram struct {
	Local, Remote netip.AddrPort
	Data          []byte
}

// kind names the errors that callers tell apart.
type kind string

var kinds = []struct {
	kind kind
	err  error
}{
	{"no-sa", dataplane.ErrNoSA},
	{"exists", dataplane.ErrExists},
	{"no-flow", dataplane.ErrNoFlow},
	{"unsupported", dataplane.ErrUnsupported},
	{"closed", dataplane.ErrClosed},
}

func kindOf(err error) kind {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.kind
		}
	}
	return ""
}

// remoteError is an error of the server's side.
type remoteError struct {
	text string
	kind kind
}

func (e *remoteError) Error() string { return e.text }

// Is tells whether it is one of the errors that callers tell apart.
func (e *remoteError) Is(target error) bool {
	for _, k := range kinds {
		if k.kind == e.kind {
			return target == k.err
		}
	}
	return false
}

// readFrame reads a document into v and tells its length. What the other side
// claims to be longer than a frame may be is refused unread; memory grows with what
// has come. Fields that v does not have are an error, and so is what follows.
func readFrame(r io.Reader, v any) (int, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return 0, fmt.Errorf("a frame of %d bytes: %d is the most", n, maxFrame)
	}
	var b bytes.Buffer
	if k, err := io.CopyN(&b, r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, fmt.Errorf("a frame of %d bytes ends after %d: %w", n, k, err)
	}
	d := json.NewDecoder(&b)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return 0, fmt.Errorf("a frame that is no %s: %w", nameOf(v), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("a frame in which more follows the %s", nameOf(v))
	}
	return int(n), nil
}

// nameOf is what people call a document.
func nameOf(v any) string {
	switch v.(type) {
	case *request:
		return "request"
	case *answer:
		return "answer"
	case *datagram:
		return "datagram"
	}
	return "message"
}

// frame is a document as it is sent.
func frame(v any) ([]byte, error) {
	doc, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(doc) > maxFrame {
		return nil, fmt.Errorf("%d bytes for the data plane's socket: %d is the most", len(doc), maxFrame)
	}
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(doc)), uint32(len(doc))), doc...), nil
}
