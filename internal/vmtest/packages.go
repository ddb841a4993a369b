package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// unpack gives the folders of Debian packages that are unpacked but not
// installed: peers of which only one can be installed on a machine. They are
// fetched from where apt fetches packages, once, and kept in the user's cache.
func unpack(names []string) (roots, error) {
	var all roots
	for _, name := range names {
		dir, err := unpackOne(name)
		if err != nil {
			return nil, fmt.Errorf("the package %s of Debian cannot be had (is apt's list up to date, and the network there?): %w", name, err)
		}
		all = append(all, dir)
	}
	return all, nil
}

func unpackOne(name string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	file, err := packageFile(ctx, name)
	if err != nil {
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, strings.TrimSuffix(file, ".deb"))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	// It gets its name when it is whole: two may do this at the same time.
	work, err := os.MkdirTemp(cache, "unpacking-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	fetch := exec.CommandContext(ctx, "apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name)
	fetch.Dir = work
	if out, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download: %w\n%s", err, out)
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("apt-get download left %d packages, 1 was expected", len(debs))
	}
	tree := filepath.Join(work, "tree")
	if out, err := exec.CommandContext(ctx, "dpkg", "-x", debs[0], tree).CombinedOutput(); err != nil {
		return "", fmt.Errorf("dpkg -x: %w\n%s", err, out)
	}
	if err := os.Rename(tree, dir); err != nil {
		if _, there := os.Stat(dir); there != nil {
			return "", err
		}
	}
	return dir, nil
}

// packageFile is the name of the file of the newest version that apt knows.
func packageFile(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "-qq", "--print-uris", "download", name).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return "", fmt.Errorf("apt-get --print-uris download: %w\n%s", err, failed.Stderr)
	}
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(out)) // 'URI' file size checksum
	if len(fields) < 2 || !strings.HasSuffix(fields[1], ".deb") {
		return "", fmt.Errorf("apt-get --print-uris download said %q", out)
	}
	return fields[1], nil
}
