// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func printKeyring() {
	id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	fmt.Println("keyring="+strconv.Itoa(id), err)
	os.Exit(0)
}

func TestWhatBelongsToTheThreadOfTheModules(t *testing.T) {
	mine, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		t.Logf("the test has no session keyring: %v", err)
	}
	t.Run("loginuid", func(t *testing.T) {
		newEtc(t)
		got := facts(t, stack(t, "session required {loginuid}"), "anna", "echo loginuid=$(cat /proc/self/loginuid)")
		wantFacts(t, got, map[string]string{"loginuid": "60001"})
	})
	t.Run("the session keyring", func(t *testing.T) {
		newEtc(t)
		self := filepath.Join(t.TempDir(), "self") // where anna may run it
		copyFile(t, "/proc/self/exe", self)
		got := facts(t, stack(t, "session required {keyinit} force"), "anna", self+" --keyring")["keyring"]
		if id, _, _ := strings.Cut(got, " "); id == "" || id == strconv.Itoa(mine) || !strings.HasSuffix(got, "<nil>") {
			t.Errorf("the keyring is %q, that of the test %d", got, mine)
		}
	})
	t.Run("the mount namespace", func(t *testing.T) {
		e := newEtc(t)
		e.security("namespace.conf", "/var/tmp tmpfs tmpfs:noinit root\n")
		got := facts(t, stack(t, "session required {namespace}"), "anna", "echo type=$(stat -f -c %T /var/tmp)")
		wantFacts(t, got, map[string]string{"type": "tmpfs"})
		var st unix.Statfs_t
		if err := unix.Statfs("/var/tmp", &st); err != nil || st.Type == unix.TMPFS_MAGIC {
			t.Errorf("the test's own /var/tmp is a tmpfs too (%v)", err)
		}
	})
}
