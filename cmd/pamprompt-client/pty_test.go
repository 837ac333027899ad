// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/pty"
	"github.com/pamprompt/pamprompt/tests/system"
)

// person is somebody at a pseudo-terminal with the client running on it.
// Unlike testscript's ttyin, a person types when asked, so that one can see
// what is echoed.
type person struct {
	t      *testing.T
	keys   *os.File // the person's end
	tty    *os.File // the program's end
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr bytes.Buffer
	screen *pty.Screen
}

// at starts the client on a terminal, with pipes for what it writes.
func at(t *testing.T, s *system.System, args ...string) *person {
	t.Helper()
	p := arrive(t, s, exec.Command("pamprompt-client", args...)) // testscript.Main has put it on PATH
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(stdout)
	p.sit(args)
	return p
}

// arrive is a person whose program has not started yet.
func arrive(t *testing.T, s *system.System, cmd *exec.Cmd) *person {
	t.Helper()
	p := &person{t: t, cmd: cmd}
	p.keys, p.tty = pty.Open(t)
	cmd.Env, cmd.Stdin = s.Environment(), p.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	return p
}

// sit starts the program.
func (p *person) sit(args []string) {
	t := p.t
	t.Helper()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.screen = pty.Watch(t, p.keys, tooLong)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		_ = p.tty.Close()
		_ = p.keys.Close()
		<-p.screen.Over()
		if t.Failed() {
			t.Logf("the terminal of %v shows %q, standard error is %q", args, p.screen.Shown(), &p.stderr)
		}
	})
}

// tooLong is how long anything may take that a person waits for.
const tooLong = 20 * time.Second

// within has the program killed if what the test waits for takes too long, until
// the function that it returns is called.
func (p *person) within() (stop func() bool) {
	return time.AfterFunc(tooLong, func() {
		p.t.Errorf("it still runs after %v", tooLong)
		_ = p.cmd.Process.Signal(unix.SIGABRT) // what its goroutines do is in standard error
		time.AfterFunc(time.Second, func() { _ = p.cmd.Process.Kill() })
	}).Stop
}

// see waits until text is on the screen, after what was seen before.
func (p *person) see(text string) { p.t.Helper(); p.screen.See(text) }

// never checks that text never was on the screen.
func (p *person) never(text string) {
	p.t.Helper()
	if screen := p.screen.Shown(); strings.Contains(screen, text) {
		p.t.Errorf("%q is in %q", text, screen)
	}
}

// number waits until the program has written the number of a session to
// standard output, so that the session is open.
func (p *person) number() uint64 {
	p.t.Helper()
	defer p.within()()
	line, err := p.stdout.ReadString('\n')
	id, bad := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	if err != nil || bad != nil {
		p.t.Fatalf("standard output is %q, %v", line, err)
	}
	return id
}

func (p *person) press(keys string) { p.t.Helper(); p.screen.Press(keys) }

const (
	ctrlC  = "\x03"
	ctrlD  = "\x04"
	ctrlU  = "\x15"
	rubout = "\x7f"
	enter  = "\r"
)

// exits waits for the end of the program, and checks its exit code and that
// the terminal is as it was.
func (p *person) exits(code int) {
	p.t.Helper()
	defer p.within()()
	_ = p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d (%v), want %d; standard error: %s", got, p.cmd.ProcessState, code, &p.stderr)
	}
	mode, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	if want := uint32(unix.ECHO | unix.ICANON | unix.ISIG); mode.Lflag&want != want || mode.Cc[unix.VSUSP] == 0 {
		p.t.Errorf("the terminal is left in mode %+v", mode)
	}
}

// bounded is a context that ends a test that hangs.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), tooLong)
	t.Cleanup(cancel)
	return ctx
}

// begin opens a session from another connection, which an agent is to answer.
func begin(t *testing.T, s *system.System, service, user string, o api.Options) *api.Session {
	t.Helper()
	session, err := s.Client(t).Open(bounded(t), service, user, o)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func wantOpen(t *testing.T, session *api.Session) {
	t.Helper()
	if err := session.Wait(bounded(t), api.StateOpen); err != nil {
		t.Error(err)
	}
}

func environment(t *testing.T, session *api.Session) string {
	t.Helper()
	p, err := session.Properties(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(p.Environment, " ")
}
