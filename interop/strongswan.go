package interop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"oakley/internal/lab"
)

// swanPlugins are the plugins that charon loads: all ciphers and groups of the
// matrix, ESP in user space, no script that would touch the host.
const swanPlugins = "aesni aes sha2 sha1 md5 random nonce x509 pubkey pkcs1 pem openssl gmp curve25519 " +
	"hmac xcbc kdf ctr ccm gcm chapoly kernel-netlink socket-default vici counters"

// SwanPlugins are the files of charon's plugins.
func SwanPlugins() []string {
	var files []string
	for name := range strings.FieldsSeq(swanPlugins) {
		files = append(files, "/usr/lib/ipsec/plugins/libstrongswan-"+name+".so")
	}
	return files
}

// StrongSwan is a charon on a host. Its user-space ESP speaks UDP alone: it
// forges its NAT-D payloads, so that both sides encapsulate. With Tunnel.Kernel
// it leaves ESP to the kernel of its host.
type StrongSwan struct {
	*lab.Process
	host *lab.Host
	conf string // strongswan.conf
	sock string
	name string
}

// StrongSwanPrograms are what lab.Need is to be asked for.
var StrongSwanPrograms = []string{"root", "tun", "charon-systemd", "swanctl"}

// StartStrongSwan runs charon with one connection, which it does not start by
// itself. dir is a private folder for its files.
func StartStrongSwan(h *lab.Host, dir string, t Tunnel) (*StrongSwan, error) {
	t.Defaults()
	charon, err := lab.Program("charon-systemd")
	if err != nil {
		return nil, err
	}
	s := &StrongSwan{host: h, conf: filepath.Join(dir, "strongswan.conf"), sock: filepath.Join(dir, "vici"), name: t.Name}
	swanctl := filepath.Join(dir, "swanctl.conf")
	err = errors.Join(
		os.WriteFile(s.conf, []byte(s.strongswanConf(t.Kernel)), 0o600),
		os.WriteFile(swanctl, []byte(t.swanctlConf()), 0o600),
	)
	if err != nil {
		return nil, err
	}
	s.Process, err = h.Start(lab.Command{Path: charon, Env: []string{"STRONGSWAN_CONF=" + s.conf}, Private: []string{lab.RunDir()}})
	if err != nil {
		return nil, err
	}
	if !lab.Until(10*time.Second, func() bool { _, err := os.Stat(s.sock); return err == nil || !s.Running() }) || !s.Running() {
		s.Kill()
		return nil, fmt.Errorf("charon on %s did not start:\n%s", h, s.Log)
	}
	if out, err := s.swanctl(10*time.Second, "--load-all", "--file", swanctl); err != nil {
		return nil, fmt.Errorf("charon on %s did not take its configuration: %w\n%s", h, err, out)
	}
	return s, nil
}

func (s *StrongSwan) strongswanConf(kernel bool) string {
	plugins := swanPlugins
	if !kernel { // the first that can carry ESP is taken
		plugins = strings.Replace(plugins, "kernel-netlink", "kernel-libipsec kernel-netlink", 1)
	}
	return fmt.Sprintf(`charon-systemd {
  load = %s
  install_virtual_ip = no
  retransmit_tries = 3
  retransmit_timeout = 1.0
  plugins { vici { socket = unix://%s } }
  filelog { stderr {
      default = 1
      flush_line = yes } }
  journal { default = -1 }
}
swanctl { load = pem pkcs1 x509 pubkey openssl random }
`, plugins, s.sock)
}

func (t Tunnel) swanctlConf() string {
	p1, p2 := int(t.P1Life.Seconds()), int(t.P2Life.Seconds())
	mode := fmt.Sprintf("mode = tunnel\n    local_ts = %s\n    remote_ts = %s", t.LocalNet, t.RemoteNet)
	if t.hosts() {
		mode = "mode = transport"
	}
	protection := "esp_proposals = " + t.swanESP()
	if t.Mode != nil && t.Mode.Swan != "" {
		protection = t.Mode.Swan
	}
	return fmt.Sprintf(`connections { %[1]s {
  version = 1
  aggressive = no
  local_addrs = %[2]s
  remote_addrs = %[3]s
  proposals = %[4]s
  rekey_time = %[5]ds
  reauth_time = %[5]ds
  over_time = %[5]ds
  rand_time = 0s
  local { auth = psk
    id = %[2]s }
  remote { auth = psk
    id = %[11]s }
  children { %[1]s {
    %[6]s
    %[7]s
    rekey_time = %[8]ds
    life_time = %[9]ds
    rand_time = 0s
    start_action = none } }
} }
secrets { ike-1 {
  id-1 = %[2]s
  id-2 = %[11]s
  secret = "%[10]s" } }
`, t.Name, t.Local, t.Remote, t.P1.Swan, p1, mode, protection, p2, p2*3/2, t.Secret, t.RemoteID)
}

func (s *StrongSwan) swanctl(timeout time.Duration, args ...string) (string, error) {
	prog, err := lab.Program("swanctl")
	if err != nil {
		return "", err
	}
	args = append(args, "--uri", "unix://"+s.sock)
	return s.host.RunCommand(timeout, lab.Command{Path: prog, Args: args, Env: []string{"STRONGSWAN_CONF=" + s.conf}})
}

// Initiate starts the tunnel and waits until it is there or has failed.
func (s *StrongSwan) Initiate(timeout time.Duration) error {
	_, err := s.swanctl(timeout+5*time.Second, "--initiate", "--child", s.name, "--timeout", strconv.Itoa(int(timeout.Seconds())))
	return err
}

// Terminate ends both phases, with deletes.
func (s *StrongSwan) Terminate() error {
	_, err := s.swanctl(10*time.Second, "--terminate", "--ike", s.name, "--timeout", "5")
	return err
}

// RekeyChild starts a new phase 2.
func (s *StrongSwan) RekeyChild() error {
	_, err := s.swanctl(10*time.Second, "--rekey", "--child", s.name)
	return err
}

// RekeyIKE starts a new phase 1.
func (s *StrongSwan) RekeyIKE() error {
	_, err := s.swanctl(10*time.Second, "--rekey", "--ike", s.name)
	return err
}

// SwanSA is one IKE SA of charon with its children.
type SwanSA struct {
	ID, State       string
	Initiator       bool
	Encr, Integ, DH string
	Children        []SwanChild
}

// SwanChild is a pair of IPsec SAs.
type SwanChild struct {
	ID, State         string
	Encap             bool
	Encr, KeySize     string
	Integ, DH         string
	SPIIn, SPIOut     string
	PacketsIn, PktOut int
}

// SAs lists what charon has.
func (s *StrongSwan) SAs() ([]SwanSA, error) {
	out, err := s.swanctl(10*time.Second, "--list-sas", "--raw")
	if err != nil {
		return nil, err
	}
	var all []SwanSA
	for line := range strings.Lines(out) {
		line, ok := strings.CutPrefix(strings.TrimSpace(line), "list-sa event")
		if !ok {
			continue
		}
		ev, err := parseVici(line)
		if err != nil {
			return nil, fmt.Errorf("swanctl wrote %q: %w", line, err)
		}
		for _, sa := range ev.sections {
			all = append(all, sa.toSA())
		}
	}
	return all, nil
}

func (v *vici) toSA() SwanSA {
	sa := SwanSA{
		ID: v.values["uniqueid"], State: v.values["state"], Initiator: v.values["initiator"] == "yes",
		Encr: v.values["encr-alg"], Integ: v.values["integ-alg"], DH: v.values["dh-group"],
	}
	for _, list := range v.sections {
		if list.name != "child-sas" {
			continue
		}
		for _, c := range list.sections {
			in, _ := strconv.Atoi(c.values["packets-in"])
			out, _ := strconv.Atoi(c.values["packets-out"])
			sa.Children = append(sa.Children, SwanChild{
				ID: c.values["uniqueid"], State: c.values["state"], Encap: c.values["encap"] == "yes",
				Encr: c.values["encr-alg"], KeySize: c.values["encr-keysize"], Integ: c.values["integ-alg"], DH: c.values["dh-group"],
				SPIIn: c.values["spi-in"], SPIOut: c.values["spi-out"], PacketsIn: in, PktOut: out,
			})
		}
	}
	return sa
}

// Installed returns the one established IKE SA and its one installed child, or
// what is there instead.
func (s *StrongSwan) Installed() (SwanSA, SwanChild, error) {
	sas, err := s.SAs()
	if err != nil {
		return SwanSA{}, SwanChild{}, err
	}
	for _, sa := range sas {
		for _, c := range sa.Children {
			if c.State == "INSTALLED" {
				return sa, c, nil
			}
		}
	}
	return SwanSA{}, SwanChild{}, fmt.Errorf("charon has no child SA: %+v", sas)
}

// vici is a section of swanctl's raw output: name { key=value list=[a b] name {} }.
type vici struct {
	name     string
	values   map[string]string
	sections []*vici
}

func parseVici(s string) (*vici, error) {
	root := &vici{values: map[string]string{}}
	stack := []*vici{root}
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimLeft(s, " ") {
		top := stack[len(stack)-1]
		if s[0] == '}' {
			if len(stack) == 1 {
				return nil, errors.New("a } too many")
			}
			stack, s = stack[:len(stack)-1], s[1:]
			continue
		}
		i := strings.IndexAny(s, "={")
		if i < 0 {
			return nil, fmt.Errorf("neither a value nor a section: %q", s)
		}
		name := strings.TrimSpace(s[:i])
		if s[i] == '{' {
			sub := &vici{name: name, values: map[string]string{}}
			top.sections = append(top.sections, sub)
			stack, s = append(stack, sub), s[i+1:]
			continue
		}
		s = s[i+1:]
		end := strings.IndexAny(s, " }")
		if strings.HasPrefix(s, "[") {
			end = strings.IndexByte(s, ']') + 1
		}
		if end <= 0 {
			end = len(s)
		}
		if s[0] == ' ' || s[0] == '}' {
			end = 0 // an empty value
		}
		top.values[name], s = s[:end], s[end:]
	}
	if len(stack) > 2 { // the outermost name has its braces, the event itself may not
		return nil, errors.New("a } is missing")
	}
	if len(root.sections) == 1 && root.sections[0].name == "" {
		return root.sections[0], nil
	}
	return root, nil
}
