package vmtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"oakley/internal/lab"
)

const qemu = "qemu-system-x86_64"

// kernel is Debian's cloud kernel on this machine.
type kernel struct {
	release string // 6.1.0-56-cloud-amd64
	image   string
	modules string // folder
}

// Need ends the test unless this machine can run a VM: qemu, and a cloud kernel
// of Debian with its modules. The test is skipped with the reason; where CI=true
// it fails. Root is not needed: the tests are root in the guest, and there Need has nothing to ask for.
func Need(t testing.TB) {
	t.Helper()
	if Inside() {
		return
	}
	_, err := need()
	refuse(t, err)
}

// refuse ends the test if there is an error: something is missing here.
func refuse(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case lab.InCI():
		t.Fatalf("CI=true, and %v", err)
	default:
		t.Skipf("skipped: %v", err)
	}
}

func need() (kernel, error) {
	if runtime.GOARCH != "amd64" {
		return kernel{}, fmt.Errorf("the VM is a PC and this program is for %s", runtime.GOARCH)
	}
	if _, err := lab.Program(qemu); err != nil {
		return kernel{}, fmt.Errorf("%w (Debian's package qemu-system-x86)", err)
	}
	return findKernel("/boot", "/lib/modules")
}

// findKernel takes the newest kernel that has its modules here.
func findKernel(boot, modules string) (kernel, error) {
	images, err := filepath.Glob(filepath.Join(boot, "vmlinuz-*-cloud-amd64"))
	if err != nil {
		return kernel{}, err
	}
	type found struct {
		kernel
		age int64
	}
	var all []found
	for _, image := range images {
		release := filepath.Base(image)[len("vmlinuz-"):]
		k := kernel{release: release, image: image, modules: filepath.Join(modules, release)}
		fi, err := os.Stat(filepath.Join(k.modules, "modules.dep"))
		if err == nil {
			all = append(all, found{k, fi.ModTime().Unix()})
		}
	}
	if len(all) == 0 {
		return kernel{}, errors.New("there is no cloud kernel with its modules in " + boot + " (Debian's package linux-image-cloud-amd64)")
	}
	return slices.MaxFunc(all, func(a, b found) int { return int(a.age - b.age) }).kernel, nil
}
