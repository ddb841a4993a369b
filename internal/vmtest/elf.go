package vmtest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// libraryFolders are searched for shared libraries, after those that a program
// names itself; ld.so in the guest searches them too, without its cache.
var libraryFolders = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

// dynamic is what the loader will look for when it starts a file.
type dynamic struct {
	interpreter string // the loader itself, or ""
	libraries   []string
	folders     []string // of its own (RUNPATH or RPATH)
}

// readDynamic reads what an ELF file needs; ok is false when it is none.
func readDynamic(data []byte, origin string) (d dynamic, ok bool, err error) {
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return d, false, nil
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return d, false, err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(p.Open())
			if err != nil {
				return d, false, err
			}
			d.interpreter = string(bytes.TrimRight(b, "\x00"))
		}
	}
	if f.Section(".dynamic") == nil {
		return d, true, nil
	}
	if d.libraries, err = f.ImportedLibraries(); err != nil {
		return d, false, err
	}
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		lists, err := f.DynString(tag)
		if err != nil {
			return d, false, err
		}
		for _, list := range lists {
			for dir := range strings.SplitSeq(list, ":") {
				d.folders = append(d.folders, strings.ReplaceAll(dir, "$ORIGIN", origin))
			}
		}
	}
	return d, true, nil
}

// roots are where a path of the guest is looked for: folders of unpacked
// packages first, this machine last.
type roots []string

func (r roots) all() []string { return slices.Concat(r, roots{"/"}) }

func (r roots) read(p string) (data []byte, perm uint32, err error) {
	for _, root := range r.all() {
		full := path.Join(root, p)
		var fi os.FileInfo
		if fi, err = os.Stat(full); err != nil {
			continue
		}
		if fi.IsDir() {
			return nil, 0, fmt.Errorf("%s is a folder", full)
		}
		data, err = os.ReadFile(full)
		return data, uint32(fi.Mode().Perm()), err
	}
	return nil, 0, err
}

func (r roots) exists(p string) bool {
	for _, root := range r.all() {
		if _, err := os.Stat(path.Join(root, p)); err == nil {
			return true
		}
	}
	return false
}

// program puts a file at its own path and, if it is a program or a library, the
// loader and every library it needs, and those that they need.
func (a *archive) program(from roots, p string) error {
	if a.has(p) {
		return nil
	}
	data, perm, err := from.read(p)
	if err != nil {
		return err
	}
	a.file(p, perm, data)
	return a.needs(from, p, data)
}

// ourProgram puts a program that we built at a path.
func (a *archive) ourProgram(p string, data []byte) error {
	a.file(p, 0o755, data)
	return a.needs(nil, p, data)
}

// needs puts the loader and the libraries that the file at p needs.
func (a *archive) needs(from roots, p string, data []byte) error {
	d, isELF, err := readDynamic(data, path.Dir(p))
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	if !isELF {
		return nil
	}
	if d.interpreter != "" {
		if err := a.program(from, d.interpreter); err != nil {
			return fmt.Errorf("%s: its loader: %w", p, err)
		}
	}
	if len(d.libraries) > 0 && from.exists(cancelLibrary) {
		if err := a.program(from, cancelLibrary); err != nil {
			return err
		}
	}
	for _, lib := range d.libraries {
		where, err := from.library(lib, d.folders)
		if err == nil {
			err = a.program(from, where)
		}
		if err != nil {
			return fmt.Errorf("%s needs %s: %w", p, lib, err)
		}
	}
	return a.err
}

// cancelLibrary is loaded by glibc when a thread is cancelled; no file says so.
const cancelLibrary = "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1"

func (r roots) library(name string, own []string) (string, error) {
	for _, dir := range slices.Concat(own, libraryFolders) {
		if p := path.Join(dir, name); r.exists(p) {
			return p, nil
		}
	}
	return "", fmt.Errorf("it is neither in %s nor in the unpacked packages", strings.Join(libraryFolders, ", "))
}
