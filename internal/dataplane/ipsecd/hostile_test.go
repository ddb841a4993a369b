package ipsecd

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"oakley/internal/dataplane/null"
	"oakley/internal/lab"
)

// hostile says what a broken client may send; the server ends that connection
// and no other.
func TestHostileClients(t *testing.T) {
	path, s := serve(t, null.New(null.Options{}))
	good := dial(t, path)
	hello, err := frame(&request{ID: 1, Op: opHello, Version: version})
	must(t, err)
	length := func(n uint32, rest string) string {
		return string(binary.BigEndian.AppendUint32(nil, n)) + rest
	}
	for name, sent := range map[string]string{
		"rubbish":          "GET / HTTP/1.1\r\n\r\n",
		"a long frame":     length(maxFrame+1, ""),
		"a huge frame":     length(1<<32-1, "{}"),
		"no document":      length(2, "no"),
		"unknown fields":   length(11, `{"Nope": 1}`),
		"no hello":         length(26, `{"ID": 1, "Op": "add-sa" }`),
		"another version":  length(40, `{"ID": 1, "Op": "hello", "Version": 999}`),
		"rubbish after it": string(hello) + length(3, "[]}"),
		"more in a frame":  length(uint32(len(hello)-4+2), string(hello[4:])+"{}"),
		"half a length":    "\x00\x00",
		"half a frame":     string(hello[:len(hello)-3]),
		"deep nesting":     length(20000, strings.Repeat("[", 20000)),
	} {
		conn, err := net.Dial("unix", path)
		must(t, err)
		_, err = io.WriteString(conn, sent)
		must(t, err)
		if strings.HasPrefix(name, "half") {
			must(t, conn.(*net.UnixConn).CloseWrite())
		}
		must(t, conn.SetDeadline(time.Now().Add(patience)))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays", name)
		}
		conn.Close()
	}
	// Operations that lack what they need are answered.
	conn, err := net.Dial("unix", path)
	must(t, err)
	defer conn.Close()
	_, err = conn.Write(hello)
	must(t, err)
	for i, op := range []operation{opAlloc, opAdd, opUpdate, opDelete, opGet, opDump, opHello, opEncap, opMonitor, "dance"} {
		f, err := frame(&request{ID: uint64(i + 2), Op: op})
		must(t, err)
		_, err = conn.Write(f)
		must(t, err)
	}
	for range 11 {
		var a answer
		_, err := readFrame(conn, &a)
		must(t, err)
		if a.ID != 1 && a.Error == "" {
			t.Errorf("request %d was carried out", a.ID)
		}
	}
	must(t, good.AddSA(ctx, someSA(0x2000)))
	lab.Eventually(t, patience, "only the good ones are left", func() bool { return s.Clients() == 2 })
}
