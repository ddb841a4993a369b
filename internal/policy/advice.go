package policy

import (
	"slices"
	"strings"

	"oakley/internal/keynote"
)

// advices are what can be done about a refusal, each once.
type advices []string

func (a *advices) add(s string) {
	if s != "" && !slices.Contains(*a, s) {
		*a = append(*a, s)
	}
}

func (a advices) lines() []string {
	lines := make([]string, len(a))
	for i, s := range a {
		lines[i] = "what to do: " + s
	}
	return lines
}

// What to do about attributes of which each protocol has one.
const (
	suiteRemedy = "let both peers' Suites= in isakmpd.conf have what the test asks for, or change the test"
	lifeRemedy  = "let both peers propose such a lifetime (Default-phase-2-lifetime= in [General] of isakmpd.conf, or Life= of the transforms), or change the test"
	modeRemedy  = "let both peers' Suites= in isakmpd.conf be of that mode, or change the test; behind a NAT a mode has udp-encap- before it"
)

// remedies are what to do about a test of an attribute, by the beginnings of the
// names of attributes; the first that fits counts.
var remedies = []struct{ prefix, what string }{
	{"app_domain", `app_domain is always "IPsec policy": correct the test`},
	{"doi", `doi is always "ipsec": correct the test`},
	{"initiator", "let the other side begin, or take the test out"},
	{"phase_1", "use the other mode in phase 1 (the Configuration= of the peer in isakmpd.conf), or change the test"},
	{"phase1_group", "use another group in phase 1 (the Transforms= of the peer's Configuration= in isakmpd.conf), or change the test"},
	{"pfs", "put suites with PFS, as QM-ESP-AES-128-SHA2-256-PFS-GRP14-SUITE, into the Suites= of both peers' isakmpd.conf, or change the test"},
	{"ah_life", lifeRemedy},
	{"esp_life", lifeRemedy},
	{"comp_life", lifeRemedy},
	{"ah_encapsulation", modeRemedy},
	{"esp_encapsulation", modeRemedy},
	{"comp_encapsulation", modeRemedy},
	{"ah_", suiteRemedy},
	{"esp_", suiteRemedy},
	{"comp_", suiteRemedy},
	{"remote_filter", "the tunnel is for other networks than the test allows: correct the Remote-ID= of the connection here and the Local-ID= at the peer, or the test"},
	{"local_filter", "the tunnel is for other networks than the test allows: correct the Local-ID= of the connection here and the Remote-ID= at the peer, or the test"},
	{"remote_id", "name the identity with which the peer came (its ID= in isakmpd.conf) in the test, if it may have the tunnel"},
	{"remote_negotiation", "the peer comes from another address than the test allows: correct the test if it may"},
	{"local_negotiation", "the peer came to another of our addresses than the test allows: correct the test if it may"},
	{"remote_ike", "the peer comes from another address than the test allows: correct the test if it may"},
	{"local_ike", "the peer came to another of our addresses than the test allows: correct the test if it may"},
	{"GMTTimeOfDay", "it is another time than the test allows: wait, or change it (times are in UTC)"},
	{"LocalTimeOfDay", "it is another time than the test allows: wait, or change it (times are this machine's local ones)"},
}

// advise collects what can be done about a test that failed.
func advise(a *keynote.Assertion, f *keynote.Failure, advice *advices) {
	if a.Source() == keynote.Pseudo {
		advice.add("the certificate is not valid at this time: see to a new one, or to this machine's clock")
		return
	}
	if f.Holds {
		advice.add(`write "` + clean(f.Wanted) + `" behind the -> of a test that is to allow the tunnel`)
		return
	}
	for _, o := range f.Operands {
		name := strings.TrimLeft(o.Text, "@& ")
		if o.Unset {
			advice.add("there is no attribute " + clean(name) + ": look for its name in isakmpd.policy(5), or put it in quotes if it is a value")
			continue
		}
		for _, r := range remedies {
			if strings.HasPrefix(name, r.prefix) {
				advice.add(r.what)
				break
			}
		}
	}
}
