// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// packages are in every root file system.
var packages = []string{"systemd", "systemd-sysv", "dbus", "libpam-systemd", "libnss-systemd", "polkitd", "systemd-homed",
	"procps", "passwd", "libpam-oath", "oathtool"}

// Root makes the root file system of a Debian suite, with more packages than the usual
// ones, where there is none yet, and returns its path. It is for New to be used.
func Root(t testing.TB, suite string, more ...string) string {
	t.Helper()
	needs(t)
	root := filepath.Join(roots(t), suite)
	if out, err := exec.Command("./mkroot.sh", append([]string{root, suite}, append(packages, more...)...)...).CombinedOutput(); err != nil {
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
