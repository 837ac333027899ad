// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/tests/pty"
)

// Terminal is a terminal of a machine at which a person sits, with a program that has it.
type Terminal struct {
	t       testing.TB
	m       *Machine
	keys    *os.File
	program *exec.Cmd

	mu    sync.Mutex
	shown strings.Builder
	seen  int           // how much of it was waited for
	over  chan struct{} // nothing more is shown
}

// Sit runs a program on a terminal of the machine, as root.
func (m *Machine) Sit(t testing.TB, args ...string) *Terminal {
	t.Helper()
	// The machine has a devpts of its own.
	keys, tty := pty.OpenIn(t, fmt.Sprintf("/proc/%s/root/dev", m.leader))
	defer func() { _ = tty.Close() }()
	s := &Terminal{t: t, m: m, keys: keys, program: m.command(t.Context(), args...), over: make(chan struct{})}
	s.program.Stdin, s.program.Stdout, s.program.Stderr = tty, tty, tty
	s.program.Env = append(s.program.Env, "TERM=linux")
	s.program.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.program.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.over)
		buffer := make([]byte, 4096)
		for {
			n, err := keys.Read(buffer)
			s.mu.Lock()
			s.shown.Write(buffer[:n])
			s.mu.Unlock()
			if err != nil {
				return // EIO, once nobody has the terminal any more
			}
		}
	}()
	return s
}

// await waits until a text is shown after all that was waited for.
func (s *Terminal) await(text string) {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the terminal shows\n%s", s.text())
		}
	}()
	s.m.until(s.t, "on the terminal "+text, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		at := strings.Index(s.shown.String()[s.seen:], text)
		if at < 0 {
			return false
		}
		s.seen += at + len(text)
		return true
	})
}

func (s *Terminal) enter(line string) { s.press(line + "\r") }

func (s *Terminal) press(keys string) {
	s.t.Helper()
	if _, err := s.keys.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// leave ends the program by Ctrl-D and returns all that was shown.
func (s *Terminal) leave() string {
	s.t.Helper()
	s.press("\x04")
	screen, code := s.end()
	if code != 0 {
		s.t.Errorf("after Ctrl-D the program ended with status %d", code)
	}
	return screen
}

// end waits for the end of the program and returns all that was shown, and its exit code.
func (s *Terminal) end() (screen string, code int) {
	s.t.Helper()
	select {
	case <-s.over:
	case <-time.After(patience):
		_ = s.program.Process.Kill()
		s.t.Errorf("the program still runs; the terminal shows\n%s", s.text())
		<-s.over
	}
	var status *exec.ExitError
	if err := s.program.Wait(); err != nil && !errors.As(err, &status) {
		s.t.Error(err)
	}
	_ = s.keys.Close()
	return s.text(), s.program.ProcessState.ExitCode()
}

func (s *Terminal) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}
