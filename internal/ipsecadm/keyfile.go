package ipsecadm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// maxKeyFile is far more than the digits of the longest key, in bytes.
const maxKeyFile = 4096

// ReadKeyFile reads a file with a key. A file that others than its owner may
// touch is refused; a pipe ("<(pass show vpn)") is not a file of that kind.
func ReadKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err
		}
		return nil, fmt.Errorf("the key file %s cannot be read: %w", path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("the key file %s cannot be looked at: %w", path, err)
	case st.IsDir():
		return nil, fmt.Errorf("the key file %s is a folder", path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("the key file %s has mode %04o, so others than its owner may touch it; \"chmod 600 %s\" ends that, but think of who has read it, too", path, st.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the key file %s cannot be read: %w", path, err)
	case len(text) > maxKeyFile:
		return nil, fmt.Errorf("the key file %s has more than %d bytes: one key, in hexadecimal digits, is wanted", path, maxKeyFile)
	}
	return text, nil
}
