package daemon

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Class is a debug class of isakmpd(8) -D.
type Class uint8

// Debug classes.
const (
	ClassMisc Class = iota
	ClassTransport
	ClassMessage
	ClassCrypto
	ClassTimer
	ClassSysdep
	ClassSA
	ClassExchange
	ClassNegotiation
	ClassPolicy
	ClassUI
	ClassEnd
)

var classNames = [ClassEnd]string{
	"misc", "transport", "message", "crypto", "timer", "sysdep", "sa", "exchange", "negotiation", "policy", "ui",
}

func (c Class) String() string { return classNames[c] }

// Levels is a debug level, 0 to 99, for each class.
type Levels [ClassEnd]uint8

// Levels at which the lines of each class appear. Lower is rarer and coarser.
const (
	levelState   = 10 // what changed
	levelStep    = 30 // what is being done
	levelDetail  = 50 // with what
	levelAll     = 70 // every datagram and request
	levelTrivial = 90 // timers
)

// MaxLevel is the highest debug level.
const MaxLevel = 99

// Set applies what one -D says: CLASS=LEVEL, where CLASS is a number, a class's
// name or A for all.
func (l *Levels) Set(s string) error {
	class, level, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("debug level %q has no \"=\": CLASS=LEVEL is wanted, as in -D 8=50 or -D A=99", s)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(level), 10, 8)
	if err != nil || n > MaxLevel {
		return fmt.Errorf("debug level %q of %q is not a number from 0 to %d", level, s, MaxLevel)
	}
	class = strings.TrimSpace(class)
	if class == "A" {
		for c := range l {
			l[c] = uint8(n)
		}
		return nil
	}
	c := slices.IndexFunc(classNames[:], func(name string) bool { return strings.EqualFold(name, class) })
	if v, err := strconv.ParseUint(class, 10, 8); err == nil {
		c = int(v)
	}
	if c < 0 || c >= int(ClassEnd) {
		return fmt.Errorf("there is no debug class %q: classes are %s, or A for all", class, classList())
	}
	l[c] = uint8(n)
	return nil
}

func classList() string {
	names := make([]string, ClassEnd)
	for c, name := range classNames {
		names[c] = fmt.Sprintf("%d %s", c, name)
	}
	return strings.Join(names, ", ")
}
