// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

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
