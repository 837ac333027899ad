// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/tests/pty"
)

// replyPassword is not on PATH.
const replyPassword = "/usr/lib/systemd/systemd-reply-password"

// command is a program that sees the /run of the stage. Each of these becomes
// the next one by exec, so that signals reach the program.
func (b *stage) command(name string, args ...string) *exec.Cmd {
	b.t.Helper()
	needs(b.t, name)
	all := []string{"unshare", "--mount", "--propagation", "private", "/bin/sh", "-c",
		"mount --bind '" + b.run + `' /run && exec "$@"`, "sh", name}
	if b.network != "" {
		all = append([]string{"nsenter", "--net=" + b.network}, all...)
	}
	all = append(all, args...)
	cmd := exec.CommandContext(within(b.t), all[0], all[1:]...)
	// No colours, no signs before a question, and asterisks for what is typed.
	cmd.Env = append(b.Environment(), "TERM=dumb", "LC_ALL=C", "SYSTEMD_LOG_TARGET=console", "SYSTEMD_LOG_LEVEL=info")
	return cmd
}

// commandAs is command for another user.
func (b *stage) commandAs(uid int, name string, args ...string) *exec.Cmd {
	b.t.Helper()
	needs(b.t, name)
	return b.command("setpriv", append([]string{fmt.Sprint("--reuid=", uid), fmt.Sprint("--regid=", uid), "--clear-groups", name}, args...)...)
}

// output runs a program, which must end well, and is what it wrote.
func (b *stage) output(name string, args ...string) string {
	b.t.Helper()
	out, err := b.command(name, args...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// reply runs systemd-reply-password for a request: with an answer, or to cancel.
func (b *stage) reply(r request, sign, text string) {
	b.t.Helper()
	cmd := b.command(replyPassword, sign, r.Socket)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("systemd-reply-password %s: %v\n%s", sign, err, out)
	}
}

// terminal is somebody at a pseudo-terminal with a program running on it.
type terminal struct {
	t    *testing.T
	cmd  *exec.Cmd
	keys *os.File
	over chan struct{}

	mu     sync.Mutex
	more   *sync.Cond
	screen []byte
	read   int // how much of screen was seen by see
}

// at starts a program on a terminal.
func (b *stage) at(name string, args ...string) *terminal {
	b.t.Helper()
	p, tty := openTerminal(b.t)
	p.cmd = b.command(name, args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, tty, tty
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err := p.cmd.Start()
	_ = tty.Close() // so that the screen ends with the program
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return p
}

// openTerminal opens a pseudo-terminal whose screen is read.
func openTerminal(t *testing.T) (p *terminal, tty *os.File) {
	t.Helper()
	keys, tty := pty.Open(t)
	if err := silence(tty); err != nil {
		t.Fatal(err)
	}
	p = &terminal{t: t, keys: keys, over: make(chan struct{})}
	p.more = sync.NewCond(&p.mu)
	go p.watch()
	t.Cleanup(func() {
		_ = tty.Close()
		_ = keys.Close()
		<-p.over
		if t.Failed() {
			t.Logf("the terminal shows %q", p.screen)
		}
	})
	return p, tty
}

// silence has a terminal echo nothing and hand on each key at once. Agents ask
// before they do that, so that it would matter how soon somebody types.
func silence(tty *os.File) error {
	raw, err := tty.SyscallConn()
	if err != nil {
		return err
	}
	err2 := raw.Control(func(fd uintptr) {
		var settings *unix.Termios
		if settings, err = unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
			settings.Lflag &^= unix.ICANON | unix.ECHO
			err = unix.IoctlSetTermios(int(fd), unix.TCSETS, settings)
		}
	})
	return errors.Join(err, err2)
}

func (p *terminal) watch() {
	defer close(p.over)
	buf := make([]byte, 4096)
	for {
		n, err := p.keys.Read(buf)
		p.mu.Lock()
		p.screen = append(p.screen, buf[:n]...)
		p.more.Broadcast()
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// see waits until the terminal shows a text, and returns what came before it,
// after what was seen before.
func (p *terminal) see(text string) (before string) {
	p.t.Helper()
	late := time.AfterFunc(patience, p.more.Broadcast)
	defer late.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for deadline := time.Now().Add(patience); ; p.more.Wait() {
		unseen := p.screen[p.read:]
		if i := bytes.Index(unseen, []byte(text)); i >= 0 {
			p.read += i + len(text)
			return string(unseen[:i])
		}
		if !time.Now().Before(deadline) {
			p.t.Fatalf("there is no %q in %q", text, unseen)
		}
	}
}

// never checks that a text never was on the screen.
func (p *terminal) never(text string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if bytes.Contains(p.screen, []byte(text)) {
		p.t.Errorf("%q is on the screen: %q", text, p.screen)
	}
}

func (p *terminal) press(keys string) {
	p.t.Helper()
	if _, err := p.keys.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// ended wants the program to end well by itself, and returns the rest of what
// it showed.
func (p *terminal) ended() string {
	p.t.Helper()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%v: %v", p.cmd.Args, err)
	}
	<-p.over // it reads all that was written, and the terminal has no other user
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.screen[p.read:])
}

// stop ends the program by SIGTERM, which it must take for an end.
func (p *terminal) stop() string {
	p.t.Helper()
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.ended()
}
