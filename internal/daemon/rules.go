package daemon

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"oakley/internal/conf"
	"oakley/internal/diag"
	"oakley/internal/keynote"
	"oakley/internal/policy"
)

// rules are a policy file and what came with it.
type rules struct {
	rules    *policy.Policy
	warnings []string
	own      map[string][]byte                    // credentials of the directory, by the identity whose they are
	brought  map[[sha256.Size]byte]*policy.Policy // with the credentials of a peer; the engine's goroutine alone uses it
}

// mostBrought bounds how many peers' credentials are kept with the policy, so that
// their signatures are not verified for each quick mode. The worst 32 KB of them
// are 2 MB as a policy.
const mostBrought = 32

// with is the policy with the credentials that a peer brought, and what is wrong
// with them the first time that they are seen.
func (r *rules) with(credentials [][]byte) (p *policy.Policy, remarked []string) {
	if len(credentials) == 0 {
		return r.rules, nil
	}
	h := sha256.New()
	for _, c := range credentials {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(c))))
		h.Write(c)
	}
	key := [sha256.Size]byte(h.Sum(nil))
	if p := r.brought[key]; p != nil {
		return p, nil
	}
	var all []*keynote.Assertion
	var list diag.List
	for _, c := range credentials {
		as, l := keynote.Parse("the peer's credentials", c, keynote.Credential)
		all, list = append(all, as...), append(list, l...)
	}
	p, bad := r.rules.With(all)
	if len(r.brought) >= mostBrought {
		clear(r.brought)
	}
	if r.brought == nil {
		r.brought = map[[sha256.Size]byte]*policy.Policy{}
	}
	r.brought[key] = p
	return p, remarks(append(list, bad...))
}

// loadRules reads the policy that the configuration names; nil with -K or
// Use-Keynote=no. No policy where one is wanted is an error: nobody is let in by
// oversight.
func (d *Daemon) loadRules(c *conf.Config) (*rules, error) {
	if d.opt.NoPolicy || !c.General.UseKeynote {
		return nil, nil
	}
	file := c.General.PolicyFile
	src, err := d.host.ReadPrivate(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the policy %s is not there: write one (isakmpd.policy(5)), or start isakmpd with -K, or write Use-Keynote=no in [General], and whoever has a connection's key may use that connection, no more", file)
	}
	if err != nil {
		return nil, fmt.Errorf("the policy cannot be read: %w", err)
	}
	p, list := policy.Load(file, src)
	if p == nil {
		return nil, &errConfig{file, list}
	}
	own, all, more, err := readCredentials(d.host, c.KeyNote.CredentialDirectory)
	if err != nil {
		return nil, err
	}
	p, last := p.With(all)
	return &rules{rules: p, own: own, warnings: remarks(slices.Concat(list, more, last))}, nil
}

// readCredentials reads the signed assertions of the credential directory, which
// are shown to peers by address as well. What is no good is left out, and said.
func readCredentials(h Host, dir string) (own map[string][]byte, all []*keynote.Assertion, list diag.List, err error) {
	own = map[string][]byte{}
	if dir == "" {
		return own, nil, nil, nil
	}
	files, err := h.ReadMatching(path.Join(dir, "*", "credentials"))
	if err != nil {
		return nil, nil, nil, fmt.Errorf("the KeyNote credentials cannot be read: %w: mend or remove it, or write another Credential-directory= in [KeyNote]", err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		as, l := keynote.Parse(name, files[name], keynote.Credential)
		all, list = append(all, as...), append(list, l...)
		own[path.Base(path.Dir(name))] = files[name]
	}
	return own, all, list, nil
}

// remarks are diagnostics as warnings of the log, whose level says what they are.
func remarks(list diag.List) (lines []string) {
	for _, w := range list {
		text := strings.TrimRight(diag.List{w}.String(), "\n")
		for _, level := range []string{": warning: ", ": error: "} {
			text = strings.Replace(text, level, ": ", 1)
		}
		lines = append(lines, text)
	}
	return lines
}
