package xfrm

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/xfrm/wire"
)

// Clear removes what is ours in the kernel, for those who begin without it: SAs
// and policies that a process left would seize what another data plane is to
// carry. It is an error if a process has them still. Where the journal says
// nothing, nothing is there, and the kernel is not asked.
func Clear(journal string, log *slog.Logger) (sas, policies int, err error) {
	if journal == "" || !spoken(journal) {
		return 0, 0, nil
	}
	j, _, err := openJournal(journal, era(), log)
	if err != nil {
		return 0, 0, err
	}
	defer j.close()
	k, err := openKernel(DefaultReqIDs)
	if err != nil {
		return 0, 0, err
	}
	defer k.close()
	p := &Plane{kernel: k, reqids: newReqids(DefaultReqIDs, DefaultReqIDCount)}
	if sas, policies, err = p.clearAll(); err != nil {
		return sas, policies, err
	}
	for _, f := range j.files {
		err = errors.Join(err, f.Truncate(0))
	}
	return sas, policies, err
}

// spoken tells whether there is anything in a journal.
func spoken(path string) bool {
	for i := range 2 {
		st, err := os.Lstat((&journal{path: path}).name(i))
		if err == nil && st.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// clearAll deletes all that is known by its reqid or its index.
func (p *Plane) clearAll() (sas, policies int, err error) {
	var ours []*wire.Policy
	err = p.kernel.dump(wire.GetPolicy, nil, func(b []byte) error {
		w, err := wire.ParsePolicy(b)
		if err == nil && p.ours(w) {
			ours = append(ours, w)
		}
		return err
	})
	if err != nil {
		return 0, 0, explain("listing the kernel's policies", err)
	}
	for _, w := range ours {
		if err := p.deleteStray(w); err != nil {
			return 0, policies, err
		}
		policies++
	}
	err = p.kernel.dump(wire.GetSA, nil, func(b []byte) error {
		w, err := wire.ParseSA(b)
		if err != nil || !p.reqids.ours(w.ReqID) || w.SPI == 0 {
			return err
		}
		id := wire.ID{Dst: w.Dst, SPI: w.SPI, Family: w.Family, Proto: w.Proto, Mark: w.Mark}
		if err := p.kernel.do(wire.DelSA, id.Append(nil)); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		sas++
		return nil
	})
	return sas, policies, explain("clearing the kernel's SAs", err)
}

// deleteStray deletes a policy that is in no book.
func (p *Plane) deleteStray(w *wire.Policy) error {
	id := wire.PolicyID{Sel: wire.Selector{Family: w.Sel.Family}, Index: w.Index, Dir: w.Dir, Mark: w.Mark, IfID: w.IfID}
	if err := p.kernel.do(wire.DelPolicy, id.Append(nil)); err != nil && !errors.Is(err, unix.ENOENT) {
		return explain("clearing a policy that a crash left", err)
	}
	return nil
}
