// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/conv/convtest"
)

// runKeys looks for keys in its session keyring, by their names, and puts there those
// that are not found.
func runKeys(names []string) {
	id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	fmt.Println("keyring="+strconv.Itoa(id), err)
	for _, name := range names {
		_, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", name, 0)
		fmt.Printf("%s=%v\n", name, err)
		if err != nil {
			_, err = unix.AddKey("user", name, []byte("x"), unix.KEY_SPEC_SESSION_KEYRING)
			fmt.Printf("%s added=%v\n", name, err)
		}
	}
}

// ownKeyring gives this thread, and what it starts, a session keyring, as
// systemd gives one to the pool; newEtc has locked it. In it is a key.
func ownKeyring(t testing.TB, key string) (id int) {
	t.Helper()
	if err := joinKeyring(); err != nil {
		t.Skipf("there are no keyrings here, which a seccomp filter or the kernel (CONFIG_KEYS) says: %v", err)
	}
	if _, err := unix.AddKey("user", key, []byte("x"), unix.KEY_SPEC_SESSION_KEYRING); err != nil {
		t.Fatal(err)
	}
	id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// selfForAll is the test binary where every user may run it.
func selfForAll(t testing.TB) string {
	t.Helper()
	self := filepath.Join(t.TempDir(), "self")
	copyFile(t, "/proc/self/exe", self)
	return self
}

// Who has a session keyring may read and write it, whoever it belongs to: the
// keys of the pool, and those of other sessions, are not for the command.
func TestTheSessionKeyringIsTheSessionsAlone(t *testing.T) {
	for _, test := range []struct{ name, session string }{
		{"without pam_keyinit", "session required {permit}"},
		{"with pam_keyinit, which finds one and leaves it", "session required {keyinit} revoke"},
		{"with pam_keyinit that makes another one", "session required {keyinit} force revoke"},
	} {
		t.Run(test.name, func(t *testing.T) {
			newEtc(t).write("passwd", "root:x:0:0:root:/root:/bin/sh\nanna:x:60001:60000::/:/bin/sh\nbert:x:60002:60000::/:/bin/sh\n")
			mine := ownKeyring(t, "the-pools")
			dir, self := stack(t, test.session), selfForAll(t)
			// The race detector lets a process sleep for a second when it ends.
			look := "export GORACE=atexit_sleep_ms=0; " + self + " --keys the-pools the-last-sessions; " + self + " --keys the-last-sessions"
			seen := map[string]bool{strconv.Itoa(mine) + " <nil>": true}
			for _, user := range []string{"anna", "bert", "root"} {
				got := facts(t, dir, user, look)
				const none = "required key not available"
				wantFacts(t, got, map[string]string{
					"the-pools": none, "the-pools added": "<nil>", "the-last-sessions added": "<nil>",
					"the-last-sessions": "<nil>", // the second time
				})
				if seen[got["keyring"]] {
					t.Errorf("the keyring of a command of %s is %s, which somebody has", user, got["keyring"])
				}
				seen[got["keyring"]] = true
			}
			if _, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", "the-last-sessions", 0); !errors.Is(err, unix.ENOKEY) {
				t.Errorf("a key of a session in the pool's keyring: %v", err)
			}
		})
	}
}

func TestAWorkerThatCannotHaveAKeyring(t *testing.T) {
	for _, test := range []struct {
		name  string
		errno unix.Errno
	}{
		{"since the kernel knows none", unix.ENOSYS},
		{"since a container does not let it", unix.EPERM},
	} {
		t.Run(test.name+" goes on", func(t *testing.T) {
			newEtc(t)
			u := under{fmt.Sprintf("no-keyctl=%d", test.errno)}
			got := u.facts(t, stack(t), "anna", "echo said=it")
			wantFacts(t, got, map[string]string{"said": "it"})
		})
	}
	t.Run("though there are some ends, and shares none", func(t *testing.T) {
		newEtc(t) // for root
		broker := convtest.Listen(t)
		process := convtest.Run(t, nil, "--under", fmt.Sprintf("no-keyctl=%d", unix.EDQUOT), "--", "--idle", "--socket", broker.Socket)
		if end := process.Wait(); end != "exit status 1" || !strings.Contains(process.Log(), "join a session keyring: disk quota exceeded") {
			t.Errorf("the worker ended with %s and said %s", end, process.Log())
		}
	})
}

// What modules put into the session keyring, or into one that they make, is for the
// command.
func TestTheSessionKeyringOfTheCommandIsThatOfTheModules(t *testing.T) {
	for _, test := range []struct {
		name, session string
		same          bool // as before open_session
	}{
		{"without pam_keyinit", "session required {permit}", true},
		{"with pam_keyinit that makes another one", "session required {keyinit} force revoke", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			newEtc(t)
			ownKeyring(t, "the-pools")
			look := "GORACE=atexit_sleep_ms=0 " + selfForAll(t) + " --keys"
			dir := stack(t, "auth required {probe} [auth:run="+look+" > {dir}/auth]",
				test.session, "session required {probe} [open:run="+look+" of-a-module > {dir}/open]")
			got := facts(t, dir, "anna", look+" of-a-module")
			before, after := lines(t, filepath.Join(dir, "auth"))[0], lines(t, filepath.Join(dir, "open"))[0]
			if (before == after) != test.same {
				t.Errorf("modules had %s, and %s in open_session", before, after)
			}
			wantFacts(t, got, map[string]string{"keyring": strings.TrimPrefix(after, "keyring="), "of-a-module": "<nil>"})
		})
	}
}
