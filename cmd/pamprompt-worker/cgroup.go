// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroups makes a cgroup for each worker, below the pool's own: what modules and
// sessions start can be told apart then, and ended with its session. There are none
// unless systemd has given us ours to divide (Delegate=yes, cgroups(7) of version 2).
// No controllers are turned on, so that the pool can stay where it is.
type cgroups struct {
	dir  string // empty for none
	made int
}

// delegated is the attribute by which systemd marks a cgroup that is its
// service's (systemd.resource-control(5)).
const delegated = "trusted.delegate"

// prefix is that of the names of what we make.
const prefix = "worker-"

// ownCgroups looks whether we may make cgroups, and removes those of workers that
// an earlier pool has left and that have ended since.
func ownCgroups() *cgroups {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return new(cgroups)
	}
	dir := cgroupDir("/sys/fs/cgroup", string(raw))
	value := make([]byte, 8)
	if n, err := unix.Getxattr(dir, delegated, value); err != nil || string(value[:n]) != "1" {
		return new(cgroups)
	}
	return sweep(dir)
}

// cgroupDir is the directory of the cgroup that /proc/PID/cgroup names.
func cgroupDir(root, text string) string {
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/"); ok {
			return filepath.Join(root, path)
		}
	}
	return ""
}

func sweep(dir string) *cgroups {
	left, _ := filepath.Glob(filepath.Join(dir, prefix+"*"))
	for _, cgroup := range left {
		_ = unix.Rmdir(cgroup) // one with processes stays
	}
	return &cgroups{dir: dir}
}

// add makes a cgroup and opens it; nil without cgroups.
func (c *cgroups) add() (*os.File, error) {
	if c.dir == "" {
		return nil, nil
	}
	c.made++
	// Another pool's worker may still have the number.
	path := filepath.Join(c.dir, fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), c.made))
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("make the cgroup of a worker: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		_ = unix.Rmdir(path)
		return nil, fmt.Errorf("open the cgroup of a worker: %w", err)
	}
	return f, nil
}

// remove removes the cgroup of a worker that has ended. What it has left behind
// keeps it until the next pool.
func remove(cgroup string) {
	if cgroup != "" {
		_ = unix.Rmdir(cgroup)
	}
}
