package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"oakley/internal/lab"
)

// TestExplainWithCertificates that openssl makes.
func TestExplainWithCertificates(t *testing.T) {
	lab.Need(t, "openssl")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/openssl", RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status},
	})
}
