// SPDX-License-Identifier: Apache-2.0

// Package pty opens pseudo-terminals. Only tests import it.
package pty

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Open opens a pseudo-terminal of 24 lines and 200 columns: keys is the end of
// whoever sits at it, tty that of programs. The caller closes both.
func Open(t testing.TB) (keys, tty *os.File) {
	t.Helper()
	return OpenIn(t, "/dev")
}

// OpenIn is Open with the pseudo-terminals of a /dev, which may be that of a container.
func OpenIn(t testing.TB, dev string) (keys, tty *os.File) {
	t.Helper()
	keys, err := os.OpenFile(filepath.Join(dev, "ptmx"), os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("there are no pseudo-terminals: %v", err)
	}
	raw, err := keys.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var wrong error
	err = raw.Control(func(fd uintptr) {
		wrong = errors.Join(unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0),
			unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 200}))
		if wrong == nil {
			number, wrong = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err := errors.Join(err, wrong); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(filepath.Join(dev, "pts", strconv.Itoa(number)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return keys, tty
}
