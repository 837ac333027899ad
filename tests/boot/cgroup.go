// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cgroups makes cgroups for a machine, below our own, and returns their paths.
// systemd-nspawn calls what it makes there "payload", whatever the machine's name is: two
// machines below one cgroup would have one tree, and each would stop the other's units.
func cgroups(t testing.TB, name string) []string {
	t.Helper()
	ours, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var made []string
	for line := range strings.Lines(string(ours)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		// Those that systemd uses: version 2, and a hierarchy of its own beside version 1.
		if len(fields) != 3 || fields[1] != "" && fields[1] != "name=systemd" {
			continue
		}
		mount := hierarchy(t, fields[1])
		if mount == "" {
			continue
		}
		dir := filepath.Join(mount, fields[2], name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatalf("make a cgroup: %v", err)
		}
		made = append(made, dir)
	}
	return made
}

// hierarchy is where a cgroup hierarchy is mounted: version 2 has no name.
func hierarchy(t testing.TB, name string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if name == "" && fields[2] == "cgroup2" || name != "" && fields[2] == "cgroup" && strings.Contains(","+fields[3]+",", ","+name+",") {
			return fields[1]
		}
	}
	return ""
}

// enter is a script that takes the cgroups' files as its arguments up to "--", goes there,
// and is then the command that follows.
const enter = `while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"`

// removeCgroups removes cgroups and what the machine has made below, once all is ended.
func removeCgroups(dirs []string) error {
	for _, dir := range dirs {
		var below []string
		err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				below = append(below, path)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("look into a cgroup: %w", err)
		}
		for i := len(below) - 1; i >= 0; i-- {
			if err := os.Remove(below[i]); err != nil {
				return fmt.Errorf("remove a cgroup: %w", err)
			}
		}
	}
	return nil
}
