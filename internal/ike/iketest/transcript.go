package iketest

import (
	"fmt"
	"regexp"
	"strings"

	"oakley/internal/ike"
)

// note writes a line about a datagram that leaves its sender.
func (w *World) note(p *Packet) {
	if !w.Transcript || p.Sender == nil {
		return
	}
	s := w.observer.Of(p.Data)
	again, text := "", "?"
	if s != nil {
		text = s.String()
		if s.Repeat > 0 {
			again = " again"
		}
		if s.Step > 0 {
			text = fmt.Sprintf("%s %d%s: %s", s.Exchange, s.Step, again, text)
		} else {
			text = fmt.Sprintf("%s%s: %s", s.Exchange, again, text)
		}
	}
	w.lines = append(w.lines, fmt.Sprintf("%s %s %s > %s %d bytes\n\t%s", w.Since(), p.Sender.Name, p.From, p.To, len(p.Data), text))
}

// remark writes an event between the datagrams.
func (w *World) remark(n *Node, o ike.Output) {
	text := fmt.Sprintf("%T", o)
	if s, ok := o.(fmt.Stringer); ok {
		text = s.String()
	}
	w.lines = append(w.lines, fmt.Sprintf("%s %s says\n\t%s", w.Since(), n.Name, strings.ReplaceAll(text, "\n", "\n\t")))
}

// Lines is the transcript. Cookies and message IDs have names in the order in
// which they came, so that it does not change with every random number.
func (w *World) Lines() string {
	text := strings.Join(w.lines, "\n")
	if text == "" {
		return ""
	}
	names := map[string]string{"0000000000000000": "none"}
	text = cookies.ReplaceAllStringFunc(text, func(s string) string { return named(names, s, "cookie") })
	ids := map[string]string{}
	return messageIDs.ReplaceAllStringFunc(text, func(s string) string {
		return "msgid " + named(ids, strings.TrimPrefix(s, "msgid "), "#")
	}) + "\n"
}

var (
	cookies    = regexp.MustCompile(`\b[0-9a-f]{16}\b`)
	messageIDs = regexp.MustCompile(`\bmsgid [0-9a-f]{8}\b`)
)

func named(names map[string]string, s, prefix string) string {
	if names[s] == "" {
		names[s] = fmt.Sprintf("%s%d", prefix, len(names))
	}
	return names[s]
}
