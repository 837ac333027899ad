// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// terminal is what becomes the controlling terminal of the command. It is held by
// its name alone (O_PATH), so that whoever reads the other end of a
// pseudo-terminal sees when the last program has closed this one.
type terminal struct {
	path int    // descriptor
	name string // below /dev, "pts/3"; empty where this mount namespace does not have it
	own  bool   // it is one terminal and no other
}

// findTerminal looks at a descriptor. One that is no terminal is an error here, and
// not only when the command is to have it, after somebody has typed a password.
func findTerminal(fd int) (*terminal, error) {
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		return nil, fmt.Errorf("the first of stdio is no terminal: %w", err)
	}
	path, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("look at the terminal: %w", err)
	}
	t := &terminal{path: path, own: isTerminal(path)}
	link := make([]byte, 256)
	n, err := unix.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd), link)
	name, below := strings.CutPrefix(string(link[:max(n, 0)]), "/dev/")
	// The name is what modules decide by: it must be the same file for us, and not
	// only for an opener with a /dev of its own.
	if err == nil && below && t.own && sameFile(path, "/dev/"+name) {
		t.name = name
	}
	return t, nil
}

// Majors of linux/major.h.
const (
	ttyMajor      = 4   // virtual and serial terminals
	firstPTYMajor = 136 // UNIX98_PTY_SLAVE_MAJOR
	lastPTYMajor  = firstPTYMajor + 7
)

// isTerminal is for the files that are each one terminal. /dev/tty is everybody's
// own, /dev/ptmx the other end of all, and both say yes to TCGETS.
func isTerminal(fd int) bool {
	var s unix.Stat_t
	if unix.Fstat(fd, &s) != nil || s.Mode&unix.S_IFMT != unix.S_IFCHR {
		return false
	}
	switch major := unix.Major(s.Rdev); {
	case major >= firstPTYMajor && major <= lastPTYMajor:
		return true
	case major == ttyMajor:
		return unix.Minor(s.Rdev) != 0 // tty0 is whichever is in front
	}
	return false
}

func sameFile(fd int, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Stat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// pass gives the terminal of one user to another, if it is the first one's: as
// login programs do, so that programs can open it by its name. It reports whether
// it did.
func (t *terminal) pass(from, to uint32) bool {
	var s unix.Stat_t
	if !t.own || from == to || unix.Fstat(t.path, &s) != nil || s.Uid != from {
		return false
	}
	return unix.Fchownat(t.path, "", int(to), -1, unix.AT_EMPTY_PATH) == nil
}

func (t *terminal) close() { _ = unix.Close(t.path) }

// meetTerminal finds the terminal of the command, before PAM is told of it.
func (t *transaction) meetTerminal() error {
	if !t.command.GetTerminal() {
		return nil
	}
	stdio, err := t.session.takeStdio()
	if err != nil {
		return err
	}
	t.terminal, err = findTerminal(stdio[0])
	return err
}

// lendTerminal makes the terminal the user's while the command has it. Only one
// that is the opener's own is given away.
func (t *transaction) lendTerminal(to uint32) {
	if t.terminal != nil && t.terminal.pass(t.owner.GetUid(), to) {
		t.lent = &to
	}
}

// returnTerminal undoes lendTerminal and meetTerminal. Whose the terminal is by then
// for another reason keeps it.
func (t *transaction) returnTerminal() {
	if t.terminal == nil {
		return
	}
	if t.lent != nil {
		t.terminal.pass(*t.lent, t.owner.GetUid())
		t.lent = nil
	}
	t.terminal.close()
	t.terminal = nil
}

// tty is what modules take for the terminal: what the opener says, or where the
// command will be.
func (t *transaction) tty() string {
	if tty := t.options.GetTty(); tty != "" || t.terminal == nil {
		return tty
	}
	return t.terminal.name
}
