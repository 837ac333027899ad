// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/api/secret"
)

// runtimeDirs is where pam_systemd and its like give each user a runtime
// directory.
const runtimeDirs = "/run/user"

// agentDirs is the way from there to where the user's own agents look.
var agentDirs = []string{"systemd", "ask-password"}

// noUID is no user, and to setfsuid(2) a question.
const noUID = ^uint32(0)

// hasUserDir tells whether a user may have an ask-password directory that this
// process can write to. Root's is the one of the system.
func hasUserDir(uid uint32) bool {
	euid := os.Geteuid()
	return uid != 0 && uid != noUID && (euid == 0 || euid == int(uid))
}

// openUserDir opens the ask-password directory of a user by step, which is
// openOrMake or openDir. It returns nil if the user has no runtime directory, or
// step finds none. The calling thread has the user's identity for accesses to
// files from then on, also after an error: it must be locked, and never be used
// for anything else.
//
// Everything below the runtime directory is the user's to arrange. With the
// user's identity nothing can be reached that the user cannot reach. No link is
// followed and no mount entered, since a user may mount a FUSE file system,
// where each access waits for as long as the user likes.
func openUserDir(uid uint32, step func(dir int, name string) (int, error), log *slog.Logger) (*askpassword.Place, error) {
	path := filepath.Join(runtimeDirs, strconv.FormatUint(uint64(uid), 10))
	dir, gid, err := openRuntimeDir(path, uid)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := become(uid, gid); err != nil {
		_ = unix.Close(dir)
		return nil, err
	}
	for _, name := range agentDirs {
		path = filepath.Join(path, name)
		dir, err = step(dir, name)
		if errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
	}
	return askpassword.At(os.NewFile(uintptr(dir), path), path, uid, log)
}

// openRuntimeDir finds a user's runtime directory without waiting for any file
// system that the user might have mounted there: it is not opened for reading,
// and asked only for what the kernel knows by itself.
func openRuntimeDir(path string, uid uint32) (dir int, gid uint32, err error) {
	dir, err = unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return -1, 0, fmt.Errorf("open %s: %w", path, err)
	}
	var st unix.Statx_t
	err = unix.Statx(dir, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_UID|unix.STATX_GID|unix.STATX_MNT_ID, &st)
	switch {
	case err != nil:
	case st.Uid != uid:
		err = fmt.Errorf("it belongs to uid %d", st.Uid)
	case st.Mask&unix.STATX_MNT_ID == 0:
		err = errors.New("the kernel does not say which mount it is on")
	default:
		err = checkMount(st.Mnt_id)
	}
	if err != nil {
		_ = unix.Close(dir)
		return -1, 0, fmt.Errorf("look at %s: %w", path, err)
	}
	return dir, st.Gid, nil
}

// checkMount refuses file systems in user space.
func checkMount(id uint64) error {
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != strconv.FormatUint(id, 10) {
			continue
		}
		// Optional fields end with a hyphen; the type is behind it.
		if i := slices.Index(fields, "-"); i < 0 || i+1 >= len(fields) || strings.HasPrefix(fields[i+1], "fuse") {
			return errors.New("it is on a file system in user space")
		}
		return nil
	}
	return errors.New("its mount is not in mountinfo")
}

// beneath opens a directory in another one, through no link and into no mount.
var beneath = unix.OpenHow{
	Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
	Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
}

// openDir opens a directory in another one, which it closes.
func openDir(dir int, name string) (int, error) {
	defer func() { _ = unix.Close(dir) }()
	return unix.Openat2(dir, name, &beneath)
}

// openOrMake is openDir, but where there is none it makes it, as agents do.
func openOrMake(dir int, name string) (int, error) {
	defer func() { _ = unix.Close(dir) }()
	fd, err := unix.Openat2(dir, name, &beneath)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if err := unix.Mkdirat(dir, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, fmt.Errorf("make it: %w", err)
	}
	return unix.Openat2(dir, name, &beneath)
}

// become gives the calling thread, and no other, a user's identity for accesses
// to files. With the real or the effective uid of the user, the user could send
// signals to this process. It fails unless all of it took effect.
func become(uid, gid uint32) error {
	if os.Geteuid() != 0 {
		return nil // it is the user already
	}
	// These are the calls of the kernel, which are about one thread; those of
	// package syscall and of libc are about all of them.
	if err := unix.Setgroups(nil); err != nil {
		return fmt.Errorf("take on the identity of uid %d: setgroups: %w", uid, err)
	}
	_, _ = unix.SetfsgidRetGid(int(gid))
	_, _ = unix.SetfsuidRetUid(int(uid))
	if err := secret.NotDumpable(); err != nil {
		return err
	}
	return checkIdentity(uid, gid)
}

// powers are those of root over files, which the kernel takes away with
// root's identity, unless the process's secure bits forbid it.
const powers = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID

func checkIdentity(uid, gid uint32) error {
	var data [2]unix.CapUserData
	groups, err := unix.Getgroups()
	if err == nil {
		err = unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
	}
	if err != nil {
		return fmt.Errorf("look at the identity of a thread: %w", err)
	}
	// -1 is no id, so this changes nothing and returns what there is.
	isGID, _ := unix.SetfsgidRetGid(-1)
	isUID, _ := unix.SetfsuidRetUid(-1)
	if uint32(isUID) != uid || uint32(isGID) != gid || len(groups) > 0 || data[0].Effective&powers != 0 {
		return fmt.Errorf("the identity of uid %d was not given: it is uid %d, gid %d, %d groups, capabilities %#x",
			uid, isUID, isGID, len(groups), data[0].Effective)
	}
	return nil
}
