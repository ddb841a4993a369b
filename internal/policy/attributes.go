package policy

import (
	"maps"
	"slices"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// Attribute is one thing that the conditions of a policy can ask about.
type Attribute struct {
	Name string
	// Values are all that it can have, where they can be told; "" is among them
	// where it stands for a protocol that the proposal has not.
	Values []string
	// Form says what it looks like where they cannot.
	Form Form

	of func(*facts) string
}

// Form is what the value of an attribute looks like.
type Form uint8

// Forms.
const (
	FormWord     Form = iota // one of Values
	FormNumber               // decimal digits
	FormAddress              // zero-padded; the first or last one of a range, or one alone
	FormRange                // an address, two with a dash between them, or a name
	FormProtocol             // etherip, tcp, udp or a number
	FormTime                 // YYYYMMDDHHmmSS
)

// The one value of app_domain, and another that a widely copied text prints.
const (
	appDomainAttribute = "app_domain"
	appDomain          = "IPsec policy"
	otherAppDomain     = "IPSec policy"
)

// facts are a query as the table wants it.
type facts struct {
	*Query
	ah, esp, comp   *Protocol // nil when not in the proposal
	local, remote   Filter
	identity        Filter
	utc, localClock time.Time
}

func (q *Query) facts() *facts {
	f := &facts{Query: q, identity: q.Identity.Filter(), local: q.Local, remote: q.Remote, utc: q.Now.UTC(), localClock: q.Now}
	if f.local.Type == 0 {
		f.local = host(q.LocalAddr)
	}
	if f.remote.Type == 0 {
		f.remote = host(q.RemoteAddr)
	}
	for i := range q.Protocols {
		p := &q.Protocols[i]
		switch p.Proto {
		case doi.ProtoAH:
			f.ah = p
		case doi.ProtoESP:
			f.esp = p
		case doi.ProtoIPComp:
			f.comp = p
		}
	}
	return f
}

// protocols are the prefixes of attributes that each protocol has.
var protocols = []struct {
	prefix, name string
	of           func(*facts) *Protocol
}{
	{"ah", "AH", func(f *facts) *Protocol { return f.ah }},
	{"esp", "ESP", func(f *facts) *Protocol { return f.esp }},
	{"comp", "IPComp", func(f *facts) *Protocol { return f.comp }},
}

// ofProtocol are the attributes of a protocol, without the prefix, and what they
// are where the proposal has no such protocol.
var ofProtocol = []struct {
	suffix string
	only   []string // prefixes; none: all
	values []string
	form   Form
	absent string
	of     func(*facts, *Protocol) string
}{
	{suffix: "present", values: yesOrNo, absent: "no", of: func(*facts, *Protocol) string { return "yes" }},
	{suffix: "hash_alg", only: []string{"ah"}, values: words(ahHashes), of: func(_ *facts, p *Protocol) string { return ahHashes[doi.AH(p.ID)] }},
	{suffix: "enc_alg", only: []string{"esp"}, values: words(espNames()), of: func(_ *facts, p *Protocol) string { return espAlgorithms[doi.ESP(p.ID)].name }},
	{suffix: "enc_mode", only: []string{"esp"}, values: words(espModes()), of: func(_ *facts, p *Protocol) string { return espAlgorithms[doi.ESP(p.ID)].mode }},
	{suffix: "alg", only: []string{"comp"}, values: words(compressions), of: func(_ *facts, p *Protocol) string { return compressions[doi.IPComp(p.ID)] }},
	{suffix: "auth_alg", only: []string{"ah", "esp"}, values: words(authAlgorithms), of: func(_ *facts, p *Protocol) string { return authAlgorithms[p.Auth] }},
	{suffix: "key_length", only: []string{"ah", "esp"}, form: FormNumber, absent: "0", of: func(_ *facts, p *Protocol) string { return number(p.KeyBits) }},
	{suffix: "key_rounds", only: []string{"ah", "esp"}, form: FormNumber, absent: "0", of: func(_ *facts, p *Protocol) string { return number(p.Rounds) }},
	{suffix: "dict_size", only: []string{"comp"}, form: FormNumber, absent: "0", of: func(_ *facts, p *Protocol) string { return number(p.DictSize) }},
	{suffix: "private_alg", only: []string{"comp"}, form: FormNumber, absent: "0", of: func(_ *facts, p *Protocol) string { return number(p.PrivateAlg) }},
	{suffix: "group_desc", form: FormNumber, absent: "0", of: func(f *facts, _ *Protocol) string { return number(f.PFS) }},
	{suffix: "life_seconds", form: FormNumber, absent: "0", of: func(_ *facts, p *Protocol) string { return number(p.Seconds) }},
	{suffix: "life_kbytes", form: FormNumber, absent: "0", of: func(_ *facts, p *Protocol) string { return number(p.Kilobytes) }},
	{suffix: "encapsulation", values: []string{"", "tunnel", "transport", "udp-encap-tunnel", "udp-encap-transport"}, of: func(_ *facts, p *Protocol) string { return p.encapsulation() }},
	{suffix: "ecn", values: yesOrNo, absent: "no", of: func(_ *facts, p *Protocol) string { return yesNo(p.ECN) }},
	{suffix: "esn", only: []string{"ah", "esp"}, values: yesOrNo, absent: "no", of: func(_ *facts, p *Protocol) string { return yesNo(p.ESN) }},
}

// parties are the prefixes of what an identification says.
var parties = []struct {
	prefix string
	of     func(*facts) *Filter
}{
	{"remote_filter", func(f *facts) *Filter { return &f.remote }},
	{"local_filter", func(f *facts) *Filter { return &f.local }},
	{"remote_id", func(f *facts) *Filter { return &f.identity }},
}

var ofParty = []struct {
	suffix string
	values []string
	form   Form
	of     func(*Filter) string
}{
	{"_type", words(idTypeNames)[1:], FormWord, func(f *Filter) string { return idTypeNames[f.Type] }},
	{"", nil, FormRange, func(f *Filter) string { return f.text() }},
	{"_addr_lower", nil, FormAddress, func(f *Filter) string { return pad(f.Lower) }},
	{"_addr_upper", nil, FormAddress, func(f *Filter) string { return pad(f.Upper) }},
	{"_port", nil, FormNumber, func(f *Filter) string { return number(f.Port) }},
	{"_proto", nil, FormProtocol, func(f *Filter) string { return upperProtocol(f.Protocol) }},
}

// ofQuery are the attributes that the proposal has as a whole.
var ofQuery = []Attribute{
	{appDomainAttribute, []string{appDomain}, FormWord, func(*facts) string { return appDomain }},
	{"doi", []string{"ipsec"}, FormWord, func(*facts) string { return "ipsec" }},
	{"initiator", yesOrNo, FormWord, func(f *facts) string { return yesNo(f.Initiator) }},
	{"phase_1", words(phase1Exchanges)[1:], FormWord, func(f *facts) string { return phase1Exchanges[f.Exchange] }},
	{"pfs", yesOrNo, FormWord, func(f *facts) string { return yesNo(f.PFS != 0) }},
	{"phase1_group_desc", nil, FormNumber, func(f *facts) string { return number(f.Group) }},
	{"local_negotiation_address", nil, FormAddress, func(f *facts) string { return pad(f.LocalAddr) }},
	{"remote_negotiation_address", nil, FormAddress, func(f *facts) string { return pad(f.RemoteAddr) }},
	{"local_ike_address", nil, FormAddress, func(f *facts) string { return pad(f.LocalAddr) }}, // older names of both
	{"remote_ike_address", nil, FormAddress, func(f *facts) string { return pad(f.RemoteAddr) }},
	{"GMTTimeOfDay", nil, FormTime, func(f *facts) string { return stamp(f.utc) }},
	{"LocalTimeOfDay", nil, FormTime, func(f *facts) string { return stamp(f.localClock) }},
}

var yesOrNo = []string{"yes", "no"}

// words are "" and the names in a table, each once, in order.
func words[K comparable](table map[K]string) []string {
	l := append(slices.Collect(maps.Values(table)), "")
	slices.Sort(l)
	return slices.Compact(l)
}

func espNames() map[doi.ESP]string {
	m := map[doi.ESP]string{}
	for id, a := range espAlgorithms {
		m[id] = a.name
	}
	return m
}

func espModes() map[doi.ESP]string {
	m := map[doi.ESP]string{}
	for id, a := range espAlgorithms {
		m[id] = a.mode
	}
	return m
}

// attributes are all there are, in the order in which a decision lists them.
var attributes = table()

// Attributes are all there are.
func Attributes() []Attribute { return slices.Clone(attributes) }

func table() []Attribute {
	all := slices.Clone(ofQuery)
	for _, p := range protocols {
		for _, a := range ofProtocol {
			if a.only != nil && !slices.Contains(a.only, p.prefix) {
				continue
			}
			all = append(all, Attribute{p.prefix + "_" + a.suffix, a.values, a.form, func(f *facts) string {
				if proto := p.of(f); proto != nil {
					return a.of(f, proto)
				}
				return a.absent
			}})
		}
	}
	for _, p := range parties {
		for _, a := range ofParty {
			all = append(all, Attribute{p.prefix + a.suffix, a.values, a.form, func(f *facts) string { return a.of(p.of(f)) }})
		}
	}
	return all
}

// Attributes are what the policy is asked about, by name.
func (q *Query) Attributes() map[string]string {
	f := q.facts()
	m := make(map[string]string, len(attributes))
	for i := range attributes {
		m[attributes[i].Name] = attributes[i].of(f)
	}
	return m
}

func (p *Protocol) encapsulation() string {
	s := "tunnel"
	if p.Mode == ipsec.Transport {
		s = "transport"
	}
	if p.UDP {
		s = "udp-encap-" + s
	}
	return s
}
