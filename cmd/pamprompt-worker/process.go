// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
)

// poolFD is where the pool's socket pair is handed down.
const poolFD = 3

// poolSocket returns this worker's end of the pool's socket pair, or nil when
// somebody started it by hand: descriptor 3 is then closed, or the Go runtime's.
func poolSocket() *os.File {
	var st unix.Stat_t
	if unix.Fstat(poolFD, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil
	}
	return os.NewFile(poolFD, "pool")
}

// threads is how many the Go runtime may want at once, apart from the main thread: two that
// run, and those that wait for packets, signals, the pool, NSS and the log.
const threads = 8

// haveThreads starts the threads that the process will want; they stay, and are used
// again. The Go runtime calls abort(3) where one cannot be had later, and pam_systemd puts a
// worker into a cgroup whose limit the user's processes use up.
func haveThreads() {
	runtime.GOMAXPROCS(min(2, runtime.NumCPU())) // each that is more may be a thread more
	var all sync.WaitGroup
	there := make(chan struct{})
	all.Add(threads)
	for range threads {
		go func() {
			runtime.LockOSThread() // so that each has one of its own
			defer runtime.UnlockOSThread()
			all.Done()
			<-there
		}()
	}
	all.Wait()
	close(there)
}

// harden makes the process what modules expect of a program that runs as root,
// and what answers need.
func harden() error {
	ignoreSignals()
	defaultFaults()
	closeOnExec()
	if err := forbidCore(); err != nil {
		return err
	}
	if err := secret.NotDumpable(); err != nil {
		return err
	}
	// Modules obey variables that a login program would not have.
	os.Clearenv()
	unix.Umask(0o022)
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return standardNull()
}

// forbidCore has this process leave no core file. The hard limit stays: it is that of
// what runs in the session, and root in a container may not raise it again
// (CAP_SYS_RESOURCE).
func forbidCore() error {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_CORE, &limit)
	if err == nil {
		limit.Cur = 0
		err = unix.Setrlimit(unix.RLIMIT_CORE, &limit)
	}
	if err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	return nil
}

// closeOnExec keeps what modules start from inheriting the pool's socket, and
// descriptors that whoever started the pool has left open.
func closeOnExec() {
	if unix.CloseRange(poolFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) != nil {
		// Before Linux 5.11 there is only the one that is known.
		unix.CloseOnExec(poolFD)
	}
}

// standardNull makes standard input and output /dev/null: modules may read and
// print what they like. Standard error has the log.
func standardNull() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/null: %w", err)
	}
	defer func() { _ = unix.Close(null) }()
	for fd := range 2 {
		if err := unix.Dup3(null, fd, 0); err != nil {
			return fmt.Errorf("make descriptor %d /dev/null: %w", fd, err)
		}
	}
	return nil
}

// ignoreSignals catches what must not end a session: a terminal that closes, a
// pipe for the log that breaks. They are caught and not set to SIG_IGN, which
// the commands that modules start would inherit.
func ignoreSignals() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGPIPE)
}
