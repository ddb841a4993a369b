package vmtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"oakley/internal/lab"
)

// ourFolder is where the guest has what is vmtest's own.
const ourFolder = "/vmtest"

// orders are what the guest's first process is to do; they travel in the image.
type orders struct {
	Modules []string // files, in the order in which they are loaded
	Argv    []string // the test program, as a path, and its arguments
	Dir     string   // its working directory
	Env     []string
	Quiet   time.Duration    // the longest silence of the tests
	Sizes   map[string]int64 // of every file in the image: what memory had no room for is missing or cut
}

// image is what a guest starts with.
type image struct {
	kernel   kernel
	machine  *Machine
	program  []byte // the test program, which is the guest's first process too
	tests    []byte // another package's test program, or nil
	packages roots
}

// missingError is about software that this machine lacks.
type missingError struct{ error }

func (e missingError) Unwrap() error { return e.error }

// build writes the image to a file and returns its size in bytes.
func (im *image) build(to string, o orders) (int64, error) {
	f, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	a := newArchive(w)
	im.skeleton(a)
	if err := im.programs(a, &o); err != nil {
		return 0, err
	}
	if err := im.modules(a, &o); err != nil {
		return 0, err
	}
	for _, s := range im.machine.all() {
		if err := im.software(a, s); err != nil {
			return 0, missingError{err}
		}
	}
	if err := im.ours(a, &o); err != nil {
		return 0, err
	}
	a.dir(o.Dir)
	o.Sizes = a.size
	list, err := json.Marshal(o)
	if err != nil {
		return 0, err
	}
	a.file(ourFolder+"/orders", 0o644, list)
	if err := a.close(); err != nil {
		return 0, err
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), f.Close()
}

// skeleton is what every Linux program takes for granted.
func (im *image) skeleton(a *archive) {
	for _, d := range []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/mnt", "/etc", "/var/lib", "/var/log", "/var/tmp"} {
		a.dir(d)
	}
	a.link("/var/run", "/run")
	a.device("/dev/console", 0o600, 5, 1) // the first process has it open from the start
	a.device("/dev/null", 0o666, 1, 3)
	for name, text := range map[string]string{
		"passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"group":         "root:x:0:\nnogroup:x:65534:\n",
		"hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
	} {
		a.file("/etc/"+name, 0o644, []byte(text))
	}
}

// programs puts the first process and the test program.
func (im *image) programs(a *archive, o *orders) error {
	if err := a.ourProgram("/init", im.program); err != nil {
		return err
	}
	if im.tests == nil {
		a.link(o.Argv[0], "/init")
		return a.err
	}
	return a.ourProgram(o.Argv[0], im.tests)
}

func (im *image) modules(a *archive, o *orders) error {
	tree, err := readModuleTree(im.kernel.modules)
	if err != nil {
		return err
	}
	names := slices.Concat(Links, im.machine.Modules)
	for _, s := range im.machine.Software {
		names = append(names, s.Modules...)
	}
	files, err := tree.inOrder(names)
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := tree.plainModule(file)
		if err != nil {
			return err
		}
		p := path.Join(ourFolder, "modules", moduleName(file)+".ko")
		a.file(p, 0o644, data)
		o.Modules = append(o.Modules, p)
	}
	return nil
}

// software puts programs, files and folders of this machine or of packages.
func (im *image) software(a *archive, s Software) error {
	for _, name := range s.Programs {
		p, err := im.find(name)
		if err != nil {
			return err
		}
		if err := a.program(im.packages, p); err != nil {
			return err
		}
	}
	for _, p := range s.Files {
		if err := im.tree(a, p); err != nil {
			return err
		}
	}
	return nil
}

// find gives the path of a program that is named, in packages or here.
func (im *image) find(name string) (string, error) {
	if path.IsAbs(name) {
		return name, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/ipsec", "/usr/libexec/ipsec"} {
		for _, root := range im.packages {
			if fi, err := os.Stat(path.Join(root, dir, name)); err == nil && fi.Mode().IsRegular() {
				return path.Join(dir, name), nil
			}
		}
	}
	return lab.Program(name)
}

// tree puts a file, or a folder with all that is in it, at its own path.
func (im *image) tree(a *archive, p string) error {
	found := false
	for _, root := range im.packages.all() {
		top := path.Join(root, p)
		if _, err := os.Stat(top); err != nil {
			continue
		}
		found = true
		err := filepath.WalkDir(top, func(at string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(top, at)
			if err != nil {
				return err
			}
			return im.put(a, at, path.Join(p, filepath.ToSlash(rel)))
		})
		if err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%s is neither here nor in the unpacked packages", p)
	}
	return a.err
}

// put copies one file of this machine to a path of the guest. A link becomes
// what it leads to; one that leads nowhere, or to a folder, stays a link.
func (im *image) put(a *archive, from, to string) error {
	fi, err := os.Stat(from)
	if err == nil && fi.Mode().IsRegular() {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if a.has(to) {
			return nil
		}
		a.file(to, uint32(fi.Mode().Perm()), data)
		return a.needs(im.packages, to, data)
	}
	if target, err := os.Readlink(from); err == nil {
		a.link(to, target)
		return a.err
	}
	if err == nil && fi.IsDir() {
		a.dir(to)
	}
	return err
}

// ours builds the module's own programs for the guest, where lab.Build finds
// them.
func (im *image) ours(a *archive, o *orders) error {
	if len(im.machine.Build) == 0 {
		return nil
	}
	dir := path.Join(ourFolder, "bin")
	for _, pkg := range im.machine.Build {
		p, err := lab.Build(pkg)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if err := a.ourProgram(path.Join(dir, path.Base(pkg)), data); err != nil {
			return err
		}
	}
	o.Env = append(o.Env, "OAKLEY_BIN="+dir)
	return nil
}
