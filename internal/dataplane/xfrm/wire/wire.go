// Package wire reads and writes the messages by which Linux is told of IPsec:
// those of a NETLINK_XFRM socket, without the netlink header. Numbers, sizes and
// the order of fields are those of the kernel's linux/xfrm.h, which never change.
//
// Nothing here opens a socket. Whatever the bytes, Parse functions neither panic
// nor take more memory than the bytes they were given.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Type is the type of a netlink message.
type Type uint16

// Message types.
const (
	NewSA        Type = 0x10
	DelSA        Type = 0x11
	GetSA        Type = 0x12
	NewPolicy    Type = 0x13
	DelPolicy    Type = 0x14
	GetPolicy    Type = 0x15
	AllocSPI     Type = 0x16
	MsgAcquire   Type = 0x17
	MsgExpire    Type = 0x18
	UpdPolicy    Type = 0x19
	UpdSA        Type = 0x1a
	PolExpire    Type = 0x1b
	FlushSA      Type = 0x1c
	FlushPolicy  Type = 0x1d
	NewAE        Type = 0x1e
	GetAE        Type = 0x1f
	MsgReport    Type = 0x20
	MsgMigrate   Type = 0x21
	NewSADInfo   Type = 0x22
	GetSADInfo   Type = 0x23
	NewSPDInfo   Type = 0x24
	GetSPDInfo   Type = 0x25
	MsgMapping   Type = 0x26
	SetDefault   Type = 0x27
	GetDefault   Type = 0x28
	firstMessage      = NewSA
)

var typeNames = [...]string{
	"NEWSA", "DELSA", "GETSA", "NEWPOLICY", "DELPOLICY", "GETPOLICY", "ALLOCSPI", "ACQUIRE", "EXPIRE", "UPDPOLICY",
	"UPDSA", "POLEXPIRE", "FLUSHSA", "FLUSHPOLICY", "NEWAE", "GETAE", "REPORT", "MIGRATE", "NEWSADINFO",
	"GETSADINFO", "NEWSPDINFO", "GETSPDINFO", "MAPPING", "SETDEFAULT", "GETDEFAULT",
}

func (t Type) String() string {
	if i := int(t) - int(firstMessage); i >= 0 && i < len(typeNames) {
		return "XFRM_MSG_" + typeNames[i]
	}
	return fmt.Sprintf("netlink message %d", uint16(t))
}

// Group is a multicast group of events.
type Group uint32

// Groups.
const (
	GroupAcquire Group = 1
	GroupExpire  Group = 2
	GroupSA      Group = 3
	GroupPolicy  Group = 4
	GroupAEvents Group = 5
	GroupMapping Group = 8
)

// Address families as the kernel numbers them.
const (
	FamilyNone  uint16 = 0
	FamilyIPv4  uint16 = 2
	FamilyIPv6  uint16 = 10
	addrSize           = 16
	selSize            = 56
	lifeSize           = 64
	curSize            = 32
	statsSize          = 12
	saSize             = 224
	said               = 24
	policySize         = 168
	tmplSize           = 64
	policyIDLen        = 64
)

// Mode of an SA or a template.
type Mode uint8

// Modes that we use.
const (
	ModeTransport Mode = 0
	ModeTunnel    Mode = 1
)

// Flags of an SA.
const (
	FlagNoECN     uint8 = 1
	FlagDecapDSCP uint8 = 2
	FlagNoPMTU    uint8 = 4
	FlagWildRecv  uint8 = 8
	FlagICMP      uint8 = 16
	FlagAFUnspec  uint8 = 32 // the selector is of no family, and fits both
	FlagAlign4    uint8 = 64
	FlagESN       uint8 = 128
)

// Extra flags of an SA.
const (
	ExtraDontEncapDSCP uint32 = 1
	ExtraSeqMayWrap    uint32 = 2
)

// Infinite is a limit that is none.
const Infinite = ^uint64(0)

// ErrShort: a message or an attribute ends before what must be in it.
var ErrShort = errors.New("the message ends too early")

var (
	native = binary.NativeEndian
	net    = binary.BigEndian
)

// pad makes b as long as a multiple of 4.
func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func zeros(b []byte, n int) []byte { return append(b, make([]byte, n)...) }
