// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/tests/pty"
)

// person is somebody at a pseudo-terminal with the client running on it.
type person struct {
	b      *bench
	cmd    *exec.Cmd
	keys   *os.File
	stdout buffer

	screen *pty.Screen
}

// at starts the client on a terminal.
func (b *bench) at(args ...string) *person {
	b.t.Helper()
	keys, tty := pty.Open(b.t)
	p := &person{b: b, keys: keys}
	p.stdout.grown = make(chan struct{}, 1)
	p.cmd = exec.Command(b.Programs.Client, args...)
	p.cmd.Env = b.Environment()
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, &p.stdout, tty
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	err := p.cmd.Start()
	_ = tty.Close()
	if err != nil {
		b.t.Fatal(err)
	}
	p.screen = pty.Watch(b.t, keys, patience)
	b.t.Cleanup(p.leave)
	return p
}

// leave ends the client.
func (p *person) leave() {
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	_ = p.cmd.Wait()
	<-p.screen.Over() // the terminal is nobody's any more
	_ = p.keys.Close()
}

// see waits until text is on the screen, after what was seen before.
func (p *person) see(text string) { p.b.t.Helper(); p.screen.See(text) }

func (p *person) shown() string { return p.screen.Shown() }

func (p *person) press(keys string) { p.b.t.Helper(); p.screen.Press(keys) }

// line waits for a line on standard output.
func (p *person) line() {
	p.b.t.Helper()
	select {
	case <-p.stdout.grown:
	case <-within(p.b.t).Done():
		p.b.t.Fatalf("it has written nothing; the screen shows %q", p.shown())
	}
}

// buffer is what a program has written so far.
type buffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{}
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.grown <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
