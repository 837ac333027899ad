// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/tests/pty"
)

// person is somebody at a pseudo-terminal with the client running on it.
type person struct {
	b      *bench
	cmd    *exec.Cmd
	keys   *os.File
	over   chan struct{}
	stdout buffer

	mu     sync.Mutex
	more   *sync.Cond
	screen []byte
	read   int // how much of screen was seen by see
	late   bool
}

// at starts the client on a terminal.
func (b *bench) at(args ...string) *person {
	b.t.Helper()
	keys, tty := pty.Open(b.t)
	p := &person{b: b, keys: keys, over: make(chan struct{})}
	p.more = sync.NewCond(&p.mu)
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
	go func() {
		defer close(p.over)
		p.watch()
	}()
	b.t.Cleanup(p.leave)
	return p
}

// leave ends the client.
func (p *person) leave() {
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	_ = p.cmd.Wait()
	<-p.over // the terminal is nobody's any more
	_ = p.keys.Close()
}

func (p *person) watch() {
	text := make([]byte, 4096)
	for {
		n, err := p.keys.Read(text)
		p.mu.Lock()
		p.screen = append(p.screen, text[:n]...)
		p.more.Broadcast()
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// see waits until text is on the screen, after what was seen before.
func (p *person) see(text string) {
	p.b.t.Helper()
	timer := time.AfterFunc(patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.late = true
		p.more.Broadcast()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for ; ; p.more.Wait() {
		if i := bytes.Index(p.screen[p.read:], []byte(text)); i >= 0 {
			p.read += i + len(text)
			return
		}
		if p.late {
			p.b.t.Fatalf("there is no %q in %q", text, p.screen[p.read:])
		}
	}
}

func (p *person) shown() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.screen)
}

func (p *person) press(keys string) {
	p.b.t.Helper()
	if _, err := p.keys.WriteString(keys); err != nil {
		p.b.t.Fatal(err)
	}
}

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
