// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheCgroupOfThePoolIsFound(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/pamprompt-worker.service\n":             "/cg/system.slice/pamprompt-worker.service",
		"12:cpu:/a\n0::/system.slice/pamprompt-worker.service\n":  "/cg/system.slice/pamprompt-worker.service",
		"12:cpu:/a\n1:name=systemd:/system.slice/other.service\n": "",
		"": "",
	} {
		if got := cgroupDir("/cg", text); got != want {
			t.Errorf("of %q: %q, want %q", text, got, want)
		}
	}
}

func TestWithoutDelegationThereAreNoCgroups(t *testing.T) {
	if f, err := new(cgroups).add(); f != nil || err != nil {
		t.Errorf("there is a cgroup %v (%v)", f, err)
	}
}

func TestCgroupsOfWorkersThatHaveEndedAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{prefix + "1-1", prefix + "1-2/busy", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := sweep(dir)
	f, err := c.add()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 3 { // the busy one, somebody else's, the new one
		t.Errorf("there are %q (%v)", left, err)
	}
	remove(f.Name())
	if _, err := os.Stat(f.Name()); !os.IsNotExist(err) {
		t.Errorf("the cgroup of a worker that has ended: %v", err)
	}
}
