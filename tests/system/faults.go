// SPDX-License-Identifier: Apache-2.0

package system

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BrokerPID is the process of the broker.
func (s *System) BrokerPID() int { return s.broker.pid() }

// EndedWith waits until the broker has ended by itself, and returns its exit code.
func (s *System) EndedWith(t testing.TB) int {
	t.Helper()
	s.Ended(t)
	return s.broker.cmd.ProcessState.ExitCode()
}

// SignalBus sends a signal to the bus. After SIGSTOP it has stopped.
func (s *OnBus) SignalBus(t testing.TB, signal syscall.Signal) {
	t.Helper()
	s.bus.signal(t, signal)
}

// EndBus ends the bus by a signal, and returns when it has ended.
func (s *OnBus) EndBus(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := s.bus.end(signal); err != nil {
		t.Fatal(err)
	}
}

// RestartBus starts another bus of the same kind at the same address, after EndBus.
func (s *OnBus) RestartBus(t testing.TB) {
	t.Helper()
	if s.startAgain == nil {
		t.Fatal("the bus of a machine is not started again")
	}
	s.startAgain(t)
}

// ProcessorTime is how much of a processor a process has used.
func ProcessorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	var ticks uint64
	for _, field := range fields[11:13] { // utime and stime of proc_pid_stat(5)
		n, err := strconv.ParseUint(string(field), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

// LimitFiles lets a process have so many more descriptors than it has, and no more. The
// function lifts that.
func LimitFiles(t testing.TB, pid, more int) (lift func()) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	taken := make(map[int]bool) // by the number, of which those that others left open are high
	for _, entry := range entries {
		var fd int
		if _, err := fmt.Sscan(entry.Name(), &fd); err != nil {
			t.Fatal(err)
		}
		taken[fd] = true
	}
	limit := 0
	for ; more > 0 || taken[limit]; limit++ {
		if !taken[limit] {
			more--
		}
	}
	set := func(new, old *unix.Rlimit) {
		t.Helper()
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, new, old); err != nil {
			t.Fatal(err)
		}
	}
	var old unix.Rlimit
	set(nil, &old)
	set(&unix.Rlimit{Cur: uint64(limit), Max: old.Max}, nil)
	return func() { set(&old, nil) }
}
