// SPDX-License-Identifier: Apache-2.0

package convtest

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a worker or a pool, run by the test binary's TestMain when the
// first argument says so.
type Process struct {
	Pid int

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid when done is closed
	log  buffer
}

// buffer is what a process writes to standard error.
type buffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // holds one: something was written
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Run starts the test binary with these arguments, in a session of its own and
// with these files from descriptor 3 on. It is killed when the test ends.
func Run(t testing.TB, files []*os.File, args ...string) *Process {
	t.Helper()
	return start(t, &syscall.SysProcAttr{Setsid: true}, files, args...)
}

// RunAs is Run as another user, which only root can do.
func RunAs(t testing.TB, uid uint32, args ...string) *Process {
	t.Helper()
	attr := &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return start(t, attr, nil, args...)
}

func start(t testing.TB, attr *syscall.SysProcAttr, files []*os.File, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: exec.Command(os.Args[0], args...), done: make(chan struct{})}
	p.log.more = make(chan struct{}, 1)
	p.cmd.Stderr = &p.log
	// The race detector lets a process sleep for a second when it ends.
	p.cmd.Env = append(p.cmd.Environ(), "GORACE=atexit_sleep_ms=0")
	p.cmd.ExtraFiles = files
	p.cmd.SysProcAttr = attr
	// A process of a module may keep standard error open after the worker.
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.Pid = p.cmd.Process.Pid
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.cleanup)
	return p
}

func (p *Process) cleanup() {
	_ = p.cmd.Process.Kill()
	<-p.done
	log := p.log.String()
	if bytes.Contains([]byte(log), []byte("DATA RACE")) {
		p.t.Errorf("the process has a data race")
	}
	if p.t.Failed() {
		p.t.Logf("standard error of process %d (%v):\n%s", p.Pid, p.err, log)
	}
}

// Wait waits for the end and returns how it was: "exit 0", "killed by SIGKILL".
func (p *Process) Wait() string {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("process %d does not end", p.Pid)
	}
	return p.cmd.ProcessState.String()
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Says waits until the process has written a text to standard error.
func (p *Process) Says(text string) {
	p.t.Helper()
	for late := time.After(patience); !strings.Contains(p.Log(), text); {
		select {
		case <-p.log.more:
		case <-late:
			p.t.Fatalf("process %d does not say %q", p.Pid, text)
		}
	}
}

// Log is what the process wrote to standard error so far.
func (p *Process) Log() string { return p.log.String() }
