package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Of many who come at once one gets the turn; the others hear that somebody
// listens.
func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first []*os.File
		errs  []error
	)
	for range 8 {
		wg.Go(func() {
			f, err := takeTurn(path)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			first = append(first, f)
			l, err := listen(path, -1)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { l.Close() })
		})
	}
	wg.Wait()
	if len(first) != 1 {
		t.Fatalf("%d have it", len(first))
	}
	defer first[0].Close()
	for _, err := range errs {
		if !strings.Contains(err.Error(), "another ipsecd listens there") {
			t.Error(err)
		}
	}
}

// One who goes is waited for, also when there is a moment in which he can still be
// reached.
func TestWaitsForOneWhoGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	old, err := takeTurn(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan bool)
	go func() {
		c, err := l.Accept()
		if err == nil {
			c.Close()
		}
		l.Close()
		close(reached)
	}()
	next := make(chan error, 1)
	go func() {
		f, err := takeTurn(path)
		if err == nil {
			f.Close()
		}
		next <- err
	}()
	select {
	case <-reached:
	case <-time.After(patience):
		t.Fatal("nobody asks whether the old one listens")
	}
	old.Close()
	if err := <-next; err != nil {
		t.Error(err)
	}
}
