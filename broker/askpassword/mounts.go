// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"os"

	"golang.org/x/sys/unix"
)

// watchMounts looks where the path leads whenever something is mounted or
// unmounted. The kernel tells of that in no other way: inotify knows files, and
// the directory that we hold stays the same when its mount goes.
func (a *Adapter) watchMounts() {
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		a.log.Debug("changes of mounts are not seen", "directory", a.dir, "error", err)
		return
	}
	a.mounts = os.NewFile(uintptr(fd), "mountinfo")
	raw, err := a.mounts.SyscallConn()
	if err != nil {
		return
	}
	a.wait.Go(func() {
		// It never returns true: between two calls of Read a change would be
		// lost, since asking for it is what takes it.
		_ = raw.Read(func(uintptr) bool {
			a.call(a.settle)
			return false
		})
	})
}
