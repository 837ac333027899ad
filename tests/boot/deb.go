// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// debs are the packages that were made, by version. Whoever has a machine may touch it.
var debs = map[string]string{}

// Deb makes the Debian package of a version, once, and returns its path.
func Deb(t testing.TB, version string) string {
	t.Helper()
	if made := debs[version]; made != "" {
		return made
	}
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
	debs[version] = filepath.Join(root, "build", "pamprompt_"+version+"_"+runtime.GOARCH+".deb")
	return debs[version]
}
