// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/pamprompt/pamprompt/api/secret"
)

var (
	errNoTerminal = errors.New("there is no terminal to ask on")
	errEndOfInput = errors.New("end of input on the terminal") // Ctrl-D on an empty line, or a hangup
	errWithdrawn  = errors.New("the prompt was withdrawn")
	errLongLine   = fmt.Errorf("the line is longer than %d bytes", maxLine)
)

const maxLine = 4096

// terminal is the controlling terminal, whatever the standard streams are.
// Only one goroutine at a time reads a line; any may print.
type terminal struct {
	f *os.File // an open file description of our own: its flags are not the shell's

	mode  sync.Mutex // a panic restores from any goroutine
	saved *unix.Termios
	kept  chan struct{} // closed when the mode of engage is no more to be kept; nil before

	mu   sync.Mutex
	line *line // being read
}

// line is one line being typed.
type line struct {
	label  string // what stands before it
	echo   bool
	typed  *secret.Secret
	n      int // bytes of typed that count
	escape int // bytes of an escape sequence seen so far
}

// openTerminal opens /dev/tty, or standard input if that is a terminal but not
// the controlling one. The caller closes it.
func openTerminal() (*terminal, error) {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil && term.IsTerminal(0) {
		f, err = os.OpenFile("/proc/self/fd/0", os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTerminal, err)
	}
	return &terminal{f: f}, nil
}

// control runs do with the descriptor of f. File.Fd would make it blocking, and
// a read could not be interrupted any more.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}

func (t *terminal) control(do func(fd int) error) error { return control(t.f, do) }

// claim returns when the terminal is ours: in the background the kernel stops us
// until it is (SIGTTOU). Before that, its mode is that of whoever has it.
func (t *terminal) claim() {
	_ = t.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCSBRK, 1) }) // tcdrain(3)
}

// engage turns echo and line editing off, until restore. Ctrl-C stays a
// signal, which reaches us whether we read or not.
func (t *terminal) engage() error {
	t.mode.Lock()
	defer t.mode.Unlock()
	if t.saved != nil {
		return nil
	}
	t.claim()
	return t.control(func(fd int) error {
		saved, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return fmt.Errorf("read the terminal's mode: %w", err)
		}
		mode := *saved
		mode.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.IEXTEN
		mode.Lflag |= unix.ISIG
		mode.Iflag = mode.Iflag&^(unix.ISTRIP|unix.INLCR|unix.IGNCR|unix.IXON) | unix.ICRNL
		mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
		mode.Cc[unix.VSUSP], mode.Cc[unix.VQUIT] = 0, 0 // a stop would leave the shell with our mode
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, &mode); err != nil {
			return fmt.Errorf("turn the terminal's echo off: %w", err)
		}
		t.saved = saved
		t.keep(mode)
		return nil
	})
}

// keep sets the mode again after a stop. No key stops us, but others can, and the
// shell that then has the terminal may leave it to us with echo. The caller holds
// the lock.
func (t *terminal) keep(mode unix.Termios) {
	over, continued := make(chan struct{}), make(chan os.Signal, 1)
	t.kept = over
	signal.Notify(continued, unix.SIGCONT)
	again := func() {
		t.mode.Lock()
		defer t.mode.Unlock()
		if t.kept == over && t.foreground() { // elsewhere the kernel would stop us
			_ = t.control(func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, &mode) })
			t.redraw()
		}
	}
	go func() {
		defer signal.Stop(continued)
		for {
			select {
			case <-continued:
				again()
			case <-over:
				return
			}
		}
	}()
}

// unkeep ends keep. The caller holds the lock.
func (t *terminal) unkeep() {
	if t.kept != nil {
		close(t.kept)
		t.kept = nil
	}
}

// raw has every key come as it is, until restore. What was typed already stays.
func (t *terminal) raw() error {
	t.mode.Lock()
	defer t.mode.Unlock()
	t.claim()
	t.unkeep()
	return t.control(func(fd int) error {
		before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			_, err = term.MakeRaw(fd)
		}
		if err != nil {
			return fmt.Errorf("make the terminal raw: %w", err)
		}
		if t.saved == nil {
			t.saved = before
		}
		return nil
	})
}

// restore gives the terminal its mode back.
func (t *terminal) restore() {
	t.mode.Lock()
	defer t.mode.Unlock()
	t.unkeep()
	if t.saved == nil {
		return
	}
	_ = t.control(func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, t.saved) })
	t.saved = nil
}

// Close restores and closes the terminal.
func (t *terminal) Close() {
	t.restore()
	_ = t.f.Close()
}

// forget drops what was typed and not read.
func (t *terminal) forget() {
	_ = t.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) })
}

// foreground says whether we may read from the terminal without being stopped.
func (t *terminal) foreground() bool {
	var group int
	err := t.control(func(fd int) (err error) {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	return err == nil && group == unix.Getpgrp()
}

// eraseLine takes back what the current line of the terminal shows.
const eraseLine = "\r\x1b[K"

// print writes lines. A line that is being typed is moved below them.
func (t *terminal) print(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.line == nil {
		fmt.Fprintln(t.f, text)
		return
	}
	fmt.Fprintf(t.f, "%s%s\n", eraseLine, text)
	t.showLine()
}

// redraw shows the line that is being typed again.
func (t *terminal) redraw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.line != nil {
		fmt.Fprint(t.f, eraseLine)
		t.showLine()
	}
}

// showLine shows what stands before the line, and what was typed if that may be
// seen. The caller holds the lock.
func (t *terminal) showLine() {
	fmt.Fprint(t.f, lastLine(t.line.label))
	if t.line.echo {
		_, _ = t.f.Write(t.line.typed.Bytes()[:t.line.n])
	}
}

func lastLine(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '\n' {
			return s[i+1:]
		}
	}
	return s
}

// touched says whether something was typed on the current line.
func (t *terminal) touched() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.line != nil && t.line.n > 0
}

// read shows label and reads a line, which the caller wipes. The terminal must
// be engaged. It fails with errEndOfInput, errLongLine, and with errWithdrawn
// when the context ends: then the line is erased.
func (t *terminal) read(ctx context.Context, label string, echo bool) (*secret.Secret, error) {
	typed, err := secret.New(maxLine)
	if err != nil {
		return nil, err
	}
	t.begin(&line{label: label, echo: echo, typed: typed})
	err = t.interruptible(ctx, t.readLine)
	t.end(err)
	if err != nil {
		typed.Wipe()
		return nil, err
	}
	return typed, nil
}

// interruptible runs f, whose reads fail when the context ends; then it fails
// with errWithdrawn, whatever f read.
func (t *terminal) interruptible(ctx context.Context, f func() error) error {
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(fired)
		_ = t.f.SetReadDeadline(time.Unix(1, 0))
	})
	err := f()
	if stop() {
		return err
	}
	<-fired
	_ = t.f.SetReadDeadline(time.Time{})
	return errWithdrawn
}

func (t *terminal) begin(l *line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line = l
	fmt.Fprint(t.f, l.label)
}

func (t *terminal) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line.typed.Truncate(t.line.n)
	t.line = nil
	if errors.Is(err, errWithdrawn) {
		fmt.Fprint(t.f, eraseLine)
	} else {
		fmt.Fprintln(t.f)
	}
}

// readLine reads byte by byte, so that nothing that follows the line is taken
// and the bytes are nowhere but in the secret.
func (t *terminal) readLine() error {
	key := make([]byte, 1)
	defer clear(key)
	for {
		if n, err := t.f.Read(key); err != nil || n == 0 {
			return errEndOfInput // a hangup; or the deadline, as read knows
		}
		if over, err := t.press(key[0]); over {
			return err
		}
	}
}

const (
	keyEnd       = 0x04 // Ctrl-D
	keyEarlyEnd  = 0x00 // Ctrl-D that was typed before line editing was off
	keyBackspace = 0x08
	keyErase     = 0x15 // Ctrl-U
	keyEscape    = 0x1b
	keyDelete    = 0x7f
)

func isEnd(key byte) bool { return key == keyEnd || key == keyEarlyEnd }

// press handles one key and says whether the line is over.
func (t *terminal) press(key byte) (over bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.line
	switch {
	case l.escape > 0:
		l.skipEscape(key)
	case key == '\n' || key == '\r':
		return true, nil
	case l.n == 0 && isEnd(key):
		return true, errEndOfInput
	case key == keyEscape:
		l.escape = 1
	case key == keyBackspace || key == keyDelete:
		t.erase(1)
	case key == keyErase:
		t.erase(l.n)
	case key < ' ': // an answer has no control characters
	case l.n == maxLine:
		return true, errLongLine
	default:
		l.typed.Bytes()[l.n] = key
		l.n++
		if l.echo {
			_, _ = t.f.Write(l.typed.Bytes()[l.n-1 : l.n])
		}
	}
	return false, nil
}

// skipEscape swallows what an arrow or function key sends.
func (l *line) skipEscape(key byte) {
	switch {
	case l.escape == 1 && (key == '[' || key == 'O'):
		l.escape = 2
	case l.escape == 2 && key < 0x40:
	default:
		l.escape = 0
	}
}

// erase takes back up to n characters.
func (t *terminal) erase(n int) {
	l := t.line
	for ; n > 0 && l.n > 0; n-- {
		typed := l.typed.Bytes()
		_, size := utf8.DecodeLastRune(typed[:l.n])
		clear(typed[l.n-size : l.n])
		l.n -= size
		if l.echo {
			fmt.Fprint(t.f, "\b \b")
		}
	}
}

// rest waits, and forgets what is typed, until Ctrl-D on the idle terminal
// (errEndOfInput) or until the context ends (errWithdrawn).
func (t *terminal) rest(ctx context.Context) error {
	return t.interruptible(ctx, func() error {
		key := make([]byte, 1)
		defer clear(key)
		for {
			if n, err := t.f.Read(key); err != nil || n == 0 || isEnd(key[0]) {
				return errEndOfInput
			}
		}
	})
}
