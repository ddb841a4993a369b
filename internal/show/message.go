package show

import (
	"fmt"
	"io"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// stories say what a message is about, after its action.
var stories = map[dataplane.Action]func(*dataplane.Message) string{
	dataplane.ActionGetSPI:     aboutSA,
	dataplane.ActionAdd:        aboutSA,
	dataplane.ActionUpdate:     aboutSA,
	dataplane.ActionDelete:     aboutSA,
	dataplane.ActionAddFlow:    aboutFlow,
	dataplane.ActionDeleteFlow: aboutFlow,
	dataplane.ActionFlush: func(m *dataplane.Message) string {
		if m.Owner == ipsec.OwnerAny {
			return "all SAs and flows"
		}
		return "SAs and flows made by " + owner(m.Owner)
	},
	dataplane.ActionSwitch: func(m *dataplane.Message) string {
		if m.On {
			return m.Proto.String() + " on"
		}
		return m.Proto.String() + " off"
	},
	dataplane.ActionAcquire: func(m *dataplane.Message) string {
		return fmt.Sprintf("for a packet %s: %s", selector(&m.Packet), aboutFlow(m))
	},
	dataplane.ActionExpire: func(m *dataplane.Message) string {
		if m.Hard {
			return "hard, it is gone: " + aboutSA(m)
		}
		return "soft, time for another: " + aboutSA(m)
	},
	dataplane.ActionMapping: aboutSA,
	dataplane.ActionMissed: func(m *dataplane.Message) string {
		return many(m.Missed, "message") + " came faster than they were read"
	},
}

// Message prints one thing that happened, on one line.
func Message(w io.Writer, m dataplane.Message) {
	var p page
	p.printf("%s %s", m.At.Format("2006-01-02 15:04:05.000000"), text(string(m.Action)))
	if story := stories[m.Action]; story != nil {
		p.printf(" %s", story(&m))
	}
	if m.PID != 0 {
		p.printf(" (pid %d)", m.PID)
	}
	if m.Error != "" {
		p.printf(" refused: %s", text(m.Error))
	}
	p.printf("\n")
	p.to(w)
}

func aboutSA(m *dataplane.Message) string {
	id := &m.ID
	s := fmt.Sprintf("%s %s to %s spi %s%s", id.Dir, id.Proto, addr(id.Dst, "any"), spi(id.SPI), port(id.Port))
	if m.SA != nil {
		s = fmt.Sprintf("%s %s", m.SA.ID.Dir, saLine(m.SA))
	}
	if m.Remote.IsValid() {
		s += fmt.Sprintf(", the peer is at %s port %d now", m.Remote.Addr(), m.Remote.Port())
	}
	return s
}

func aboutFlow(m *dataplane.Message) string {
	if m.Flow == nil {
		return "one that the message does not name"
	}
	// What is taken away is known by its name alone.
	if !m.Flow.Selector.Src.IsValid() && !m.Flow.Selector.Dst.IsValid() {
		return "flow " + word(string(m.Flow.ID))
	}
	return flowLine(m.Flow)
}
