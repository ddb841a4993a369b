package main

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keynote": main})
}

// TestScripts reads like sessions at the shell; see testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":  status,
			"mode":    mode,
			"join":    join,
			"example": example,
		},
	})
}

// status runs a program and demands an exit status: status 1 keynote sign.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status number program [argument...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%v ended with %d, not %d", args[1:], got, want)
	}
}

// mode demands the permissions of a file: mode 0600 private.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode octal file")
	}
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	if got := fileMode(ts, args[1]); got != uint32(want) {
		ts.Fatalf("%s has mode %#o, not %#o", args[1], got, want)
	}
}

var reference = regexp.MustCompile(`\$\(([a-z0-9.-]+)\)`)

func fileMode(ts *testscript.TestScript, name string) uint32 {
	info, err := os.Stat(ts.MkAbs(name))
	ts.Check(err)
	return uint32(info.Mode().Perm())
}

// join writes a file from a template in which $(NAME) stands for what is in
// another file, as the shell's $(cat NAME) does: join template result.
func join(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: join template result")
	}
	text := reference.ReplaceAllStringFunc(ts.ReadFile(args[0]), func(m string) string {
		return strings.TrimRight(ts.ReadFile(reference.FindStringSubmatch(m)[1]), "\n")
	})
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}
