package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// event logs what the engine tells people. Its words are the engine's; here is
// only the level and how often.
func (d *Daemon) event(out ike.Output) {
	switch e := out.(type) {
	case ike.Phase1Up:
		d.log.Info(e.String(), fieldEvent, "phase1-up", fieldPeer, e.Peer)
	case ike.Phase2Up:
		d.log.Info(e.String(), fieldEvent, "phase2-up", fieldConn, e.Conn, fieldPeer, e.Peer)
	case ike.Phase2Found:
		d.log.Info(e.String(), fieldEvent, "phase2-found", fieldConn, e.Conn, fieldPeer, e.Peer)
	case ike.Phase1Down:
		d.log.Info(e.String(), fieldEvent, "phase1-down", fieldPeer, e.Peer)
	case ike.Phase2Down:
		d.log.Info(e.String(), fieldEvent, "phase2-down", fieldConn, e.Conn, fieldPeer, e.Peer)
	case ike.Failed:
		d.limited(slog.LevelWarn, "failed "+e.Peer+" "+e.Conn, e.Remote.Addr(), e.String(),
			fieldEvent, "failed", fieldConn, e.Conn, fieldPeer, e.Peer)
	case ike.Dropped:
		d.limited(slog.LevelWarn, "dropped "+e.Fault.String(), e.Remote.Addr(), e.String(),
			fieldEvent, "dropped", fieldPeer, e.Peer)
	case ike.Notice:
		d.limited(slog.LevelWarn, "notice", e.Remote.Addr(), e.String(), fieldEvent, "notice", fieldPeer, e.Peer)
	default:
		d.log.Error(fmt.Sprintf("the engine wants what the daemon does not know: %T", out))
	}
}

// note writes a warning that the network can cause, bounded in number by cause
// and address.
func (d *Daemon) note(cause string, addr netip.Addr, text string) {
	d.limited(slog.LevelWarn, cause, addr, text, fieldEvent, cause)
}

func (d *Daemon) limited(level slog.Level, cause string, addr netip.Addr, text string, fields ...any) {
	held, ok := d.limit.allow(time.Now(), cause, addr)
	if !ok {
		d.log.Debugf(ClassMisc, levelAll, "held back: %s", text)
		return
	}
	if n := d.limit.forgotten(); n > 0 {
		d.log.Warn(fmt.Sprintf("%d lines about datagrams of many addresses were held back", n))
	}
	if held > 0 {
		first, rest, more := strings.Cut(text, "\n")
		text = fmt.Sprintf("%s (and %d times before, not logged)", first, held)
		if more {
			text += "\n" + rest
		}
	}
	d.log.Log(context.Background(), level, text, fields...)
}

// traceIn and traceOut show messages as they are on the wire: a clear one whole,
// of an encrypted one the header.
func (d *Daemon) traceIn(dg ike.Datagram) {
	d.log.Debugf(ClassTransport, levelAll, "%d bytes from %s to %s", len(dg.Data), dg.Remote, dg.Local)
	if d.log.Debugs(ClassMessage, levelState) {
		d.log.Debugf(ClassMessage, levelState, "received from %s: %s", dg.Remote, describe(dg.Data))
	}
}

func (d *Daemon) traceOut(o ike.Transmit) {
	d.log.Debugf(ClassTransport, levelAll, "%d bytes from %s to %s", len(o.Data), o.Local, o.Remote)
	if d.log.Debugs(ClassMessage, levelState) {
		d.log.Debugf(ClassMessage, levelState, "sent to %s: %s", o.Remote, describe(o.Data))
	}
}

func describe(b []byte) string {
	h, err := isakmp.ParseHeader(b)
	if err != nil {
		return "no ISAKMP message: " + err.Error()
	}
	if h.Flags&isakmp.FlagEncrypted != 0 {
		return h.String()
	}
	m, err := isakmp.Parse(b)
	if err != nil {
		return h.String() + ": " + err.Error()
	}
	return m.String()
}

// connOf is the connection whose flow this is: the inverse of ipsec.FlowName.
func connOf(f ipsec.FlowID) string {
	s := string(f)
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i]
	}
	return s
}
