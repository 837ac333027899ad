// SPDX-License-Identifier: Apache-2.0

package main

// void prepare_heap(void);
import "C"

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// tunables does without glibc's caches of small pieces of memory, which are the
// only ones that heap.c cannot have overwritten when they are freed. mallopt(3)
// knows nothing of them. And all threads have one heap, that of the main thread: each would
// take 64 MiB of what RLIMIT_AS lets modules have.
const tunables = "GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1"

const (
	// unlocked is said in the log, once for all workers.
	unlocked = "what PAM modules keep of answers may be swapped out"
	// lockedStack is how much of the main thread's stack is locked.
	lockedStack = 256 << 10
	// leastLimit is the least RLIMIT_MEMLOCK under which there is still room for
	// answers when the heap and the stack are locked.
	leastLimit = 4 << 20
)

// lockMemory has what modules free be overwritten (heap.c), and keeps the memory of
// libpam and the modules out of swap, in which
// they have copies of answers: the heap and the upper part of the stack. Those of
// package secret are locked anyway. It must be called on the main thread.
//
// It is not mlockall(2). With all memory locked, or all that is to come, no more
// can be had while a module has taken on the user's identity and has lost
// CAP_IPC_LOCK with root's: malloc fails, the Go runtime ends the process, and
// the answer to a question of that module finds no room.
func lockMemory() error {
	C.prepare_heap()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("look at RLIMIT_MEMLOCK: %w", err)
	}
	if limit.Cur < leastLimit {
		return fmt.Errorf("RLIMIT_MEMLOCK is %d bytes, and should be %d", limit.Cur, leastLimit)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	locked := 0
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n != 2 {
			continue
		}
		switch {
		case strings.HasSuffix(line, "[heap]\n"):
		case strings.HasSuffix(line, "[stack]\n"):
			// Not to its end, where it grows: what is locked could not grow
			// with the user's identity.
			from = max(from+uintptr(unix.Getpagesize()), to-lockedStack)
		default:
			continue
		}
		if err := lockOnFault(from, to); err != nil {
			return fmt.Errorf("lock %#x-%#x: %w", from, to, err)
		}
		locked++
	}
	if locked < 2 {
		return errors.New("/proc/self/maps has no heap or no stack")
	}
	return nil
}

// lockOnFault is mlock2(2): pages are locked as they come to be.
func lockOnFault(from, to uintptr) error {
	_, _, errno := unix.Syscall(unix.SYS_MLOCK2, from, to-from, unix.MLOCK_ONFAULT)
	if errno != 0 {
		return errno
	}
	return nil
}
