// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is the user whose directory it is: the one that every machine has.
const nobody = 65534

// home is the runtime directory of nobody in a /run of the test's own.
type home struct {
	t       testing.TB
	dir     string   // /run/user/65534
	agents  string   // where agents look, below it
	changes *os.File // says that something in it was made, renamed or removed
}

// newHome gives the calling goroutine a mount namespace of its own, and every
// process that it starts. The goroutine's thread ends with it.
func newHome(t testing.TB) *home {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a /run of its own")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	h := &home{t: t, dir: fmt.Sprintf("%s/%d", runtimeDirs, nobody)}
	h.agents = filepath.Join(h.dir, "systemd", "ask-password")
	h.mount("tmpfs", "/run", "mode=0755")
	h.mkdir(runtimeDirs, 0)
	h.mkdir(h.dir, nobody)
	h.mount("tmpfs", h.dir, fmt.Sprintf("mode=0700,uid=%d,gid=%d", nobody, nobody))
	h.watch()
	return h
}

// ready makes the directory where agents look.
func (h *home) ready() *home {
	h.t.Helper()
	h.mkdir(filepath.Dir(h.agents), nobody)
	h.mkdir(h.agents, nobody)
	return h
}

func (h *home) mount(kind, at, data string) {
	h.t.Helper()
	if err := unix.Mount(kind, at, kind, unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		h.t.Fatalf("mount %s: %v", at, err)
	}
}

func (h *home) mkdir(path string, uid int) {
	h.t.Helper()
	h.must(os.Mkdir(path, 0o755))
	h.must(os.Chown(path, uid, uid))
}

func (h *home) symlink(target, path string) {
	h.t.Helper()
	h.must(os.Symlink(target, path))
	h.must(os.Lchown(path, nobody, nobody))
}

func (h *home) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// watch listens to all of the file system.
func (h *home) watch() {
	h.t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_REPORT_FID, 0)
	h.must(err)
	h.changes = os.NewFile(uintptr(fd), "fanotify")
	h.t.Cleanup(func() { _ = h.changes.Close() })
	h.must(unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM,
		unix.FAN_CREATE|unix.FAN_MOVED_TO|unix.FAN_DELETE|unix.FAN_ONDIR, unix.AT_FDCWD, h.dir))
}

// until waits until something is so.
func (h *home) until(what string, is func() bool) {
	h.t.Helper()
	h.must(h.changes.SetReadDeadline(time.Now().Add(30 * time.Second)))
	for buffer := make([]byte, 4096); !is(); {
		if _, err := h.changes.Read(buffer); err != nil {
			h.t.Fatalf("wait until %s: %v", what, err)
		}
	}
}

// posted waits for the one request that is there, and returns its file.
func (h *home) posted() (file string) {
	h.t.Helper()
	h.until("a question is posted", func() bool {
		found, _ := filepath.Glob(h.agents + "/ask.pamprompt-*")
		if len(found) == 1 {
			file = found[0]
		}
		return len(found) == 1
	})
	return file
}

// socket is where the answer to a request goes.
func (h *home) socket(file string) string {
	h.t.Helper()
	text, err := os.ReadFile(file)
	h.must(err)
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "Socket="); ok {
			return strings.TrimSpace(path)
		}
	}
	h.t.Fatalf("no socket in %s", text)
	return ""
}

// empty fails the test unless there is nothing where agents look.
func (h *home) empty() {
	h.t.Helper()
	if got := tree(h.t, h.agents); len(got) > 0 {
		h.t.Errorf("there is %q", got)
	}
}

// tree is what there is below a directory.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != dir {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// reply runs systemd's own program, as a uid. It returns what it complains of.
func (h *home) reply(uid uint32, sign, socket, answer string) string {
	h.t.Helper()
	programs := []string{"/usr/lib/systemd/systemd-reply-password", "/lib/systemd/systemd-reply-password"}
	i := slices.IndexFunc(programs, func(path string) bool { _, err := os.Stat(path); return err == nil })
	if i < 0 {
		h.t.Skip("systemd-reply-password is not on this machine: the Debian package systemd has it")
	}
	cmd := exec.Command(programs[i], sign, socket)
	cmd.Stdin = strings.NewReader(answer + "\n")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		h.t.Fatal(err)
	}
	return string(bytes.TrimSpace(out))
}

// hang mounts a FUSE file system whose daemon never says anything.
func (h *home) hang(at string) {
	h.t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		h.t.Skipf("there is no FUSE: %v", err)
	}
	h.t.Cleanup(func() { _ = unix.Close(fd) }) // and whoever waits for it goes on
	h.mount("fuse", at, fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,allow_other", fd, nobody, nobody))
}

func TestFileSystemsInUserSpaceAreRefused(t *testing.T) {
	h := newHome(t)
	h.mkdir("/run/other", 0)
	for _, test := range []struct {
		at   string
		fuse bool
	}{{h.dir, false}, {"/run/other", true}} {
		if test.fuse {
			h.hang(test.at)
		}
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, test.at, unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
			t.Fatal(err)
		}
		if err := checkMount(st.Mnt_id); (err != nil) != test.fuse {
			t.Errorf("%s: %v", test.at, err)
		}
	}
	if checkMount(0) == nil {
		t.Error("a mount that is not there will do")
	}
}

// TestTheThreadHasTheUsersIdentity: it reads nothing that the user may not read.
func TestTheThreadHasTheUsersIdentity(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has another identity to give")
	}
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "root's")
	errs := make(chan error, 2)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setgroups([]int{0, 4711}); err != nil { // of this thread alone
			t.Error(err)
		}
		errs <- become(nobody, nobody)
		_, err := os.ReadFile(secret)
		errs <- err
	}()
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	if err := <-errs; !os.IsPermission(err) {
		t.Errorf("the user reads what is root's: %v", err)
	}
	if _, err := os.ReadFile(secret); err != nil {
		t.Errorf("another thread has the user's identity: %v", err)
	}
}

func TestAnIdentityThatWasNotTaken(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has another identity to give")
	}
	if err := checkIdentity(nobody, nobody); err == nil {
		t.Error("root passes for nobody")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		// The identity, with root's powers over files.
		if err := unix.Prctl(unix.PR_SET_SECUREBITS, 1<<2, 0, 0, 0); err != nil { // SECBIT_NO_SETUID_FIXUP
			t.Errorf("set the secure bits: %v", err)
		}
		done <- become(nobody, nobody)
	}()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "was not given") {
		t.Errorf("a user with root's powers will do: %v", err)
	}
}
