// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
)

// killTimeout is how long after SIGKILL a session is torn down even though some
// process of it has not ended: the kernel does not let it.
const killTimeout = 2 * time.Second

// processes are those of the session: the command and all that it has started.
// Whose parent ends is a child of this process from then on, so nothing gets
// lost. All of it runs on the main goroutine, like the modules, which wait for
// children of their own: those that were there before are left to them.
type processes struct {
	log    *slog.Logger
	leader int          // 0 when its end is known
	others map[int]bool // children of modules
	ended  chan os.Signal
}

// newProcesses has this process be the parent of orphans from now on, and not
// before: a daemon that a module started is none of the session's processes.
func newProcesses(log *slog.Logger) (*processes, error) {
	p := &processes{log: log, others: map[int]bool{}, ended: make(chan os.Signal, 1)}
	for _, pid := range children(os.Getpid()) {
		p.others[pid] = true
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become the parent of orphans: %w", err)
	}
	signal.Notify(p.ended, unix.SIGCHLD)
	return p, nil
}

func (p *processes) release() {
	signal.Stop(p.ended)
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
}

// list is the processes of the session that are our children.
func (p *processes) list() []int {
	var list []int
	if p.leader != 0 {
		list = append(list, p.leader)
	}
	for _, pid := range children(os.Getpid()) {
		if pid != p.leader && !p.others[pid] {
			list = append(list, pid)
		}
	}
	return list
}

// reap takes in what has ended, and reports whether anything is left. How the
// command ended it says once.
func (p *processes) reap(exited func(unix.WaitStatus)) (left bool) {
	for again := true; again; { // what a process leaves behind when it ends comes to us
		left, again = false, false
		for _, pid := range p.list() {
			status, ended := wait(pid)
			if !ended {
				left = true
				continue
			}
			again = true
			if pid == p.leader {
				p.leader = 0
				exited(status)
			}
		}
	}
	return left
}

// unknown is the status of a command that somebody else has waited for.
const unknown unix.WaitStatus = 255 << 8

func wait(pid int) (status unix.WaitStatus, ended bool) {
	for {
		got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return unknown, true
		default:
			return status, got == pid
		}
	}
}

// signal sends signals to every process of the session, to children before their
// parents.
func (p *processes) signal(signals ...unix.Signal) {
	for _, pid := range p.list() {
		signalTree(pid, os.Getpid(), -1, signals)
	}
}

// deliver sends a signal of somebody else's choice. As long as the end of the
// command is not known to us, its number is nobody else's, nor is that of the group
// that it leads; a module may have waited for it, though.
func (p *processes) deliver(s *worker.Signal) {
	signal := unix.Signal(s.GetSignal())
	if s.GetTarget() == worker.Target_TARGET_ALL {
		p.signal(signal)
		return
	}
	if parentOf(p.leader) != os.Getpid() { // 0, of a command that has ended, is no process
		return
	}
	switch s.GetTarget() {
	case worker.Target_TARGET_LEADER:
		_ = unix.Kill(p.leader, signal)
	case worker.Target_TARGET_GROUP:
		_ = unix.Kill(-p.leader, signal)
	}
}

// signalTree holds each process by a pidfd before it makes sure that it is the
// one that is meant: its parent is, and was still there when that was asked. We
// are root, and a number may be somebody else's a moment later.
func signalTree(pid, parent, parentFD int, signals []unix.Signal) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	if parentOf(pid) != parent || parentFD >= 0 && unix.PidfdSendSignal(parentFD, 0, nil, 0) != nil {
		return
	}
	for _, child := range children(pid) {
		signalTree(child, pid, fd, signals)
	}
	for _, s := range signals {
		_ = unix.PidfdSendSignal(fd, s, nil, 0)
	}
}

// children is what a process has started, in proc(5)'s words.
func children(pid int) []int {
	var all []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// parentOf is 0 when the process is gone.
func parentOf(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// attend waits for the end of an open session: for Close, or for its last
// process. It returns why it ended, if Close does not say that.
func (t *transaction) attend() (why string) {
	if t.processes == nil {
		<-t.session.closing
		return ""
	}
	defer t.processes.release()
	closing, limit := (<-chan struct{})(t.session.closing), t.session.closeLimit()
	var late <-chan time.Time
	killing := false
	for t.processes.reap(func(s unix.WaitStatus) { why = t.exited(s) }) {
		select {
		case <-t.processes.ended:
			if killing {
				t.processes.signal(unix.SIGKILL)
			}
		case signal := <-t.session.signals:
			t.processes.deliver(signal)
		case <-closing:
			// As when a terminal hangs up. What is stopped has to go on to end.
			t.processes.signal(unix.SIGHUP, unix.SIGCONT)
			closing, late = nil, time.After(limit)
		case <-late:
			if killing {
				t.log.Warn("a process of the session does not end", "processes", t.processes.list())
				t.session.rest()
				return ""
			}
			t.processes.signal(unix.SIGKILL)
			killing, late = true, time.After(killTimeout)
		}
	}
	t.session.rest()
	if t.session.isClosed() {
		return ""
	}
	t.session.close() // from here on modules have as long as after any Close
	return why
}

// exited tells how the command has ended.
func (t *transaction) exited(status unix.WaitStatus) string {
	if status.Signaled() {
		t.session.exited(&worker.Exited{Signal: uint32(status.Signal())})
		return "the command was killed by " + signalName(status.Signal())
	}
	t.session.exited(&worker.Exited{Status: uint32(status.ExitStatus())})
	return fmt.Sprintf("the command ended with status %d", status.ExitStatus())
}

func signalName(s unix.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}
