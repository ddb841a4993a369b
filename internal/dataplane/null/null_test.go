package null_test

import (
	"net/netip"
	"testing"

	"oakley/internal/dataplane/null"
	"oakley/internal/dataplane/planetest"
)

func TestConformance(t *testing.T) {
	planetest.RunWithoutTraffic(t, func(t *testing.T) *planetest.Harness {
		return &planetest.Harness{
			A: &planetest.Site{Backend: null.New(null.Options{}), Addr: netip.MustParseAddr("192.0.2.1")},
			B: &planetest.Site{Backend: null.New(null.Options{}), Addr: netip.MustParseAddr("192.0.2.2")},
		}
	})
	t.Logf("\n%s", planetest.Table())
}
