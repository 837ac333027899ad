// SPDX-License-Identifier: Apache-2.0

// Package pids starts processes with a number of the test's choice, as those of
// an attacker who waits for the number of another one, and stops processes. Only
// tests import it.
package pids

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal uint64
	stack, stackSize, tls, setTID, setTIDSize     uint64
}

// StartAs starts a process with a number that is free, which takes root, and
// returns what ends it. The child is a copy of one thread: it calls the kernel
// and nothing else.
//
//go:norace
func StartAs(t testing.TB, pid int) (kill func()) {
	t.Helper()
	number := int32(pid)
	args := cloneArgs{exitSignal: uint64(unix.SIGCHLD), setTID: uint64(uintptr(unsafe.Pointer(&number))), setTIDSize: 1}
	path, err := unix.BytePtrFromString("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	long, err := unix.BytePtrFromString("3600")
	if err != nil {
		t.Fatal(err)
	}
	argv := []*byte{path, long, nil}
	syscall.ForkLock.Lock()
	got, _, failed := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	if got == 0 && failed == 0 {
		syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), 0)
		for {
			syscall.RawSyscall(unix.SYS_EXIT, 127, 0, 0)
		}
	}
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(&number)
	runtime.KeepAlive(argv)
	if failed != 0 || int(got) != pid {
		t.Skipf("start a process with the number %d: %v: run it as root, on Linux 5.5 or later", pid, failed)
	}
	var once bool
	kill = func() {
		if once {
			return
		}
		once = true
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}
	t.Cleanup(kill)
	return kill
}

// Stop stops a process by SIGSTOP, and returns when none of its threads runs any more:
// kill(2) returns before, and where processors are scarce a thread goes on for a while.
// It goes on at the end of the test, if it still is there, or with SIGCONT.
func Stop(t testing.TB, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatalf("stop process %d: %v", pid, err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGCONT) })
	again := time.NewTicker(time.Millisecond) // nobody but its parent is told of it
	defer again.Stop()
	for late := time.After(time.Minute); !stopped(t, pid); {
		select {
		case <-again.C:
		case <-late:
			t.Fatalf("process %d has not stopped a minute after SIGSTOP", pid)
		}
	}
}

// stopped is whether each thread has the state that proc_pid_stat(5) calls T.
func stopped(t testing.TB, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("process %d has no threads: %v", pid, err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			continue // that thread has ended
		}
		if _, state, _ := bytes.Cut(stat, []byte(") ")); !bytes.HasPrefix(state, []byte("T")) {
			return false
		}
	}
	return true
}
