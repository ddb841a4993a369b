package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Folder is the only folder into which a program writes.
type Folder struct{ Path, Program string }

var runFolder = Folder{RunDir, "isakmpd"}

// CheckRunPath says whether path names a file below RunDir.
func CheckRunPath(path string) error { return runFolder.Check(path) }

// Check says whether path names a file below the folder.
func (f Folder) Check(path string) error {
	_, err := f.name(path)
	return err
}

// name is path relative to the folder.
func (f Folder) name(path string) (string, error) {
	rel, err := filepath.Rel(f.Path, filepath.Clean(path))
	if err != nil || !filepath.IsAbs(path) || rel == "." || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", fmt.Errorf("%s is not below %s, the only folder into which %s writes", path, f.Path, f.Program)
	}
	return rel, nil
}

// WriteRun implements Host.
func (OS) WriteRun(path string, data []byte) error { return runFolder.Write(path, data) }

// Write replaces a file below the folder as a whole, with mode 0600.
func (f Folder) Write(path string, data []byte) error {
	name, err := f.name(path)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(f.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	return writeAtomically(root, name, data)
}

// writeAtomically writes a new file beside name and renames it, so that a
// reader sees the old one or the new one whole and a link is replaced.
func writeAtomically(root *os.Root, name string, data []byte) error {
	tmp := fmt.Sprintf("%s.%d", name, os.Getpid())
	if err := root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = root.Rename(tmp, name)
	}
	if err != nil {
		_ = root.Remove(tmp)
	}
	return err
}

// pidFile is a held pid file. The lock on it, not the number in it, says that
// its process lives.
type pidFile struct {
	f    *os.File
	root *os.Root
	name string
}

// HoldPID implements Host.
func (OS) HoldPID(path string) (io.Closer, error) { return runFolder.HoldPID(path) }

// HoldPID writes our process number to a file below the folder and holds the
// file: as long as we live nobody else can. Close removes it.
func (f Folder) HoldPID(path string) (io.Closer, error) {
	name, err := f.name(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(f.Path)
	if err != nil {
		return nil, fmt.Errorf("pid file %s: %w", path, err)
	}
	p, err := holdPID(root, name, f.Program)
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("pid file %s: %w", path, err)
	}
	return p, nil
}

func holdPID(root *os.Root, name, program string) (*pidFile, error) {
	if st, err := root.Lstat(name); err == nil && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("it is there and not a regular file (%s)", st.Mode().Type())
	}
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		other, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, fmt.Errorf("process %s holds it: %s is running already (end it, or choose another file)", strings.TrimSpace(string(other)), program)
	}
	if !stillNamed(root, name, f) { // who held it removed it just now
		_ = f.Close()
		return holdPID(root, name, program)
	}
	if err := writePID(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return &pidFile{f: f, root: root, name: name}, nil
}

func stillNamed(root *os.Root, name string, f *os.File) bool {
	named, err1 := root.Lstat(name)
	ours, err2 := f.Stat()
	return err1 == nil && err2 == nil && os.SameFile(named, ours)
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// Close removes the file and lets go of it, in this order: nobody else can hold
// the name before we are done with it.
func (p *pidFile) Close() error {
	return errors.Join(p.root.Remove(p.name), p.f.Close(), p.root.Close())
}
