package ipsecd

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
)

func FuzzServer(f *testing.F) {
	hello, _ := frame(&request{ID: 1, Op: opHello, Version: version})
	add, _ := frame(&request{ID: 2, Op: opAdd, SA: someSA(0x1234)})
	flows, _ := frame(&request{ID: 3, Op: opFlows, Flows: []ipsec.FlowChange{{Flow: ipsec.Flow{ID: "x/out"}}}})
	dump, _ := frame(&request{ID: 4, Op: opDump, Query: &dataplane.Query{Keys: true}})
	f.Add(hello)
	f.Add(append(append(append(append([]byte{}, hello...), add...), flows...), dump...))
	path, _ := serve(f, null.New(null.Options{}))
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: path})
		if err != nil {
			return // more connections than a moment can take
		}
		defer conn.Close()
		_, _ = conn.Write(sent)
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the connection stays")
		}
	})
}
