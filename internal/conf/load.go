package conf

import (
	"fmt"
	"net/netip"

	"oakley/internal/diag"
)

// Bounds of the search for names that were meant: how often one load looks, and
// among how many sections.
const (
	maxSearches   = 60
	maxCandidates = 2000
)

// Load reads the text and resolves it. The list holds every mistake and every
// doubt in the order of the file; the Config is nil when one of them is an
// error. With a nil Resolver names of interfaces stay names (Net.Interface) and
// are not checked.
func Load(name string, src []byte, r Resolver) (*Config, diag.List) {
	f, list := Parse(name, src)
	l := &loader{
		file: f, list: list, resolver: r, cfg: &Config{},
		peers: memo[*peerSection]{}, connections: memo[*connSection]{}, ids: memo[*ID]{}, nets: memo[*Net]{},
		configs1: memo[*config1]{}, transforms1: memo[*Phase1Transform]{}, lives: memo[*life]{},
		configs2: memo[*config2]{}, suites: memo[*Suite]{}, protocols: memo[*Protocol]{}, transforms2: memo[*Phase2Transform]{},
	}
	l.readGeneral()
	l.readPhase1()
	l.readPhase2()
	l.readNamed()
	l.readGeneratedPeer()
	l.readUnused()
	l.checkPeers()
	l.checkConnections()
	l.checkTags()
	l.list.Sort()
	if l.dropped > 0 {
		l.list = append(l.list, &diag.Diagnostic{
			Severity: diag.Error, Range: diag.Range{Pos: diag.Pos{File: name}},
			Summary: fmt.Sprintf("there are %d remarks more; mend these first", l.dropped),
		})
	}
	if l.list.HasErrors() {
		return nil, l.list
	}
	return l.cfg, l.list
}

// memo remembers what a section became, by folded name: a section is read once,
// however many refer to it. The zero value stands for one that is broken.
type memo[T any] map[string]T

// loader walks the tree from its two roots.
type loader struct {
	file     *File
	list     diag.List
	dropped  int
	resolver Resolver
	cfg      *Config
	general  view
	unused   bool // reading what nobody refers to: its mistakes are warnings
	searches int

	peers       memo[*peerSection]
	connections memo[*connSection]
	ids         memo[*ID]
	nets        memo[*Net]
	configs1    memo[*config1]
	transforms1 memo[*Phase1Transform]
	lives       memo[*life]
	configs2    memo[*config2]
	suites      memo[*Suite]
	protocols   memo[*Protocol]
	transforms2 memo[*Phase2Transform]

	peerOrder []*peerSection
	connOrder []*connSection
	listed    map[netip.Addr]bool // addresses in [Phase 1]
}

func (l *loader) add(s diag.Severity, at diag.Range, hint, format string, args ...any) {
	if s == diag.Error && l.unused {
		s = diag.Warning
	}
	if len(l.list) >= maxRemarks {
		l.dropped++
		return
	}
	if !at.IsValid() {
		at.File = l.file.Name
	}
	l.list = append(l.list, l.file.remark(s, at, hint, fmt.Sprintf(format, args...)))
}

func (l *loader) fail(v value, hint, format string, args ...any) {
	l.add(diag.Error, v.at, hint, format, args...)
}

func (l *loader) warn(v value, hint, format string, args ...any) {
	l.add(diag.Warning, v.at, hint, format, args...)
}
