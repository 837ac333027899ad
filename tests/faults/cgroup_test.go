// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pidsGroup is a cgroup that lets no more processes and threads be than it is told.
type pidsGroup struct {
	t   testing.TB
	dir string
}

var groups atomic.Int64 // so that each has a name

// newPidsGroup makes a cgroup in the hierarchy that counts processes: that of version 1,
// or below whatever ancestor of ours has given that controller to its children.
func newPidsGroup(t testing.TB) *pidsGroup {
	t.Helper()
	for _, parent := range pidsParents(t) {
		dir := filepath.Join(parent, fmt.Sprintf("pamprompt-test-%d-%d", os.Getpid(), groups.Add(1)))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		g := &pidsGroup{t, dir}
		t.Cleanup(g.remove)
		return g
	}
	t.Skip("this needs root, and a cgroup hierarchy with the controller pids that it may make cgroups in")
	return nil
}

// pidsParents are the directories in which such a cgroup may be made, the nearest first.
func pidsParents(t testing.TB) (all []string) {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(own)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // cgroups(7)
		if len(fields) != 3 || fields[1] != "" && fields[1] != "pids" {
			continue
		}
		for mount := range strings.Lines(string(mounts)) {
			m := strings.Fields(mount)
			two := fields[1] == "" && m[2] == "cgroup2"
			one := fields[1] == "pids" && m[2] == "cgroup" && strings.Contains(","+m[3]+",", ",pids,")
			for dir := fields[2]; one || two; dir = filepath.Dir(dir) {
				given, _ := os.ReadFile(filepath.Join(m[1], dir, "cgroup.subtree_control"))
				if one || strings.Contains(" "+strings.TrimSpace(string(given))+" ", " pids ") {
					all = append(all, filepath.Join(m[1], dir))
				}
				if dir == "/" || dir == "." {
					break
				}
			}
		}
	}
	return all
}

func (g *pidsGroup) write(file, text string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, file), []byte(text), 0); err != nil {
		g.t.Fatal(err)
	}
}

// take has a process, with all its threads, be in the cgroup.
func (g *pidsGroup) take(pid int) { g.t.Helper(); g.write("cgroup.procs", fmt.Sprint(pid)) }

// close lets there be no process or thread more than there are.
func (g *pidsGroup) close() {
	g.t.Helper()
	now, err := os.ReadFile(filepath.Join(g.dir, "pids.current"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.write("pids.max", strings.TrimSpace(string(now)))
}

// open lifts the limit.
func (g *pidsGroup) open() { g.t.Helper(); g.write("pids.max", "max") }

// refused waits until the kernel has refused so many.
func (g *pidsGroup) refused(times int) {
	g.t.Helper()
	path := filepath.Join(g.dir, "pids.events")
	count := func() (n int) {
		text, err := os.ReadFile(path)
		if err == nil {
			_, err = fmt.Sscanf(string(text), "max %d", &n)
		}
		if err != nil {
			g.t.Fatal(err)
		}
		return n
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for late := time.After(patience); count() < times; {
		select {
		case <-again.C:
		case <-late:
			g.t.Fatalf("the kernel has refused %d processes, not %d", count(), times)
		}
	}
}

// remove is for when all that was in it has ended, or will.
func (g *pidsGroup) remove() {
	g.open()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for late := time.After(patience); ; {
		err := unix.Rmdir(g.dir)
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-late:
			g.t.Errorf("remove a cgroup: %v", err)
			return
		}
	}
}
