// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// own is a shell that is a child of the test's, and waits for nobody.
type own struct {
	t   testing.TB
	pid int
	in  *os.File
	out *bufio.Reader
}

// start runs a script whose output is its lines from then on. What it has started
// ends with the test, if its pid was taken by later.
func start(t testing.TB, script string) *own {
	t.Helper()
	theirs, in := ends(t)
	out, theirOut := ends(t)
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{
		Files: []uintptr{theirs.Fd(), theirOut.Fd(), theirOut.Fd()},
	})
	_, _ = theirs.Close(), theirOut.Close()
	if err != nil {
		t.Fatal(err)
	}
	fd := pidfd(t, strconv.Itoa(pid))
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		_, _ = unix.Wait4(pid, nil, 0, nil) // ECHILD where the test has
	})
	return &own{t, pid, in, bufio.NewReader(out)}
}

// later is a process that the shell has started and whose pid it says.
func (o *own) later() (fd int) {
	o.t.Helper()
	line, err := o.out.ReadString('\n')
	if err != nil {
		o.t.Fatal(err)
	}
	fd = pidfd(o.t, strings.TrimSpace(line))
	o.t.Cleanup(func() { _ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) })
	return fd
}

// says has whoever reads from the shell's input go on, and returns what it says to
// that: nothing if it was killed before, which it then does not outlive.
func (o *own) says() string {
	o.t.Helper()
	if _, err := o.in.WriteString("\n"); err != nil && !errors.Is(err, unix.EPIPE) {
		o.t.Fatal(err)
	}
	line, err := o.out.ReadString('\n')
	if err != nil && err != io.EOF {
		o.t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// await waits for the end of a process, which need not have been waited for.
func await(t testing.TB, fd int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil || n == 0:
			t.Fatalf("a process does not end (%v)", err)
		default:
			return
		}
	}
}

// A process may end between the look at who there is and the look at what has ended:
// its own children are nobody's who was seen. Here one does while the end of the
// command is told.
func TestWhatAProcessLeavesAsItEndsIsWaitedFor(t *testing.T) {
	p, err := newProcesses(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	leader := start(t, "exit 3")
	parent := start(t, "sleep 1000 & echo $!; wait")
	left := parent.later()
	p.leader = leader.pid
	await(t, pidfd(t, strconv.Itoa(leader.pid)))
	parentFD := pidfd(t, strconv.Itoa(parent.pid))
	var status unix.WaitStatus
	more := p.reap(func(s unix.WaitStatus) {
		status = s
		_ = unix.PidfdSendSignal(parentFD, unix.SIGKILL, nil, 0)
		await(t, parentFD)
	})
	if status.ExitStatus() != 3 || !more {
		t.Errorf("the command ended with status %d, and something is left: %v", status.ExitStatus(), more)
	}
	_ = unix.PidfdSendSignal(left, unix.SIGKILL, nil, 0)
	await(t, left)
	if p.reap(func(unix.WaitStatus) { t.Error("the command ended twice") }) {
		t.Error("what was left has ended and is there")
	}
}

// The number of a process that has ended is somebody else's some day: what has
// another parent, or one that has ended, is not what was seen.
func TestOnlyTheChildrenThatWereSeenAreSignalled(t *testing.T) {
	gone := start(t, "exit")
	goneFD := pidfd(t, strconv.Itoa(gone.pid))
	if _, err := unix.Wait4(gone.pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	const waits = "read -r line; echo untouched"
	for _, test := range []struct {
		name     string
		parent   func(child *own) int
		parentFD int
		want     string
	}{
		{"a child is", func(*own) int { return os.Getpid() }, -1, ""},
		{"a process that has another parent is not", func(child *own) int { return child.pid }, -1, "untouched"},
		{"a process whose parent has ended is not", func(*own) int { return os.Getpid() }, goneFD, "untouched"},
	} {
		t.Run(test.name, func(t *testing.T) {
			child := start(t, waits)
			signalTree(child.pid, test.parent(child), test.parentFD, []unix.Signal{unix.SIGKILL})
			if got := child.says(); got != test.want {
				t.Errorf("it said %q", got)
			}
		})
	}
	t.Run("a process that is gone is not looked for", func(*testing.T) {
		signalTree(gone.pid, os.Getpid(), -1, []unix.Signal{unix.SIGKILL})
	})
}

// When a process ends, its children are somebody else's: who comes to them after
// it does not find them.
func TestWhatAProcessHasStartedIsSignalledBeforeIt(t *testing.T) {
	parent := start(t, "exec 3<&0; (read -r line <&3; echo untouched) & echo $!; wait")
	child := parent.later()
	atOnce(t, parent.pid)
	signalTree(parent.pid, os.Getpid(), -1, []unix.Signal{unix.SIGKILL})
	if got := parent.says(); got != "" {
		t.Errorf("the child said %q", got)
	}
	await(t, child)
}

// atOnce has a process end at once when it is killed, before the kernel comes back to
// this thread, which has to be locked: on the same processor and before everything
// else there. Without the right to that the test may not see what it looks for.
func atOnce(t testing.TB, pid int) {
	t.Helper()
	runtime.LockOSThread() // and never unlock: the thread ends with the test
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	for _, p := range []int{0, pid} {
		if err := unix.SchedSetaffinity(p, &one); err != nil {
			t.Fatal(err)
		}
	}
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(pid, &attr, 0); err != nil {
		t.Logf("the process may end a moment later than it is killed: %v", err)
	}
}
