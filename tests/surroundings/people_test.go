// SPDX-License-Identifier: Apache-2.0

package surroundings

import (
	"cmp"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/tests/pty"
)

// person is somebody at a terminal on which the client runs.
type person struct {
	*pty.Screen
	t   testing.TB
	cmd *exec.Cmd
	tty *os.File
}

// at runs the client on a terminal of its own, which shows all that it writes. It is
// killed at the end of the test.
func (b *bench) at(args ...string) *person {
	b.t.Helper()
	return b.between(nil, nil, args...)
}

// between is at with another standard input and output.
func (b *bench) between(in, out *os.File, args ...string) *person {
	b.t.Helper()
	keys, tty := pty.Open(b.t)
	p := &person{t: b.t, cmd: exec.Command(b.Programs.Client, args...), tty: tty}
	p.cmd.Env, p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = b.Environment(), cmp.Or(in, tty), cmp.Or(out, tty), tty
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 2}
	if err := p.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	p.Screen = pty.Watch(b.t, keys, patience)
	b.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		_, _ = tty.Close(), keys.Close()
		<-p.Over()
		if b.t.Failed() {
			b.t.Logf("the terminal of %v shows %q", args, p.Shown())
		}
	})
	return p
}

// number waits until text is on the screen, and returns the number that stands where
// it says %.
func (p *person) number(text string) uint64 {
	p.t.Helper()
	before, after, _ := strings.Cut(text, "%")
	p.See(before)
	p.See(after)
	found := regexp.MustCompile(regexp.QuoteMeta(before)+`([0-9]+)`+regexp.QuoteMeta(after)).FindAllStringSubmatch(p.Shown(), -1)
	if len(found) == 0 {
		p.t.Fatalf("there is no %q in %q", text, p.Shown())
	}
	n, err := strconv.ParseUint(found[len(found)-1][1], 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// exits waits for the end of the program, and checks its exit code and that the
// terminal is as it was.
func (p *person) exits(code int) {
	p.t.Helper()
	_ = p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("%v ends with %d (%v), not %d", p.cmd.Args[1:], got, p.cmd.ProcessState, code)
	}
	mode, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	if want := uint32(unix.ECHO | unix.ICANON | unix.ISIG); mode.Lflag&want != want {
		p.t.Errorf("%v leaves the terminal in mode %+v", p.cmd.Args[1:], mode)
	}
}

// never checks that text never was on the screen.
func (p *person) never(text string) {
	p.t.Helper()
	if strings.Contains(p.Shown(), text) {
		p.t.Errorf("%q is in %q", text, p.Shown())
	}
}
