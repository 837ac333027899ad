// SPDX-License-Identifier: Apache-2.0

package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/tests/pids"
)

// patience is how long anything here may take. It is a bound on a machine that
// hangs and never waited for.
const patience = 30 * time.Second

// process is a program that was started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait, then
}

// threads runs functions on one thread, which lives as long as the test binary.
var threads = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go serveThread(work)
	return work
})

func serveThread(work <-chan func()) {
	runtime.LockOSThread()
	for f := range work {
		f()
	}
}

// launch starts a program that the kernel ends when the test binary dies, by a
// panic or a timeout too. The kernel takes the thread that started it for its
// parent.
func launch(cmd *exec.Cmd) (err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGTERM
	done := make(chan struct{})
	threads() <- func() {
		defer close(done)
		err = cmd.Start()
	}
	<-done
	return err
}

// start starts a program in a process group of its own. If it says something
// first, ready reads that; it may be nil.
func start(cmd *exec.Cmd, log journal, ready func() error) (*process, error) {
	f, err := log.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	cmd.Stderr = f
	if err := launch(cmd); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	if ready != nil {
		err = ready() // before Wait, which closes the pipe it reads
	}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	if err != nil {
		return nil, errors.Join(err, p.end(syscall.SIGKILL))
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends a signal. After SIGSTOP no thread of the process runs.
func (p *process) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if signal == syscall.SIGSTOP {
		pids.Stop(t, p.pid())
		return
	}
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Errorf("%v for %s: %v", signal, p.cmd.Path, err)
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// end sends a signal and waits for the end.
func (p *process) end(signal syscall.Signal) error {
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		return fmt.Errorf("%s has not ended %v after %v", p.cmd.Path, patience, signal)
	}
}

// journal is the path of what all programs of a system write to standard
// error. It is a file and no pipe, since workers outlive whoever would read it.
type journal string

func (j journal) open() (*os.File, error) {
	return os.OpenFile(string(j), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

func (j journal) text() string {
	text, _ := os.ReadFile(string(j))
	return strings.TrimSpace(string(text))
}

// show puts the journal into the test's log if it failed.
func (j journal) show(t testing.TB) {
	t.Helper()
	if text := j.text(); t.Failed() && text != "" {
		t.Logf("log of the broker and its children:\n%s", text)
	}
}
