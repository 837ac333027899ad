// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"errors"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

const (
	// maxInquiries bounds the requests that are told of at once.
	maxInquiries = 1024
	// maxRemembered bounds how many files are remembered that count for
	// nothing, and with them the lines in the log about those that are wrong.
	maxRemembered = 1024
)

// handle looks at what has changed.
func (a *Adapter) handle(events []event) {
	moved := false
	for _, e := range events {
		_, way := a.ancestors[e.change]
		switch {
		case e.mask&unix.IN_Q_OVERFLOW != 0:
			a.unread, moved = true, true
		case way:
			moved = true
		case e.watch != a.watch: // beside the way, or of a directory that we have left
		case e.name == "":
			moved = true
			if e.mask&unix.IN_IGNORED != 0 {
				a.watch = 0
			}
		default:
			a.stirred = true
			if protocol.IsRequest(e.name) {
				a.look(e.name)
			}
		}
	}
	if moved {
		a.settle()
	}
}

// scan looks at all that is there, and at all that was.
func (a *Adapter) scan() {
	names, err := a.place.Requests()
	if err != nil {
		a.fail(err)
		return
	}
	a.unread = false
	for name := range a.inquiries {
		names = append(names, name)
	}
	for name := range a.complaints {
		names = append(names, name)
	}
	for name := range a.dead {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		a.look(name)
	}
}

// fill looks for requests that had no room, if there is some.
func (a *Adapter) fill() {
	if !a.crowded || a.place == nil || len(a.inquiries) >= maxInquiries {
		return
	}
	names, err := a.place.Requests()
	if err != nil {
		a.fail(err)
		return
	}
	slices.Sort(names)
	for _, name := range names {
		if _, known := a.inquiries[name]; known {
			continue
		}
		if len(a.inquiries) >= maxInquiries {
			return
		}
		a.look(name)
	}
	a.crowded = false
}

// look makes what is known of a file agree with the file, whatever happened to
// it.
func (a *Adapter) look(name string) {
	if a.tick == nil {
		a.post() // our own questions do not wait for a flood of files
	}
	found, err := a.place.Find(name)
	if scarce(err) {
		a.unread = true
		a.fail(err)
		return
	}
	if q := a.inquiries[name]; q != nil {
		// Of two changes within a tick of a coarse clock the mark tells one.
		if err == nil && found == q.Found {
			return
		}
		a.withdraw(q, Removed)
	}
	if a.dead[name] != found.Mark {
		delete(a.dead, name)
	}
	switch {
	case errors.Is(err, protocol.ErrGone):
		a.pardon(name)
	case err != nil:
		a.complain(name, found.Mark, err)
	default:
		a.pardon(name)
		a.consider(found)
	}
}

// scarce reports whether it is us who cannot read a file at present.
func scarce(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// consider tells of a request if somebody still waits for an answer to it.
func (a *Adapter) consider(f protocol.Found) {
	file := filepath.Join(a.dir, f.Name)
	if _, dead := a.dead[f.Name]; dead {
		return
	}
	if expired(f.NotAfter) {
		a.log.Debug("a request whose time is over is ignored", "file", file)
		return
	}
	if len(a.inquiries) >= maxInquiries {
		if !a.crowded {
			a.crowded = true
			a.log.Warn("too many requests; this one and more are ignored until others have ended", "file", file, "most", maxInquiries)
		}
		return
	}
	if f.PID == 0 {
		a.ask(f, nil)
		return
	}
	process, runs := openProcess(f.PID)
	if !runs {
		a.log.Debug("a request whose process has ended is ignored", "file", file, "pid", f.PID)
		a.bury(f)
		return
	}
	a.ask(f, process)
}

// bury remembers that whoever wrote a file has ended, since its number may come
// to mean another process. When there are too many, one of them has to do
// without.
func (a *Adapter) bury(f protocol.Found) {
	for name := range a.dead {
		if len(a.dead) < maxRemembered {
			break
		}
		delete(a.dead, name)
	}
	a.dead[f.Name] = f.Mark
}

// complain says once for each state of a file that it is no request.
func (a *Adapter) complain(name string, mark protocol.Mark, err error) {
	known, ok := a.complaints[name]
	file := filepath.Join(a.dir, name)
	switch {
	case ok && known == mark:
	case ok || len(a.complaints) < maxRemembered:
		a.complaints[name] = mark
		a.log.Warn("a file is no request and is ignored", "file", file, "why", err)
	case !a.tooMany:
		a.tooMany = true
		a.log.Warn("too many files are no requests; this one and more are ignored without a word", "file", file, "why", err)
	}
}

// pardon forgets a complaint about a file that has gone, or has become right.
func (a *Adapter) pardon(name string) {
	delete(a.complaints, name)
	a.tooMany = a.tooMany && len(a.complaints) > 0
}
