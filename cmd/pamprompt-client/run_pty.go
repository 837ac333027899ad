// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// openPTY opens a pseudo-terminal. The other end is asked of the kernel and not
// looked for by its name, which may mean another one in our mount namespace.
func openPTY() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	err = control(master, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno != 0 {
			return errno
		}
		slave = os.NewFile(peer, "pseudo-terminal")
		return nil
	})
	if err != nil {
		_ = master.Close()
		return nil, nil, fmt.Errorf("open the other end of a pseudo-terminal: %w", err)
	}
	return master, slave, nil
}

// openKeyboard opens the terminal that standard input is: the one that prompts
// are asked on, as a rule.
func openKeyboard(asking *terminal) (t *terminal, own bool, err error) {
	if asking != nil && isStdin(asking.f) {
		return asking, false, nil
	}
	if t, err := openTerminal(); err == nil {
		if isStdin(t.f) {
			return t, true, nil
		}
		t.Close()
	}
	f, err := os.OpenFile("/proc/self/fd/0", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, false, fmt.Errorf("open the terminal that is standard input: %w", err)
	}
	return &terminal{f: f}, true, nil
}

// isStdin says whether a terminal is the one of standard input, whatever name it
// was opened by.
func isStdin(f *os.File) bool {
	stdin, err := unix.IoctlGetUint32(0, unix.TIOCGDEV)
	return err == nil && control(f, func(fd int) error {
		device, err := unix.IoctlGetUint32(fd, unix.TIOCGDEV)
		if err == nil && device != stdin {
			err = errNoTerminal
		}
		return err
	}) == nil
}

// escape hears a key that is pressed often enough and fast enough.
type escape struct{ pressed []time.Time }

const (
	keyLeave    = 0x1d // Ctrl-]
	leaveCount  = 3
	leaveWithin = time.Second
)

// in takes the keys that came now.
func (e *escape) in(keys []byte, now time.Time) bool {
	for _, key := range keys {
		if key != keyLeave {
			e.pressed = nil
			continue
		}
		e.pressed = append(e.pressed, now)
		if now.Sub(e.pressed[0]) > leaveWithin {
			e.pressed = e.pressed[1:]
		}
		if len(e.pressed) == leaveCount {
			return true
		}
	}
	return false
}
