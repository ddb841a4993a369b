// Package systemd has the services' units, and reads them for tests: what a unit
// says of a program is to be so.
package systemd

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed *.service
var files embed.FS

// Unit has the settings of a unit by section, with all their values.
type Unit map[string]map[string][]string

// Read reads the unit of a service.
func Read(service string) (Unit, error) {
	text, err := files.ReadFile(service + ".service")
	if err != nil {
		return nil, err
	}
	u, section := Unit{}, ""
	for i, line := range strings.Split(string(text), "\n") {
		switch key, value, ok := strings.Cut(line, "="); {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
			u[section] = map[string][]string{}
		case !ok || section == "" || strings.TrimSpace(key) != key || value == "":
			return nil, fmt.Errorf("line %d of the unit of %s is no setting: %q", i+1, service, line)
		default:
			u[section][key] = append(u[section][key], value)
		}
	}
	return u, nil
}

// One is the value of a setting; empty unless it is there once.
func (u Unit) One(section, key string) string {
	if v := u[section][key]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// Rights is the capabilities that the unit leaves, as the flag --bounding-set of
// setpriv(1) takes them.
func (u Unit) Rights() string {
	rights := "-all"
	for _, c := range strings.Fields(u.One("Service", "CapabilityBoundingSet")) {
		rights += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	return rights
}

// Complaints is what systemd-analyze, which run runs, says about the unit of a
// service whose program is at path. dir is a folder for its use.
func Complaints(run func(args ...string) (string, error), service, path, dir string) (said []string, err error) {
	text, err := files.ReadFile(service + ".service")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, service+".service")
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "/usr/sbin/"+service, path, 1)), 0o644); err != nil {
		return nil, err
	}
	out, err := run("verify", "--man=no", file)
	for _, line := range strings.Split(out, "\n") {
		// Other services, and those that this machine does not have, are not ours.
		if strings.Contains(line, service+".service") || strings.Contains(line, path) {
			said = append(said, line)
		}
	}
	if len(said) == 0 && err != nil {
		said = append(said, err.Error())
	}
	return said, nil
}
