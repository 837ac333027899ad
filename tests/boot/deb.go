// SPDX-License-Identifier: Apache-2.0

//go:build boot

package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Deb makes the Debian package of a version and returns its path.
func Deb(t testing.TB, version string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", "-C", root, "deb", "VERSION="+version)
	// A make above us must not hand on its own version.
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKEOVERRIDES=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return filepath.Join(root, "build", "pamprompt_"+version+"_"+runtime.GOARCH+".deb")
}
