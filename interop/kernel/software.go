// Package kernel runs isakmpd with the kernel's IPsec, against strongSwan and
// libreswan where they are at home and against itself with ipsecd's own stack, in
// virtual machines whose kernel has ESP and AH. The files that are no tests run
// libreswan and say what a machine has to have in it.
package kernel

import (
	"slices"

	"oakley/internal/vmtest"
	"oakley/interop"
)

// StrongSwan is charon with the plugins of package interop, and swanctl.
func StrongSwan() vmtest.Software {
	return vmtest.Software{
		Programs: []string{"charon-systemd", "swanctl"},
		Files:    interop.SwanPlugins(),
		Modules:  vmtest.IPsec,
	}
}

// Libreswan is pluto, with what starts it and speaks to it. Its package cannot be
// installed beside strongSwan's, so it is unpacked; the libraries that it needs
// can (see the list in .ci/run).
func Libreswan() vmtest.Software {
	return vmtest.Software{
		Programs: []string{pluto, whack, addconn, "certutil"},
		// NSS loads these by itself.
		Files: []string{
			nssLibraries + "libsoftokn3.so", nssLibraries + "libfreebl3.so", nssLibraries + "libfreeblpriv3.so", nssLibraries + "libnssckbi.so",
		},
		Modules:  vmtest.IPsec,
		Packages: []string{"libreswan"},
	}
}

const nssLibraries = "/usr/lib/x86_64-linux-gnu/"

// Machine has our daemons, peers and address translation.
func Machine(peers ...vmtest.Software) vmtest.Machine {
	return vmtest.Machine{
		Modules:  slices.Concat(vmtest.IPsec, vmtest.NAT, []string{"nf_conntrack_netlink"}),
		Build:    []string{"oakley/cmd/isakmpd", "oakley/cmd/ipsecd"},
		Software: peers,
	}
}
