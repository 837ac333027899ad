// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// etc is what NSS reads in a mount namespace of the test's own.
type etc struct {
	t   testing.TB
	dir string
}

const (
	// annaUID is a user of newEtc, and usersGID the user's own group.
	annaUID  = 60001
	usersGID = 60000
)

// newEtc has this goroutine, and what it starts, see accounts of its own: root,
// and anna, who is in two groups more than her own. They are files that may be
// written to in place.
func newEtc(t testing.TB) *etc {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount an /etc/passwd of its own")
	}
	runtime.LockOSThread() // and never unlock: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	e := &etc{t: t, dir: t.TempDir()}
	e.bind("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\n")
	e.bind("passwd", "root:x:0:0:root:/root:/bin/sh\nanna:x:60001:60000::/nonexistent:/bin/sh\n")
	e.bind("group", "root:x:0:\nadm:x:4:\nshadow:x:42:\nusers:x:60000:\nstaff:x:60010:anna\nbackup:x:60011:root,anna\n")
	return e
}

// bind puts a file of the test's own over the one in /etc.
func (e *etc) bind(name, text string) {
	e.t.Helper()
	path := filepath.Join(e.dir, name)
	e.write(name, text)
	if err := os.Chmod(path, 0o644); err != nil {
		e.t.Fatal(err)
	}
	e.mount(path, name)
}

// security has nothing but one file in /etc/security.
func (e *etc) security(name, text string) {
	e.t.Helper()
	if err := os.Mkdir(filepath.Join(e.dir, "security"), 0o755); err != nil {
		e.t.Fatal(err)
	}
	e.write(filepath.Join("security", name), text)
	e.mount(filepath.Join(e.dir, "security"), "security")
}

func (e *etc) mount(path, name string) {
	e.t.Helper()
	if err := unix.Mount(path, "/etc/"+name, "", unix.MS_BIND, ""); err != nil {
		e.t.Fatalf("mount over /etc/%s: %v", name, err)
	}
	// What is mounted upon cannot be removed.
	e.t.Cleanup(func() { _ = unix.Unmount("/etc/"+name, unix.MNT_DETACH) })
}

// write changes what NSS says from now on.
func (e *etc) write(name, text string) {
	e.t.Helper()
	write(e.t, filepath.Join(e.dir, name), text)
}
