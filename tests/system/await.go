// SPDX-License-Identifier: Apache-2.0

package system

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// AwaitLog waits until the log of the broker and its children, as Log has it,
// is as wanted.
func (s *System) AwaitLog(t testing.TB, wanted func(log string) bool) {
	t.Helper()
	if !await(t, string(s.log), unix.IN_MODIFY, func() bool { return wanted(s.log.text()) }) {
		t.Fatalf("the log has not said what it should after %v:\n%s", patience, s.log.text())
	}
}

// AwaitFiles waits until what is in a directory, files that come whole and by
// their final name included, is as wanted.
func AwaitFiles(t testing.TB, dir string, wanted func() bool) {
	t.Helper()
	if !await(t, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE|unix.IN_DELETE|unix.IN_MOVED_FROM, wanted) {
		t.Fatalf("%s is not as it should be after %v", dir, patience)
	}
}

// await looks again at every event of inotify(7), until the answer is true; it
// is false when patience has ended.
func await(t testing.TB, path string, events uint32, wanted func() bool) bool {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
		_, err = unix.InotifyAddWatch(fd, path, events)
	}
	if err != nil {
		t.Fatal(os.NewSyscallError("inotify", err))
	}
	buffer := make([]byte, 4096)
	for deadline := time.Now().Add(patience); !wanted(); {
		left := max(0, time.Until(deadline).Milliseconds())
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left))
		switch {
		case n == 0 && err == nil:
			return false
		case err != nil && !errors.Is(err, unix.EINTR):
			t.Fatal(os.NewSyscallError("poll", err))
		}
		_, _ = unix.Read(fd, buffer)
	}
	return true
}
