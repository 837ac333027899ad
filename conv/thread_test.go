// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhatBelongsToTheThreadOfTheModules(t *testing.T) {
	t.Run("loginuid", func(t *testing.T) {
		newEtc(t)
		got := facts(t, stack(t, "session required {loginuid}"), "anna", "echo loginuid=$(cat /proc/self/loginuid)")
		wantFacts(t, got, map[string]string{"loginuid": "60001"})
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
