// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/tests/pty"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestRunOnATerminal(t *testing.T) {
	s := system.Start(t, options(t))
	t.Run("it is another one, like ours", func(t *testing.T) {
		p := arrive(t, s, exec.Command("pamprompt-client", "run",
			"sh", "-c", "tty; stty size; stty -a | grep -o 'intr = [^;]*'; test -t 0 && test -t 1 && test -t 2 && exit 3"))
		mode, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
		if err == nil {
			mode.Cc[unix.VINTR] = 2
			err = unix.IoctlSetTermios(int(p.tty.Fd()), unix.TCSETS, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		p.cmd.Stdout, p.cmd.Stderr = p.tty, p.tty
		p.sit(nil)
		p.see("/dev/pts/")
		p.see("24 200")
		p.see("intr = ^B")
		p.exits(3)
		p.never(p.tty.Name() + "\r\n")
	})
	t.Run("its size follows ours", func(t *testing.T) {
		p := onTerminal(t, s, "sh", "-c", traps("trap 'stty size; exit 5' WINCH"))
		p.see("ready")
		p.resize(40, 100)
		p.see("40 100")
		p.exits(5)
	})
	t.Run("a shell controls its jobs", func(t *testing.T) {
		p := onTerminal(t, s, "--setenv", "PS1=> ", "--setenv", "JOB="+traps("trap 'echo again' CONT"), "bash", "--norc", "-i")
		p.see("> ")
		p.press("sh -c \"$JOB\"" + enter)
		p.see("ready")
		p.press(ctrlZ)
		p.see("Stopped")
		p.see("> ")
		p.press("jobs" + enter)
		p.see("Stopped")
		p.see("> ")
		p.press("fg" + enter)
		p.see("again") // when it has the terminal
		p.press(ctrlC)
		p.see("> ")
		p.press("echo status $?" + enter)
		p.see("status 130")
		p.press("exit 7" + enter)
		p.exits(7)
		p.never("no job control")
	})
	t.Run("all that it writes is shown", func(t *testing.T) {
		const size = 3 << 20
		p := onTerminal(t, s, "sh", "-c", fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo; echo en''d", size))
		p.see("end\r\n")
		p.exits(exitOK)
		if got := strings.Count(p.screen.Shown(), "x"); got != size {
			t.Errorf("%d bytes are shown, not %d", got, size)
		}
	})
	t.Run("the last words too, though something is left that has the terminal", func(t *testing.T) {
		p := onTerminal(t, s, "sh", "-c", "setsid sleep 1000 & echo last words; exit 4")
		p.see("last words")
		p.exits(4)
	})
	t.Run("what is left may write without end", func(t *testing.T) {
		p := onTerminal(t, s, "sh", "-c", "setsid sh -c 'exec yes <$0 >$0' $(tty) & exit 4")
		p.exits(4)
	})
	t.Run("it may close it and come back", func(t *testing.T) {
		p := onTerminal(t, s, "sh", "-c", "exec </dev/null >/dev/null 2>&1; cat; cat; cat; cat; exec >/dev/tty </dev/tty; echo back; read -r line; exit 4")
		p.see("back")
		p.press(enter)
		p.exits(4)
	})
	t.Run("a signal ends it", func(t *testing.T) {
		p := onTerminal(t, s, "sh", "-c", "kill -KILL $$")
		p.exits(128 + 9)
	})
	t.Run("it cannot be started", func(t *testing.T) {
		p := onTerminal(t, s, "/nosuch")
		p.see("CommandFailed")
		p.exits(exitNotStarted)
	})
	t.Run("Ctrl-] leaves, and hangs up", func(t *testing.T) {
		fifo := pipe(t)
		p := onTerminal(t, s, "sh", "-c", traps(hangup(fifo)))
		p.see("ready")
		p.press("\x1d\x1d")
		p.press("\x1d")
		wantLine(t, fifo, "hangup")
		p.exits(exitCancelled)
	})
	t.Run("also from what does not read", func(t *testing.T) {
		p := onTerminal(t, s, "sh", "-c", "stty raw -echo; "+ready)
		p.see("ready")
		p.press(strings.Repeat("x", 20000))
		p.press(leave)
		p.exits(exitCancelled)
	})
	t.Run("every other key is the command's", func(t *testing.T) {
		p := onTerminal(t, s, "sh", "-c", "stty raw -echo; echo rea''dy; head -c 12 | od -An -tx1")
		p.see("ready")
		p.press(ctrlC + ctrlD + ctrlZ + enter + "\n\x1d\x1d\x1b\x11\x13\x00\xff")
		p.see("03 04 1a 0d 0a 1d 1d 1b 11 13 00 ff")
		p.exits(exitOK)
	})
	t.Run("a signal that is sent to us", func(t *testing.T) {
		for _, test := range []struct {
			name   string
			signal syscall.Signal
		}{{"TERM", unix.SIGTERM}, {"USR1", unix.SIGUSR1}, {"INT", unix.SIGINT}, {"QUIT", unix.SIGQUIT}} {
			p := onTerminal(t, s, "sh", "-c", traps("trap 'echo got "+test.name+"; exit 9' "+test.name))
			p.see("ready")
			p.signal(test.signal)
			p.see("got " + test.name)
			p.exits(9)
		}
	})
	t.Run("a hangup ends us, and it", func(t *testing.T) {
		fifo := pipe(t)
		p := onTerminal(t, s, "sh", "-c", traps(hangup(fifo)))
		p.see("ready")
		p.signal(unix.SIGHUP)
		wantLine(t, fifo, "hangup")
		p.exits(exitCancelled)
	})
	t.Run("so does whatever ends us at once", func(t *testing.T) {
		fifo := pipe(t)
		p := onTerminal(t, s, "sh", "-c", traps(hangup(fifo)))
		p.see("ready")
		p.signal(unix.SIGKILL)
		wantLine(t, fifo, "hangup")
	})
	t.Run("while we are stopped our terminal is as it was", func(t *testing.T) {
		p := onTerminal(t, s, "sh", "-c", traps("trap 'stty size' WINCH", "trap 'exit 6' INT"))
		p.see("ready")
		if !p.isRaw() {
			t.Error("the terminal is not raw")
		}
		p.signal(unix.SIGTSTP)
		p.stops()
		if p.isRaw() {
			t.Error("we have stopped and the terminal is raw")
		}
		p.resize(50, 120)
		p.signal(unix.SIGCONT)
		p.see("50 120") // which is passed on when the terminal is raw
		if !p.isRaw() {
			t.Error("we go on and the terminal is not raw")
		}
		p.press(ctrlC)
		p.exits(6)
	})
}

func TestTheBusIsLostWhileACommandRuns(t *testing.T) {
	s := system.Start(t, options(t))
	p := onTerminal(t, s, "sh", "-c", ready)
	p.see("ready")
	var pid uint32
	bus := s.Conn(t)
	if err := bus.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, "org.freedesktop.DBus").Store(&pid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(int(pid), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.see("the connection to the bus was lost: session ")
	p.see(" is closed, and its command ended, ")
	p.exits(exitUnreachable)
}

// A run in the background is stopped when it wants the terminal, and goes on when
// it gets it.
func TestRunInTheBackgroundOfAShell(t *testing.T) {
	s := system.Start(t, options(t))
	p := arrive(t, s, exec.Command("bash", "--norc", "-i"))
	p.cmd.Env = append(p.cmd.Env, "PS1=> ")
	p.cmd.Stdout, p.cmd.Stderr = p.tty, p.tty
	p.sit(nil)
	p.see("> ")
	p.press("set -b; pamprompt-client run sh -c 'echo sta\"\"rted; read -r line; echo got $line; exit 5' &" + enter)
	p.see("Stopped")
	p.press(enter)
	p.see("> ")
	p.press("fg" + enter)
	p.see("started")
	p.press("words" + enter)
	p.see("got words")
	p.see("> ")
	p.press("echo status $?" + enter)
	p.see("status 5")
	p.press("exit" + enter)
	p.exits(exitOK)
}

// The keyboard need not be the terminal that prompts are asked on.
func TestRunOnAnotherTerminal(t *testing.T) {
	s := system.Start(t, options(t))
	keys, other := pty.Open(t)
	defer func() { _, _ = keys.Close(), other.Close() }()
	p := arrive(t, s, exec.Command("pamprompt-client", "run", "--pty", "--service", "unlock", "-u", "nobody",
		"sh", "-c", "read -r line; echo got $line; exit 3"))
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = other, p.tty, p.tty
	p.cmd.ExtraFiles, p.cmd.SysProcAttr.Ctty = []*os.File{p.tty}, 3
	p.sit(nil)
	p.see("Passphrase: ")
	p.press("secret" + enter)
	p.see("\r\n")
	if _, err := keys.WriteString("words" + enter); err != nil {
		t.Fatal(err)
	}
	p.see("got words")
	p.exits(3)
	mode, err := unix.IoctlGetTermios(int(other.Fd()), unix.TCGETS)
	if err != nil || mode.Lflag&unix.ECHO == 0 {
		t.Errorf("the other terminal is left in mode %+v, %v", mode, err)
	}
}

// onPipe is a forwarding that shows what comes on a pipe.
func onPipe(t *testing.T) (f *forwarding, screen *os.File) {
	t.Helper()
	f, err := newForwarding(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	if screen, f.screen, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	return f, screen
}

func TestWhatTheTerminalHoldsIsShown(t *testing.T) {
	f, screen := onPipe(t)
	defer func() { _ = screen.Close() }()
	if _, err := f.slave.WriteString("last words"); err != nil {
		t.Fatal(err)
	}
	f.settle(t.Context())
	_ = f.screen.Close()
	if got, err := io.ReadAll(screen); string(got) != "last words" || err != nil {
		t.Errorf("it shows %q, %v", got, err)
	}
}

func TestWhatIsWrittenWithoutEndIsNotWaitedFor(t *testing.T) {
	f, screen := onPipe(t)
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(io.Discard, screen)
	}()
	yes := exec.Command("yes")
	yes.Stdout = f.slave
	if err := yes.Start(); err != nil {
		t.Fatal(err)
	}
	if !f.settle(bounded(t)) {
		t.Error("it has waited for the end")
	}
	_, _, _ = yes.Process.Kill(), yes.Wait(), f.screen.Close()
	<-read
}

func TestAPanicLeavesTheTerminalAsItWas(t *testing.T) {
	keys, tty := pty.Open(t)
	defer func() { _, _ = keys.Close(), tty.Close() }()
	f := &forwarding{keyboard: &terminal{f: tty}}
	if err := f.keyboard.raw(); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is kept")
			}
		}()
		defer f.guard()
		panic("of a goroutine")
	}()
	mode, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil || mode.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal is left in mode %+v, %v", mode, err)
	}
}

func TestEscape(t *testing.T) {
	begin := time.Unix(1000, 0)
	type press struct {
		after time.Duration
		keys  string
	}
	for _, test := range []struct {
		name    string
		presses []press
		want    bool
	}{
		{"at once", []press{{0, leave}}, true},
		{"one by one", []press{{0, "\x1d"}, {400 * time.Millisecond, "\x1d"}, {time.Second, "\x1d"}}, true},
		{"two", []press{{0, "\x1d\x1d"}}, false},
		{"too slow", []press{{0, "\x1d"}, {600 * time.Millisecond, "\x1d"}, {1100 * time.Millisecond, "\x1d"}}, false},
		{"too slow at first", []press{{0, "\x1d"}, {900 * time.Millisecond, "\x1d"}, {1100 * time.Millisecond, "\x1d"}, {1200 * time.Millisecond, "\x1d"}}, true},
		{"another key between", []press{{0, "\x1d\x1dx\x1d"}, {0, "\x1d"}}, false},
		{"after other keys", []press{{0, "abc\x1d"}, {0, "\x1d\x1d"}}, true},
		{"nothing", []press{{0, ""}}, false},
	} {
		var e escape
		got := false
		for _, p := range test.presses {
			got = e.in([]byte(p.keys), begin.Add(p.after))
		}
		if got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
