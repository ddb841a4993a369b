package vmtest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Modules of the guest's kernel by what they are for; Machine.Modules names them.
var (
	// Links are virtual interfaces, and what package lab cannot do without; every
	// machine has them.
	Links = []string{"veth", "dummy", "tun", "nfnetlink", "xfrm_user", "af_packet"}

	// IPsec is all that XFRM can do, with its ciphers. echainiv and seqiv draw
	// on the kernel's "stdrng": without sha3 and drbg, which no module depends on,
	// an SA with a real cipher cannot be made. (jitterentropy_rng, which drbg can
	// do without, finds no jitter in the guest's clock and does not load.)
	IPsec = []string{
		"xfrm_user", "af_key", "esp4", "esp6", "ah4", "ah6", "ipcomp", "ipcomp6",
		"xfrm4_tunnel", "xfrm6_tunnel", "tunnel4", "tunnel6", "xfrm_interface",
		"authenc", "authencesn", "echainiv", "seqiv",
		"ctr", "gcm", "ccm", "ghash-generic", "chacha20poly1305", "chacha_generic", "poly1305_generic",
		"aes_generic", "des_generic", "cast5_generic", "blowfish_generic", "camellia_generic", "twofish_generic", "serpent_generic",
		"sha1_generic", "sha256_generic", "sha512_generic", "md5", "rmd160", "xcbc", "cmac", "crypto_null", "deflate",
		"sha3_generic", "drbg",
	}

	// NAT is what address translation and packet filters need: lab.Host.Masquerade,
	// and our own user-space data plane.
	NAT = []string{
		"nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nft_ct", "nft_xfrm", "nft_objref", "nft_limit", "nft_reject_inet", "nft_fib_inet",
	}
)

// moduleTree is what depmod wrote about the modules of one kernel.
type moduleTree struct {
	dir     string              // /lib/modules/RELEASE
	path    map[string]string   // esp4 -> kernel/net/ipv4/esp4.ko
	needs   map[string][]string // path -> the paths of those it needs
	builtin map[string]bool
}

// moduleName is the name by which the kernel lists the module in a file.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func readModuleTree(dir string) (*moduleTree, error) {
	t := &moduleTree{dir: dir, path: map[string]string{}, needs: map[string][]string{}, builtin: map[string]bool{}}
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(dep)) {
		file, needs, ok := strings.Cut(line, ":")
		if ok {
			t.path[moduleName(file)] = file
			t.needs[file] = strings.Fields(needs)
		}
	}
	built, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for file := range strings.FieldsSeq(string(built)) {
		t.builtin[moduleName(file)] = true
	}
	return t, nil
}

// inOrder lists the files of the named modules and of all that they need, each
// after those it needs. What is built into the kernel is left out.
func (t *moduleTree) inOrder(names []string) ([]string, error) {
	var order []string
	var add func(file string)
	seen := map[string]bool{}
	add = func(file string) {
		if seen[file] {
			return
		}
		seen[file] = true
		// depmod lists what is needed with the nearest first, and all of it.
		for _, need := range slices.Backward(t.needs[file]) {
			add(need)
		}
		order = append(order, file)
	}
	for _, name := range names {
		name = moduleName(name)
		file, ok := t.path[name]
		switch {
		case ok:
			add(file)
		case !t.builtin[name]:
			return nil, fmt.Errorf("the kernel of %s has no module %s", t.dir, name)
		}
	}
	return order, nil
}

// unpackers are the programs that unpack modules by how their file ends.
var unpackers = map[string]string{".xz": "xz", ".zst": "zstd"}

// plainModule reads a module, unpacked and without its signature.
func (t *moduleTree) plainModule(file string) ([]byte, error) {
	data, err := t.unpacked(file)
	return unsigned(data), err
}

// signed is the end of a signed module. Before it stand twelve bytes of which the
// fourth and fifth are the lengths of two names and the last four that of the
// signature; before those stand the three (scripts/sign-file.c of the kernel).
const signed = "~Module signature appended~\n"

// unsigned is a module without its signature: Debian's kernel looks at one that is
// there, which takes a guest longer than loading most modules, and asks for none.
func unsigned(data []byte) []byte {
	const info = 12
	head, ok := bytes.CutSuffix(data, []byte(signed))
	if !ok || len(head) < info {
		return data
	}
	rest, i := head[:len(head)-info], head[len(head)-info:]
	n := uint64(i[3]) + uint64(i[4]) + uint64(binary.BigEndian.Uint32(i[8:]))
	if n > uint64(len(rest)) {
		return data
	}
	return rest[:uint64(len(rest))-n]
}

func (t *moduleTree) unpacked(file string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(t.dir, file))
	if err != nil {
		return nil, err
	}
	ending := path.Ext(file)
	if ending == ".gz" {
		r, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", file, err)
		}
		return io.ReadAll(r)
	}
	program, packed := unpackers[ending]
	if !packed {
		return raw, nil
	}
	cmd := exec.Command(program, "-dc")
	cmd.Stdin = bytes.NewReader(raw)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("module %s cannot be unpacked by %s: %w", file, program, err)
	}
	return out, nil
}
