// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

// onDirectory is what is watched in the directory of requests: a file that was
// written there, or came, or went, and the directory itself.
const onDirectory = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_MOVED_FROM |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW

// onAncestor is what is watched in each directory on the way there. It is more
// than those selves: a directory that is open, as ours is, does not say of
// itself that it was removed.
const onAncestor = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_MOVED_FROM |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// eventsBuffer is how much is read at once.
const eventsBuffer = 64 << 10

// change is where something has changed: a name in what is watched, or, without
// a name, that itself.
type change struct {
	watch int32
	name  string
}

type event struct {
	change
	mask uint32
}

// watcher is one inotify instance.
type watcher struct {
	file *os.File
	raw  syscall.RawConn
}

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &watcher{f, raw}, nil
}

func (w *watcher) close() { _ = w.file.Close() }

// add watches a path. What is watched already keeps its number.
func (w *watcher) add(path string, mask uint32) (watch int32, err error) {
	n := 0
	if controlled := w.raw.Control(func(fd uintptr) { n, err = unix.InotifyAddWatch(int(fd), path, mask) }); controlled != nil {
		return 0, controlled
	}
	if err != nil {
		return 0, &os.PathError{Op: "watch", Path: path, Err: err}
	}
	return int32(n), nil
}

// remove ends a watch. That it has ended does not matter.
func (w *watcher) remove(watch int32) {
	_ = w.raw.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(watch)) })
}

// read hands on what has changed until the watcher is closed. What we do
// ourselves is left out: else a posting that fails would be the reason to try
// it again.
func (w *watcher) read(handle func([]event)) error {
	buffer := make([]byte, eventsBuffer)
	for {
		n, err := w.file.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if events := parseEvents(buffer[:n]); len(events) > 0 {
			handle(events)
		}
	}
}

// parseEvents takes apart what the kernel wrote, a struct inotify_event and a
// padded name each.
func parseEvents(b []byte) []event {
	var events []event
	for len(b) >= unix.SizeofInotifyEvent {
		length := int(binary.NativeEndian.Uint32(b[12:]))
		e := event{mask: binary.NativeEndian.Uint32(b[4:])}
		e.watch = int32(binary.NativeEndian.Uint32(b))
		b = b[unix.SizeofInotifyEvent:]
		length = min(length, len(b))
		name, _, _ := bytes.Cut(b[:length], []byte{0})
		e.name = string(name)
		b = b[length:]
		if !protocol.IsOurs(e.name) {
			events = append(events, e)
		}
	}
	return events
}
