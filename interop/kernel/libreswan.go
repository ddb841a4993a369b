package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

// Where Debian's package has its programs.
const (
	pluto   = "/usr/libexec/ipsec/pluto"
	whack   = "/usr/libexec/ipsec/whack"
	addconn = "/usr/libexec/ipsec/addconn"
)

// Pluto is libreswan's daemon on a host. The kernel of the host carries its ESP.
type Pluto struct {
	*lab.Process
	host *lab.Host
	ctl  string
	name string
}

// StartPluto runs pluto with one connection, which it does not start by itself.
// dir is a private folder for its files.
func StartPluto(h *lab.Host, dir string, t interop.Tunnel) (*Pluto, error) {
	t.Defaults()
	p := &Pluto{host: h, ctl: filepath.Join(dir, "pluto.ctl"), name: t.Name}
	conf, secrets, nss := filepath.Join(dir, "ipsec.conf"), filepath.Join(dir, "ipsec.secrets"), filepath.Join(dir, "nss")
	err := errors.Join(
		os.WriteFile(conf, []byte(plutoConf(t)), 0o600),
		os.WriteFile(secrets, fmt.Appendf(nil, "%s %s : PSK %q\n", t.Local, t.RemoteID, t.Secret), 0o600),
		os.Mkdir(nss, 0o700),
	)
	if err != nil {
		return nil, err
	}
	// pluto wants a store of certificates, be it empty.
	if out, err := h.RunCommand(20*time.Second, lab.Command{Path: "/usr/bin/certutil", Args: []string{"-N", "-d", "sql:" + nss, "--empty-password"}}); err != nil {
		return nil, fmt.Errorf("certutil: %w\n%s", err, out)
	}
	p.Process, err = h.Start(lab.Command{
		Path: pluto,
		Args: []string{
			"--nofork", "--stderrlog", "--log-no-time", "--no-dnssec", "--nhelpers", "0",
			"--dumpdir", dir, "--config", conf, "--secretsfile", secrets, "--rundir", dir, "--ipsecdir", dir, "--nssdir", nss,
		},
		Private: []string{lab.RunDir()},
	})
	if err != nil {
		return nil, err
	}
	// It loads its connections by a program that it starts itself.
	for _, line := range []string{`added IKEv1 connection`, `(?i)listening for IKE messages`} {
		if _, err := p.Log.Wait(line, 20*time.Second); err != nil {
			p.Kill()
			return nil, fmt.Errorf("pluto on %s did not start: %w\n%s", h, err, p.Log)
		}
	}
	return p, nil
}

func plutoConf(t interop.Tunnel) string {
	kind := fmt.Sprintf("type=tunnel\n  leftsubnet=%s\n  rightsubnet=%s", t.LocalNet, t.RemoteNet)
	if t.Mode != nil && t.Mode.Hosts {
		kind = "type=transport"
	}
	protection := "esp=" + plutoName(t.P2.Swan)
	if t.Mode != nil && strings.HasPrefix(t.Mode.Swan, "ah_proposals") {
		_, hash, _ := strings.Cut(t.Mode.Swan, "= ")
		protection = "phase2=ah\n  phase2alg=" + plutoName(hash)
	}
	pfs := "no"
	if t.PFS {
		pfs = "yes"
	}
	return fmt.Sprintf(`config setup
  ikev1-policy=accept
  uniqueids=yes

conn %s
  ikev2=no
  authby=secret
  left=%s
  leftid=%[2]s
  right=%s
  rightid=%s
  %s
  ike=%s
  %s
  pfs=%s
  ikelifetime=%ds
  salifetime=%ds
  rekeymargin=2s
  rekeyfuzz=0%%
  leftupdown=%%disabled
  auto=add
`, t.Name, t.Local, t.Remote, t.RemoteID, kind, plutoIKE(t.P1.Swan), protection, pfs, int(t.P1Life.Seconds()), int(t.P2Life.Seconds()))
}

// plutoIKE is strongSwan's name of a phase 1 proposal in libreswan's words.
func plutoIKE(swan string) string {
	i := strings.LastIndexByte(swan, '-')
	return plutoName(swan[:i]) + ";" + swan[i+1:]
}

var (
	shaTwo = regexp.MustCompile(`\bsha(256|384|512)`)
	gcm    = regexp.MustCompile(`^aes(\d+)gcm16`)
)

// plutoName is strongSwan's name of ciphers in libreswan's words.
func plutoName(swan string) string {
	return gcm.ReplaceAllString(shaTwo.ReplaceAllString(swan, "sha2_$1"), "aes_gcm${1}")
}

func (p *Pluto) whack(timeout time.Duration, args ...string) (string, error) {
	out, err := p.host.RunCommand(timeout, lab.Command{Path: whack, Args: append([]string{"--ctlsocket", p.ctl}, args...)})
	if err != nil {
		return out, fmt.Errorf("whack %v: %w\n%s", args, err, out)
	}
	return out, nil
}

// Initiate starts the tunnel and waits until it is there or has failed.
func (p *Pluto) Initiate(timeout time.Duration) error {
	_, err := p.whack(timeout, "--initiate", "--name", p.name)
	return err
}

// Terminate ends both phases, with deletes.
func (p *Pluto) Terminate() error {
	_, err := p.whack(10*time.Second, "--terminate", "--name", p.name)
	return err
}

// Ready waits until pluto has sent and received all of a quick mode.
func (p *Pluto) Ready(timeout time.Duration) error {
	_, err := p.Log.Wait(`IPsec SA established`, timeout)
	return err
}

// Status is all that pluto says about its connections.
func (p *Pluto) Status() (string, error) { return p.whack(10*time.Second, "--status") }
