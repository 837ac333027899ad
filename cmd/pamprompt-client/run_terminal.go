// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	xterm "golang.org/x/term"
)

// forwarding is the command's terminal, a pseudo-terminal, shown and typed to on ours.
type forwarding struct {
	master, slave *os.File
	keyboard      *terminal  // ours; nil when standard input is none
	own           bool       // the keyboard is nobody else's to close
	shape         *os.File   // a terminal of ours, whose size the command's has; or nil
	screen        *os.File   // ours: standard output
	over          chan error // why to leave, although the command runs

	escape  escape
	typed   chan []byte   // to the command
	stopped chan struct{} // closed when nothing more is to be typed
	once    sync.Once
	reading sync.WaitGroup
	showing sync.WaitGroup
}

// typedAhead is how many reads of the keyboard wait for a command that does not
// read. Whoever wants to leave such a one must still be heard.
const typedAhead = 64

// newForwarding makes the terminal like ours. asking is the one that prompts are
// asked on, or nil.
func newForwarding(asking *terminal) (*forwarding, error) {
	f := &forwarding{
		screen: os.Stdout, over: make(chan error, 1), typed: make(chan []byte, typedAhead), stopped: make(chan struct{}),
	}
	var err error
	if xterm.IsTerminal(0) {
		if f.keyboard, f.own, err = openKeyboard(asking); err != nil {
			return nil, err
		}
		f.keyboard.claim()
	}
	if f.master, f.slave, err = openPTY(); err != nil {
		f.close()
		return nil, err
	}
	for _, ours := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if f.shape == nil && xterm.IsTerminal(int(ours.Fd())) {
			f.shape = ours
		}
	}
	if err := f.imitate(); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// imitate gives the command's terminal the modes and the size of ours.
func (f *forwarding) imitate() error {
	if f.shape == nil {
		return nil
	}
	modes, err := unix.IoctlGetTermios(int(f.shape.Fd()), unix.TCGETS)
	if err == nil {
		err = unix.IoctlSetTermios(int(f.slave.Fd()), unix.TCSETS, modes)
	}
	if err != nil {
		return fmt.Errorf("copy the mode of the terminal: %w", err)
	}
	f.resize()
	return nil
}

// resize passes the size of our terminal on, and the kernel sends SIGWINCH if it
// is another one.
func (f *forwarding) resize() {
	if f.shape == nil {
		return
	}
	if size, err := unix.IoctlGetWinsize(int(f.shape.Fd()), unix.TIOCGWINSZ); err == nil {
		_ = control(f.master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
	}
}

// start begins to forward.
func (f *forwarding) start() error {
	if err := f.engage(); err != nil {
		return err
	}
	f.showing.Go(f.show)
	f.reading.Go(f.read)
	go f.feed()
	return nil
}

// engage makes our terminal raw: every key is for the command's.
func (f *forwarding) engage() error {
	var err error
	if f.keyboard != nil {
		err = f.keyboard.raw()
	}
	f.resize()
	return err
}

// rest gives our terminal its mode back.
func (f *forwarding) rest() {
	if f != nil && f.keyboard != nil {
		f.keyboard.restore()
	}
}

// guard is deferred in each goroutine: a panic there runs no defer of main's. f may
// be nil.
func (f *forwarding) guard() {
	if p := recover(); p != nil {
		f.rest()
		panic(p)
	}
}

// show writes what the command writes.
func (f *forwarding) show() {
	defer f.guard()
	for buffer := make([]byte, 32<<10); ; {
		n, err := f.master.Read(buffer)
		if f.write(buffer[:n]) != nil || err != nil {
			return
		}
	}
}

func (f *forwarding) write(output []byte) error {
	_, err := f.screen.Write(output)
	if err != nil {
		f.leave(fmt.Errorf("show what the command writes: %w", err))
	}
	return err
}

// leave says why to leave. The first reason will do.
func (f *forwarding) leave(why error) {
	select {
	case f.over <- why:
	default:
	}
}

// read takes what is typed, and hears whether somebody wants to leave.
func (f *forwarding) read() {
	defer f.guard()
	from := os.Stdin
	if f.keyboard != nil {
		from = f.keyboard.f
	}
	newline := true // ends what was typed
	for buffer := make([]byte, 4096); ; {
		n, err := from.Read(buffer)
		keys := append([]byte(nil), buffer[:n]...)
		clear(buffer[:n])
		if n > 0 {
			newline = keys[n-1] == '\n'
		}
		switch {
		case f.keyboard != nil && f.escape.in(keys, time.Now()):
			f.leave(errInterrupted)
			return
		case n > 0 && !f.enter(keys), errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err == nil:
		case f.keyboard != nil:
			f.leave(errHangup)
			return
		default:
			f.enter(f.end(newline))
			return
		}
	}
}

// enter hands keys to feed; false when nothing more is to be typed.
func (f *forwarding) enter(keys []byte) bool {
	select {
	case f.typed <- keys:
		return true
	case <-f.stopped:
		return false
	}
}

// end is what a terminal takes for the end of input. In the middle of a line the
// first one only ends the line.
func (f *forwarding) end(newline bool) []byte {
	key := byte(keyEnd)
	_ = control(f.master, func(fd int) error {
		modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil && modes.Cc[unix.VEOF] != 0 {
			key = modes.Cc[unix.VEOF]
		}
		return err
	})
	if newline {
		return []byte{key}
	}
	return []byte{key, key}
}

// feed types to the command, which may take its time.
func (f *forwarding) feed() {
	defer f.guard()
	for {
		select {
		case keys := <-f.typed:
			_, err := f.master.Write(keys)
			clear(keys)
			if err != nil {
				return
			}
		case <-f.stopped:
			return
		}
	}
}

// mute has nothing more typed. What we have not read stays for whoever has the
// terminal next.
func (f *forwarding) mute() {
	f.once.Do(func() {
		close(f.stopped)
		_ = f.master.SetWriteDeadline(past)
		if f.keyboard != nil { // other files cannot be interrupted, and need not
			_ = f.keyboard.f.SetReadDeadline(past)
			f.reading.Wait()
			_ = f.keyboard.f.SetReadDeadline(time.Time{})
		}
	})
}

var past = time.Unix(1, 0)

// finish is after the command's end: what it wrote is shown, and our terminal has
// its mode back. What others write is shown until settle.
func (f *forwarding) finish(ctx context.Context) {
	f.mute()
	whole := f.settle(ctx)
	f.rest()
	if whole {
		f.showing.Go(f.show)
	}
}

// settle shows all that was written up to now, and nothing later; false if a signal
// came first, since whoever reads our output may not read.
func (f *forwarding) settle(ctx context.Context) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer f.guard()
		_ = f.master.SetReadDeadline(past)
		f.showing.Wait()
		_ = f.master.SetReadDeadline(time.Time{})
		f.drain()
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// atOnce is more than a pseudo-terminal holds: of a process that goes on to write
// no more is shown.
const atOnce = 1 << 20

// drain shows what the terminal holds.
func (f *forwarding) drain() {
	buffer := make([]byte, 32<<10)
	for total := 0; total < atOnce; {
		var n int
		err := control(f.master, func(fd int) (err error) {
			n, err = unix.Read(fd, buffer)
			return err
		})
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || n == 0: // EAGAIN: nothing more; EIO: nothing more to come
			return
		default:
			total += n
			if f.write(buffer[:n]) != nil {
				return
			}
		}
	}
}

// close leaves our terminal as it was, and hangs up the command's.
func (f *forwarding) close() {
	if f.master != nil {
		f.mute()
	}
	f.rest()
	if f.own && f.keyboard != nil {
		f.keyboard.Close()
	}
	if f.master != nil {
		_, _ = f.master.Close(), f.slave.Close()
	}
}
