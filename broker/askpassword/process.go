// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openProcess finds out whether a process runs, and opens it, so that its end
// can be waited for. Where that is impossible the file is nil.
func openProcess(pid int) (f *os.File, runs bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, false
	case err != nil: // an old kernel, no more descriptors, or the number of a thread
		return nil, !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
	case ended(fd): // and nobody has waited for it yet
		_ = unix.Close(fd)
		return nil, false
	}
	// Not by PIDFD_NONBLOCK, which came later than pidfds.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, true
	}
	return os.NewFile(uintptr(fd), "pidfd"), true
}

func ended(pidfd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

// awaitEnd waits for the end of a process; false when the file was closed first.
func awaitEnd(f *os.File) bool {
	raw, err := f.SyscallConn()
	return err == nil && raw.Read(func(fd uintptr) bool { return ended(int(fd)) }) == nil
}
