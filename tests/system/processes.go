// SPDX-License-Identifier: Apache-2.0

package system

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// running is one process, held by a pidfd so that its number cannot come to
// mean another.
type running struct {
	pid     int
	fd      int
	command string
}

// belonging are the processes of a system: the descendants of roots, and those
// whose command line names dir, since workers outlive their parents.
func belonging(dir string, roots ...int) []running {
	parents, commands := map[int]int{}, map[int]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		pid, parent, ok := parseStat(stat)
		if !ok {
			continue
		}
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		parents[pid], commands[pid] = parent, string(bytes.TrimSpace(bytes.ReplaceAll(raw, []byte{0}, []byte{' '})))
	}
	var found []running
	for _, pid := range slices.Sorted(maps.Keys(parents)) {
		if !descends(pid, roots, parents) && !strings.Contains(commands[pid], dir) {
			continue
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			found = append(found, running{pid: pid, fd: fd, command: commands[pid]})
		}
	}
	return found
}

// parseStat reads a process's number and its parent's; ok is false for one
// that has ended.
func parseStat(path string) (pid, parent int, ok bool) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false
	}
	// "pid (comm) state ppid ...", where comm may hold spaces and parentheses.
	head, tail, found := bytes.Cut(raw, []byte(" ("))
	end := bytes.LastIndex(tail, []byte(") "))
	if !found || end < 0 {
		return 0, 0, false
	}
	fields := strings.Fields(string(tail[end+2:]))
	if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
		return 0, 0, false
	}
	pid, err1 := strconv.Atoi(string(head))
	parent, err2 := strconv.Atoi(fields[1])
	return pid, parent, err1 == nil && err2 == nil
}

func descends(pid int, roots []int, parents map[int]int) bool {
	for hops := 0; pid > 1 && hops < 64; hops++ {
		if slices.Contains(roots, pid) {
			return true
		}
		pid = parents[pid]
	}
	return false
}

// gone waits until every process has ended. Those that do not are an error of
// the test, and are killed.
func gone(t testing.TB, processes []running) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for _, p := range processes {
		if err := p.wait(deadline); err != nil {
			t.Errorf("process %d (%s) was left: %v", p.pid, p.command, err)
			_ = unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(p.fd)
	}
}

// wait waits for the end of a process that need not be our child.
func (p running) wait(deadline time.Time) error {
	for {
		left := max(0, time.Until(deadline).Milliseconds())
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(left))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return errors.New("it still runs")
		}
		return nil
	}
}
