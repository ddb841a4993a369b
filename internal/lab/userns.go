package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// reexecEnv marks the process that runs in a user namespace.
const reexecEnv = "OAKLEY_LAB_USERNS"

// Reexec makes networks possible without root: when this process may not make
// namespaces, it runs itself again, with the same arguments, as root of user,
// network and mount namespaces of its own. In that case done is true and code is
// that process's exit status. Otherwise the caller goes on. The error says what
// the machine would have to allow.
func Reexec() (done bool, code int, err error) {
	if canMakeNamespaces() == nil {
		return false, 0, nil
	}
	if os.Getenv(reexecEnv) != "" {
		return false, 0, fmt.Errorf("even in a user namespace: %w", canMakeNamespaces())
	}
	self, err := os.Executable()
	if err != nil {
		return false, 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), reexecEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	// The terminal's interrupt reaches the child too, and it cleans up.
	signal.Ignore(os.Interrupt)
	defer signal.Reset(os.Interrupt)
	if err := cmd.Start(); err != nil {
		return false, 0, fmt.Errorf("this needs root, or user namespaces, which the kernel refused (%w)%s", err, usernsHint())
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return false, 0, err
	}
	return true, cmd.ProcessState.ExitCode(), nil
}

// usernsHint names the switch that is off.
func usernsHint() string {
	for _, s := range []struct{ path, off, hint string }{
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1 would allow it"},
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000 would allow it"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0 would allow it"},
	} {
		if b, err := os.ReadFile(s.path); err == nil && strings.TrimSpace(string(b)) == s.off {
			return ": " + s.hint
		}
	}
	return ""
}
