package vmtest

import (
	"encoding/json"
	"io"
	"sync"
)

// message is what the guest says to us, a line of JSON each on its second
// serial port. The kernel's console is the first, so that neither disturbs the
// other.
type message struct {
	Kind string
	Text []byte   `json:",omitempty"`
	End  *outcome `json:",omitempty"`
}

// Kinds of message.
const (
	sayUp   = "up"   // the first process runs, modules are loaded
	sayBeat = "beat" // it still runs; four times a second of the guest's time
	sayOut  = "out"  // the tests wrote Text
	sayEnd  = "end"  // the tests ended, and nothing follows
)

// outcome is how the guest's tests ended.
type outcome struct {
	Status    int    // exit status of the test program; 128 + the signal that killed it
	Trouble   string // what the first process could not do, or ""
	Kernel    string // the last of the kernel's log, if something failed
	MemFree   int64  // bytes, at the end
	MemAll    int64
	Boot      float64 // seconds from the kernel's start to the first process
	Preparing float64 // seconds from there to the start of the tests
}

// speaker sends messages; several goroutines may use it.
type speaker struct {
	mu    sync.Mutex
	w     io.Writer
	drain func() error // waits until all that was said has left the machine
}

func (s *speaker) say(m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.w.Write(append(b, '\n'))
	return err
}
