// SPDX-License-Identifier: Apache-2.0

package conv

// #include "own.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
)

// belongings are what this process cannot do without, and modules may take away. What
// is of the session they may change as they like: directory, root, umask, identity,
// limits.
type belongings struct {
	standardError int            // a copy of it; -1 for none
	poller        map[int]waiter // the descriptors by which the Go runtime waits for anything
}

// waiter is a descriptor of the Go runtime's own: an epoll, or the eventfd that ends its
// wait.
type waiter struct {
	unix.Stat_t
	epoll bool
}

// noteBelongings is called before the first module runs.
func noteBelongings() *belongings {
	C.note_signals()
	o := &belongings{standardError: -1, poller: map[int]waiter{}}
	if copied, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3); err == nil {
		o.standardError = copied
	}
	links, _ := filepath.Glob("/proc/self/fd/*") // without /proc nothing is found, and nothing missed
	for _, link := range links {
		to, _ := os.Readlink(link)
		fd, err := strconv.Atoi(filepath.Base(link))
		var st unix.Stat_t
		if err == nil && (to == "anon_inode:[eventpoll]" || to == "anon_inode:[eventfd]") && unix.Fstat(fd, &st) == nil {
			o.poller[fd] = waiter{st, to == "anon_inode:[eventpoll]"}
		}
	}
	return o
}

// restore takes back what modules have taken from the process.
func (o *belongings) restore(s *session) {
	C.restore_signals()
	o.refill()
	o.whole(s)
}

// refill opens again what was closed of descriptors 0 to 2. What is opened next would
// have their numbers otherwise, and what is written there.
func (o *belongings) refill() {
	for fd := range 3 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			continue
		}
		if fd == 2 && o.standardError >= 0 && unix.Dup3(o.standardError, 2, 0) == nil {
			continue
		}
		null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
		if err == nil && null != fd { // the lowest that is free is this one
			_ = unix.Close(null)
		}
	}
}

// whole ends the process when modules have closed what the Go runtime cannot do
// without: it would not wake up any more, or crash with a long report. The broker is
// told, if it can be.
func (o *belongings) whole(s *session) {
	for fd, was := range o.poller {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Dev == was.Dev && st.Ino == was.Ino {
			continue
		}
		o.refill() // for the log
		o.pretend()
		phase := s.phase()
		f := &failure{code: workerFailed, status: pam.ErrSystem, phase: phase,
			text: fmt.Sprintf("a module closed descriptors of the worker in phase %s; PAM was not closed", phase.Word())}
		s.log.Error("the worker ends", "session", s.start().GetSession(), "why", f.text)
		s.fail(f)
		os.Exit(1)
	}
}

// pretend puts something in the place of what the runtime waits by. Nothing comes of it, but
// for as long as it takes to say what has happened timers work, and nothing crashes.
func (o *belongings) pretend() {
	for fd, was := range o.poller {
		var other int
		var err error
		if was.epoll {
			other, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		} else {
			other, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		}
		if err == nil && other != fd {
			_ = unix.Dup3(other, fd, unix.O_CLOEXEC)
			_ = unix.Close(other)
		}
	}
}

// errNoRoom is a question that is not put, since its answer could not come.
var errNoRoom = errors.New("a module has left the worker no descriptor for an answer (RLIMIT_NOFILE)")

// room has the process take a descriptor, which an answer is, whatever modules have
// made of its limit. What they have made of it is the command's, and again sets it.
// Without CAP_SYS_RESOURCE it may fail.
func room() (again func(), err error) {
	modules, err := limitsNow()
	if err != nil {
		return nil, err
	}
	again = func() {}
	wanted := firstLimits().files
	if modules.files.Cur < wanted.Cur && unix.Setrlimit(unix.RLIMIT_NOFILE, &wanted) == nil {
		again = func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &modules.files) }
	}
	fd, err := unix.FcntlInt(uintptr(unix.Stdin), unix.F_DUPFD_CLOEXEC, 3)
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.EINVAL) { // EINVAL: the limit is below 3
		return nil, errNoRoom
	}
	if err == nil {
		_ = unix.Close(fd)
	}
	return again, nil
}

// phase is the one that the transaction is in.
func (s *session) phase() worker.Phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.GetPhase()
}
