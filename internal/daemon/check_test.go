package daemon

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lessRights is a host on which the credentials are not for this user.
type lessRights struct{ OS }

func (lessRights) ReadMatching(string) (map[string][]byte, error) {
	return nil, &fs.PathError{Op: "open", Path: "credentials", Err: fs.ErrPermission}
}

// TestCheckWithFewRights: what the daemon may read and this user may not is no
// mistake in the configuration.
func TestCheckWithFewRights(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "isakmpd.conf")
	policy := filepath.Join(dir, "isakmpd.policy")
	for path, text := range map[string]string{policy: withKey(aesAlone), name: "[General]\nPolicy-file= " + policy + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, said strings.Builder
	if err := Check(Options{Config: name, Host: lessRights{}}, &out, &said, false); err != nil {
		t.Fatal(err)
	}
	if want := "isakmpd: note: the KeyNote credentials are not checked: open credentials: permission denied\n"; !strings.Contains(said.String(), want) {
		t.Errorf("%s", &said)
	}
	if !strings.Contains(out.String(), "policy "+policy) {
		t.Errorf("%s", &out)
	}
}
