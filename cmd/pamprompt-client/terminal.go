// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
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
