package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"oakley/internal/dataplane/xfrm/wire"
)

// kind is who carries the traffic.
type kind int

const (
	own kind = iota
	kernel
	auto // kernel if it can, else own
)

var kindWords = []string{own: "user", kernel: "kernel", auto: "auto"}

func (k *kind) Set(s string) error {
	for i, w := range kindWords {
		if s == w {
			*k = kind(i)
			return nil
		}
	}
	return fmt.Errorf("expected %s", strings.Join(kindWords, ", "))
}

func (k kind) String() string { return kindWords[k] }

func (*kind) Type() string { return "word" }

// mark is a flag of the form 0x10 or 0x10/0xff. Without a mask all bits count.
type mark struct{ to **wire.Mark }

func (m *mark) Set(s string) error {
	value, mask, masked := strings.Cut(s, "/")
	w := wire.Mark{Mask: 1<<32 - 1}
	v, err := strconv.ParseUint(value, 0, 32)
	if err == nil && masked {
		var n uint64
		n, err = strconv.ParseUint(mask, 0, 32)
		w.Mask = uint32(n)
	}
	if w.Value = uint32(v); err != nil {
		return errors.New("expected a number of 32 bits and perhaps a mask, as 7 or 0x10/0xff")
	}
	if w.Value&^w.Mask != 0 {
		return fmt.Errorf("the value has bits that are not in its mask %#x", w.Mask)
	}
	*m.to = &w
	return nil
}

func (m *mark) String() string {
	if m.to == nil || *m.to == nil {
		return ""
	}
	return fmt.Sprintf("%#x/%#x", (*m.to).Value, (*m.to).Mask)
}

func (*mark) Type() string { return "mark" }

// thresholds is a flag of the form 24/24: the lengths of two prefixes, each at
// most of so many bits.
type thresholds struct {
	to   **wire.Thresholds
	bits uint64
}

func (t *thresholds) Set(s string) error {
	l, r, _ := strings.Cut(s, "/")
	local, err := strconv.ParseUint(l, 10, 8)
	remote, err2 := strconv.ParseUint(r, 10, 8)
	if err != nil || err2 != nil || local > t.bits || remote > t.bits {
		return fmt.Errorf("expected the lengths of two prefixes, up to %d bits, as 24/24", t.bits)
	}
	*t.to = &wire.Thresholds{Local: uint8(local), Remote: uint8(remote)}
	return nil
}

func (t *thresholds) String() string {
	if t.to == nil || *t.to == nil {
		return ""
	}
	return fmt.Sprintf("%d/%d", (*t.to).Local, (*t.to).Remote)
}

func (*thresholds) Type() string { return "prefixes" }

var (
	_ pflag.Value = (*kind)(nil)
	_ pflag.Value = (*mark)(nil)
	_ pflag.Value = (*thresholds)(nil)
)
