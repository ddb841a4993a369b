package vmtest

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// Kinds of files in an archive, as the mode of an inode has them.
const (
	typeDir  = 0o040000
	typeChar = 0o020000
	typeFile = 0o100000
	typeLink = 0o120000
)

// archive writes an uncompressed cpio archive of the "newc" kind, the one that
// Linux unpacks into its first root file system. Folders above a file are made
// by themselves, and a path that is there already is not written again.
//
// The guest's root has Debian's merged /usr: what is put into /bin, /sbin, /lib
// or /lib64 goes below /usr, so that nothing is unpacked through a link that may
// not be there yet.
type archive struct {
	w     io.Writer
	inode int
	size  map[string]int64 // of every file written, by its path without the first slash
	err   error
}

func newArchive(w io.Writer) *archive {
	a := &archive{w: w, size: map[string]int64{}}
	for _, name := range merged {
		a.dir("usr/" + name)
		a.link(name, "usr/"+name)
	}
	return a
}

var merged = []string{"bin", "sbin", "lib", "lib64"}

// inside is where a path of the host is in the guest, without the first slash.
func inside(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	for _, name := range merged {
		if strings.HasPrefix(p, name+"/") {
			return "usr/" + p
		}
	}
	return p
}

// has says whether the path was written.
func (a *archive) has(p string) bool {
	_, ok := a.size[inside(p)]
	return ok
}

// entry writes one file under a name as inside gives it.
func (a *archive) entry(name string, mode, major, minor uint32, data []byte) {
	if _, written := a.size[name]; written || a.err != nil {
		return
	}
	a.size[name] = int64(len(data))
	a.inode++
	// Magic, inode, mode, uid, gid, links, mtime, size, device (2), rdev (2),
	// the name's length with its final zero, and a checksum that is not used.
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
	a.padded([]byte(header + name + "\x00"))
	a.padded(data)
}

// padded writes b and zeros to the next multiple of four.
func (a *archive) padded(b []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(b)
	}
	if pad := -len(b) & 3; pad > 0 && a.err == nil {
		_, a.err = a.w.Write(make([]byte, pad))
	}
}

func (a *archive) dir(p string) {
	p = inside(p)
	if p == "" || p == "." || a.has(p) {
		return
	}
	a.dir(path.Dir(p))
	perm := uint32(0o755)
	if p == "tmp" {
		perm = 0o1777
	}
	a.entry(p, typeDir|perm, 0, 0, nil)
}

func (a *archive) file(p string, perm uint32, data []byte) {
	p = inside(p)
	a.dir(path.Dir(p))
	a.entry(p, typeFile|perm, 0, 0, data)
}

func (a *archive) link(p, target string) {
	if p = inside(p); strings.Contains(p, "/") {
		a.dir(path.Dir(p))
	}
	a.entry(p, typeLink|0o777, 0, 0, []byte(target))
}

func (a *archive) device(p string, perm, major, minor uint32) {
	p = inside(p)
	a.dir(path.Dir(p))
	a.entry(p, typeChar|perm, major, minor, nil)
}

// close ends the archive.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	return a.err
}
