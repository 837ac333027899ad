// SPDX-License-Identifier: Apache-2.0

// Package pids starts processes with a number of the test's choice, as those of
// an attacker who waits for the number of another one. Only tests import it.
package pids

import (
	"runtime"
	"syscall"
	"testing"
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
