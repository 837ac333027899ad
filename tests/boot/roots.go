// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// packages are in every root file system.
var packages = []string{"systemd", "systemd-sysv", "dbus", "libpam-systemd", "libnss-systemd", "polkitd", "systemd-homed",
	"procps", "passwd", "libpam-oath", "oathtool", "cron", "at", "openssh-server", "openssh-client"}

// Root makes the root file system of a Debian suite, with more packages than the usual
// ones, where there is none yet, and returns its path. It is for New to be used. Its name
// says what it is made of, so that one of other packages is another: somebody else's
// machine may run above the old one. Whoever wants the room back removes it.
func Root(t testing.TB, suite string, more ...string) string {
	t.Helper()
	needs(t)
	wanted := slices.Concat(packages, more)
	slices.Sort(wanted)
	script, err := os.ReadFile("mkroot.sh")
	if err != nil {
		t.Fatal(err)
	}
	made := sha256.Sum256([]byte(strings.Join(wanted, " ") + "\n" + string(script)))
	root := filepath.Join(roots(t), fmt.Sprintf("%s-%x", suite, made[:4]))
	if out, err := exec.Command("./mkroot.sh", append([]string{root, suite}, wanted...)...).CombinedOutput(); err != nil {
		t.Fatalf("make a root file system of %s: %v\n%s", suite, err, out)
	}
	return root
}

// needs skips the test where no machine can be had.
func needs(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can boot a system")
	}
	for _, program := range []string{"systemd-nspawn", "debootstrap", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v: the Debian packages systemd-container, debootstrap and util-linux have them", err)
		}
	}
}

// roots is where root file systems are kept.
func roots(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("PAMPROMPT_ROOTS"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("%v: set PAMPROMPT_ROOTS to a directory for root file systems", err)
	}
	return filepath.Join(dir, "pamprompt", "roots")
}
