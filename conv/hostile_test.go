// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// elsewhere is a directory in which everybody may write, so that whoever is
// led there leaves a trace.
func (h *home) elsewhere() string {
	h.t.Helper()
	const dir = "/run/elsewhere"
	h.mkdir(dir, nobody)
	h.must(os.Chmod(dir, 0o777))
	h.mkdir(dir+"/ask-password", nobody)
	return dir
}

// TestWhatTheUserPutsInTheWay: none of it is followed, nothing waits for it,
// one line is logged, and the question can still be answered on the bus.
func TestWhatTheUserPutsInTheWay(t *testing.T) {
	systemd := func(h *home) string { return filepath.Dir(h.agents) }
	for _, test := range []struct {
		name    string
		arrange func(h *home, elsewhere string)
		log     string
	}{
		{"a link for systemd", func(h *home, elsewhere string) { h.symlink(elsewhere, systemd(h)) }, "too many levels of symbolic links"},
		{"a link within the directory", func(h *home, _ string) {
			h.mkdir(h.dir+"/other", nobody)
			h.symlink("other", systemd(h))
		}, "too many levels of symbolic links"},
		{"a link to nothing", func(h *home, elsewhere string) { h.symlink(elsewhere+"/new", systemd(h)) }, "too many levels of symbolic links"},
		{"a magic link", func(h *home, _ string) { h.symlink("/proc/self/cwd", systemd(h)) }, "too many levels of symbolic links"},
		{"a link for ask-password", func(h *home, elsewhere string) {
			h.mkdir(systemd(h), nobody)
			h.symlink(elsewhere+"/ask-password", h.agents)
		}, "too many levels of symbolic links"},
		{"a file", func(h *home, _ string) { write(h.t, systemd(h), "") }, "not a directory"},
		{"a pipe", func(h *home, _ string) {
			h.mkdir(systemd(h), nobody)
			fifo(h.t, h.agents)
		}, "not a directory"},
		{"a mount for systemd", func(h *home, elsewhere string) {
			h.mkdir(systemd(h), nobody)
			h.must(unix.Mount(elsewhere, systemd(h), "", unix.MS_BIND, ""))
		}, "invalid cross-device link"},
		{"a mount for ask-password", func(h *home, _ string) {
			h.ready().mount("tmpfs", h.agents, "mode=0777")
		}, "invalid cross-device link"},
		{"a bind mount of the same file system", func(h *home, _ string) {
			h.ready().mkdir(h.dir+"/other", nobody)
			h.must(unix.Mount(h.dir+"/other", h.agents, "", unix.MS_BIND, ""))
		}, "invalid cross-device link"},
		{"a FUSE file system that hangs for systemd", func(h *home, _ string) {
			h.mkdir(systemd(h), nobody)
			h.hang(systemd(h))
		}, "invalid cross-device link"},
		{"a FUSE file system that hangs for ask-password", func(h *home, _ string) { h.ready().hang(h.agents) }, "invalid cross-device link"},
		{"a FUSE file system that hangs for the runtime directory", func(h *home, _ string) { h.hang(h.dir) }, "it belongs to uid 0"},
		{"a runtime directory of somebody else", func(h *home, _ string) {
			h.must(os.Chown(h.dir, 1, 1))
			h.must(os.Chmod(h.dir, 0o777))
		}, "it belongs to uid 1"},
		{"a runtime directory that is a link", func(h *home, elsewhere string) {
			h.must(unix.Unmount(h.dir, unix.MNT_DETACH))
			h.must(os.Remove(h.dir))
			h.symlink(elsewhere, h.dir)
		}, "too many levels of symbolic links"},
		{"a runtime directory that is a file", func(h *home, _ string) {
			h.must(unix.Unmount(h.dir, unix.MNT_DETACH))
			h.must(os.Remove(h.dir))
			write(h.t, h.dir, "")
		}, "not a directory"},
		{"a directory that only root may write to", func(h *home, _ string) {
			h.ready()
			h.must(os.Chown(h.agents, 0, 0))
		}, "permission denied"},
		{"a directory that nobody may write to", func(h *home, _ string) { h.must(os.Chmod(h.dir, 0o500)) }, "permission denied"},
		{"a file system that is read-only", func(h *home, _ string) {
			h.ready()
			h.must(unix.Mount("", h.dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		}, "read-only file system"},
		{"a file system that is full", func(h *home, _ string) {
			h.ready()
			h.must(unix.Mount("", h.dir, "tmpfs", unix.MS_REMOUNT, "nr_inodes=3"))
		}, "no space left on device"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHome(t)
			elsewhere := h.elsewhere()
			test.arrange(h, elsewhere)
			process, peer := asked(t, "[auth:ask=secret,Password: ] [auth:ask=secret,Again: ] auth:export=A")
			peer.Mirror(0, true)
			process.Says(`msg="a question does not stand in the user's own ask-password directory"`)
			peer.Mirror(0, true)
			peer.Answer(0, "x")
			peer.Expect("taken 0", "prompt 1 secret Again: ")
			peer.Mirror(1, true)
			peer.Answer(1, "y")
			opens(t, peer, "y")
			process.Wait()
			if log := process.Log(); !strings.Contains(log, test.log) || strings.Count(log, "level=WARN") != 1 {
				t.Errorf("the log is %s", log)
			}
			if got := tree(t, elsewhere); !slices.Equal(got, []string{elsewhere + "/ask-password"}) {
				t.Errorf("elsewhere there is %q", got)
			}
		})
	}
}

// TestFilesNamedLikeOurs do not keep the question from its place, and lead
// nowhere.
func TestFilesNamedLikeOurs(t *testing.T) {
	h := newHome(t).ready()
	elsewhere := h.elsewhere()
	write(t, elsewhere+"/file", "root's")
	for _, prefix := range []string{"ask.", "sck.", "tmp."} {
		h.symlink(elsewhere+"/file", fmt.Sprintf("%s/%spamprompt-0123456789abcde%d", h.agents, prefix, len(prefix)))
		h.mkdir(fmt.Sprintf("%s/%spamprompt-fedcba9876543210", h.agents, prefix), nobody)
	}
	before := tree(t, h.agents)
	_, peer := asked(t, askSecret)
	peer.Mirror(0, true)
	h.until("a question is posted", func() bool { return len(tree(t, h.agents)) == len(before)+2 })
	peer.Answer(0, "x")
	opens(t, peer, "x")
	if got := tree(t, h.agents); !slices.Equal(got, before) {
		t.Errorf("%q became %q", before, got)
	}
	if text, err := os.ReadFile(elsewhere + "/file"); err != nil || string(text) != "root's" {
		t.Errorf("elsewhere there is %q: %v", text, err)
	}
}

// TestADirectoryThatHangs: a frozen file system, where whoever wants to write
// waits.
func TestADirectoryThatHangs(t *testing.T) {
	h := newHome(t)
	thaw := h.freeze()
	process, peer := asked(t, "[auth:ask=secret,One: ] [auth:ask=secret,Two: ] auth:export=A")
	t.Cleanup(thaw) // before the worker is waited for, which cannot even be killed
	peer.Mirror(0, true)
	peer.Answer(7, "x")
	peer.Expect("taken 7 NoSuchPrompt") // what the broker says is heard
	peer.Answer(0, "x")
	peer.Expect("taken 0", "prompt 1 secret Two: ")
	peer.Mirror(1, true) // not before the other one is over
	peer.Answer(1, "y")
	peer.Expect("taken 1", "entering account", "entering credentials", "entering session", "opened [A=y]")
	peer.Close()
	peer.Expect("entering close-session", "entering delete-credentials", "entering end", "closed 0")
	thaw()
	process.Wait()
	if log := process.Log(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "ask-password directory hangs") {
		t.Errorf("the log is %s", log)
	}
}

// freeze makes the runtime directory a file system on which writing waits until
// it is thawed.
func (h *home) freeze() (thaw func()) {
	h.t.Helper()
	image := filepath.Join(h.t.TempDir(), "image")
	h.must(os.WriteFile(image, nil, 0o600))
	h.must(os.Truncate(image, 8<<20))
	h.command("mkfs.ext4", "-q", image)
	h.command("mount", "-o", "loop", image, h.dir)
	h.must(os.Chown(h.dir, nobody, nobody))
	h.command("fsfreeze", "--freeze", h.dir)
	thawed := false
	thaw = func() {
		if !thawed {
			thawed = true
			h.command("fsfreeze", "--unfreeze", h.dir)
		}
	}
	h.t.Cleanup(func() {
		thaw()
		_ = unix.Unmount(h.dir, unix.MNT_DETACH)
	})
	return thaw
}

// command runs a command of root's in the namespace.
func (h *home) command(name string, args ...string) {
	h.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		h.t.Skipf("%v: the Debian packages e2fsprogs and util-linux have it", err)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		h.t.Skipf("this machine has no loop devices, or cannot freeze one: %v\n%s", err, out)
	}
}

// TestALinkIntoAFileSystemThatHangs has the name of a socket of ours.
func TestALinkIntoAFileSystemThatHangs(t *testing.T) {
	h := newHome(t).ready()
	h.mkdir(h.dir+"/fuse", nobody)
	h.hang(h.dir + "/fuse")
	h.symlink(h.dir+"/fuse/x", h.agents+"/sck.pamprompt-0123456789abcdef")
	_, peer := asked(t, askSecret)
	peer.Mirror(0, true)
	h.posted()
	peer.Answer(0, "x")
	opens(t, peer, "x")
}
