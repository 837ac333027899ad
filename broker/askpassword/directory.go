// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

// settle makes place the directory that the path leads to, and makes that if
// there is none. Each directory on the way is watched before anything is looked
// up in it, so what changes later is told of.
func (a *Adapter) settle() {
	a.stirred = true
	for range 8 {
		a.watchAncestors()
		if a.here() {
			a.complete()
			return
		}
		a.leave()
		place, err := protocol.Open(a.dir, a.log)
		if err != nil {
			a.fail(err)
			return
		}
		a.place, a.unread = place, true
	}
	a.fail(errors.New("somebody replaces the directory all the time"))
}

// here reports whether agents find the directory that we hold.
func (a *Adapter) here() bool {
	if a.place == nil {
		return false
	}
	var held, found unix.Stat_t
	if unix.Fstat(int(a.place.File().Fd()), &held) != nil || unix.Lstat(a.dir, &found) != nil {
		return false
	}
	return held.Dev == found.Dev && held.Ino == found.Ino
}

// complete does what is still to do with a directory: after a failure, what
// failed.
func (a *Adapter) complete() {
	if a.watch == 0 {
		a.watchPlace()
	}
	if !a.swept {
		if err := a.place.Sweep(); err != nil {
			a.fail(err)
		} else {
			a.swept = true
		}
	}
	if a.unread {
		a.scan()
	}
}

// leave ends all that concerned a directory that nobody finds any more.
func (a *Adapter) leave() {
	if a.place == nil {
		return
	}
	a.log.Info("the directory of requests has gone", "directory", a.dir)
	for _, name := range slices.Sorted(maps.Keys(a.inquiries)) {
		a.withdraw(a.inquiries[name], Removed)
	}
	clear(a.dead)
	clear(a.complaints)
	a.crowded, a.tooMany = false, false
	a.unpostAll()
	if a.watch != 0 {
		a.watcher.remove(a.watch)
	}
	a.place.Close()
	a.place, a.watch, a.swept = nil, 0, false
}

// watchPlace watches the directory that we hold, whatever its name means. What
// came before is not told of, so it is looked through.
func (a *Adapter) watchPlace() {
	a.unread = true // so that at least retry sees it
	if a.watcher == nil {
		return
	}
	watch, err := a.watcher.add(fmt.Sprintf("/proc/self/fd/%d/.", a.place.File().Fd()), onDirectory)
	if err != nil {
		a.fail(fmt.Errorf("watch %s: %w", a.dir, err))
		return
	}
	a.watch = watch
}

// watchAncestors watches the way to the directory, as far as it exists, from
// above. One that we may not read is left out.
func (a *Adapter) watchAncestors() {
	if a.watcher == nil && !a.startWatcher() {
		return
	}
	before := a.ancestors
	a.ancestors = make(map[change]struct{})
	name := filepath.Base(a.dir)
	var way []string
	for dir := filepath.Dir(a.dir); ; dir = filepath.Dir(dir) {
		way = append(way, dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for i, dir := range slices.Backward(way) {
		watch, err := a.watcher.add(dir, onAncestor)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			break
		}
		if err != nil && !errors.Is(err, unix.EACCES) {
			a.fail(err)
		}
		if err != nil {
			continue
		}
		next := name
		if i > 0 {
			next = filepath.Base(way[i-1])
		}
		a.ancestors[change{watch, next}] = struct{}{}
		a.ancestors[change{watch, ""}] = struct{}{}
	}
	for c := range before {
		if _, still := a.ancestors[change{c.watch, ""}]; !still {
			a.watcher.remove(c.watch)
		}
	}
}

// startWatcher opens inotify and reads it, until it fails or Run ends.
func (a *Adapter) startWatcher() bool {
	w, err := newWatcher()
	if err != nil {
		a.fail(err)
		return false
	}
	a.watcher = w
	a.wait.Go(func() {
		err := w.read(func(events []event) { a.call(func() { a.handle(events) }) })
		if err != nil {
			a.call(func() { a.loseWatcher(err) })
		}
	})
	return true
}

// loseWatcher has retry start another.
func (a *Adapter) loseWatcher(err error) {
	a.watcher.close()
	a.watcher, a.watch, a.ancestors = nil, 0, nil
	a.fail(os.NewSyscallError("read inotify", err))
}
