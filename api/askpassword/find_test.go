// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
)

func hold(t testing.TB, text string) *secret.Secret {
	t.Helper()
	s, err := secret.Read(strings.NewReader(text))
	check(t, err)
	t.Cleanup(s.Wipe)
	return s
}

const request = "[Ask]\nSocket=/run/x\nMessage=Password:\n"

func TestFind(t *testing.T) {
	p, _ := place(t)
	path := write(t, p.Path(), "ask.x", request)
	var st unix.Stat_t
	check(t, unix.Stat(path, &st))
	found, err := p.Find("ask.x")
	if want := (Found{Request{Message: "Password:", Socket: "/run/x"}, "ask.x", uint32(os.Geteuid()), Mark{st.Ino, st.Ctim}}); err != nil || found != want {
		t.Errorf("%+v: %v", found, err)
	}
}

func TestFilesThatAreNoRequests(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		says string
	}{
		{"a link to a request", func(t *testing.T, path string) { check(t, os.Symlink(write(t, folder(t), "x", request), path)) }, "too many levels of symbolic links"},
		{"a link to nothing", func(t *testing.T, path string) { check(t, os.Symlink("nothing", path)) }, "too many levels of symbolic links"},
		{"a fifo", func(t *testing.T, path string) { check(t, unix.Mkfifo(path, 0o600)) }, "it is no regular file"},
		{"a folder", func(t *testing.T, path string) { check(t, os.Mkdir(path, 0o755)) }, "it is no regular file"},
		{"a socket", func(t *testing.T, path string) {
			check(t, unix.Mknod(path, unix.S_IFSOCK|0o600, 0))
		}, "no such device or address"},
		{"a device", func(t *testing.T, path string) {
			needRoot(t)
			check(t, unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))) // what /dev/zero is
		}, "it is no regular file"},
		{"a file of somebody else", func(t *testing.T, path string) {
			needRoot(t)
			check(t, os.WriteFile(path, []byte(request), 0o644))
			check(t, os.Chown(path, 12345, 0))
		}, "it belongs to uid 12345, not to root"},
		{"a file that its group may write", func(t *testing.T, path string) {
			check(t, os.WriteFile(path, []byte(request), 0o600))
			check(t, os.Chmod(path, 0o620))
		}, "others than its owner may write to it"},
		{"a file that everybody may write", func(t *testing.T, path string) {
			check(t, os.WriteFile(path, []byte(request), 0o600))
			check(t, os.Chmod(path, 0o602))
		}, "others than its owner may write to it"},
		{"a file that is too long", func(t *testing.T, path string) {
			check(t, os.WriteFile(path, []byte(request), 0o600))
			check(t, os.Truncate(path, MaxFile+1))
		}, "it is longer than 65536 bytes"},
		{"a file of a terabyte", func(t *testing.T, path string) {
			check(t, os.WriteFile(path, []byte(request), 0o600))
			check(t, os.Truncate(path, 1<<40))
		}, "it is longer than 65536 bytes"},
		{"an empty file", func(t *testing.T, path string) { check(t, os.WriteFile(path, nil, 0o644)) }, "no Socket="},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := place(t)
			path := filepath.Join(p.Path(), "ask.x")
			c.make(t, path)
			before := descriptors(t)
			found, err := p.Find("ask.x")
			if err == nil || errors.Is(err, ErrGone) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			var st unix.Stat_t
			check(t, unix.Lstat(path, &st))
			if found != (Found{Name: "ask.x", UID: st.Uid, Mark: Mark{st.Ino, st.Ctim}}) {
				t.Errorf("%+v", found)
			}
			if descriptors(t) != before {
				t.Error("it is still open")
			}
		})
	}
}

func TestFilesOfOurUserAreTakenButNotInRootsPlace(t *testing.T) {
	needRoot(t)
	dir := folder(t)
	f, err := os.Open(dir)
	check(t, err)
	p, err := At(f, dir, 12345, nil)
	check(t, err)
	defer p.Close()
	path := write(t, dir, "ask.x", request)
	for uid, taken := range map[int]bool{0: true, 12345: true, 12346: false} {
		check(t, os.Chown(path, uid, 0))
		if found, err := p.Find("ask.x"); (err == nil) != taken || found.UID != uint32(uid) {
			t.Errorf("of uid %d: %v", uid, err)
		}
	}
}

func TestWhatHasGone(t *testing.T) {
	p, _ := place(t)
	if found, err := p.Find("ask.x"); !errors.Is(err, ErrGone) || found != (Found{Name: "ask.x"}) {
		t.Errorf("%+v: %v", found, err)
	}
	check(t, os.Remove(p.Path()))
	if _, err := p.Find("ask.x"); !errors.Is(err, ErrGone) {
		t.Errorf("in a folder that has gone: %v", err)
	}
}

func TestAFileThatIsReplacedAllTheTimeIsOneOfThem(t *testing.T) {
	p, _ := place(t)
	texts := []string{"[Ask]\nSocket=/a\nMessage=" + strings.Repeat("a", 2_000), "[Ask]\nSocket=/b\nMessage=" + strings.Repeat("b", 2_000)}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			temp := filepath.Join(p.Path(), "tmp.x")
			if os.WriteFile(temp, []byte(texts[i%2]), 0o644) != nil || i%3 == 2 && os.Remove(filepath.Join(p.Path(), "ask.x")) != nil || os.Rename(temp, filepath.Join(p.Path(), "ask.x")) != nil {
				return
			}
		}
	}()
	for range 500 {
		found, err := p.Find("ask.x")
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil || strings.Trim(found.Message, found.Socket[1:]) != "" || len(found.Message) != 2_000 {
			t.Errorf("%d bytes for %s: %v", len(found.Message), found.Socket, err)
			break
		}
	}
	close(stop)
	<-stopped
}

func TestAFileThatGrowsIsWholeOrRefused(t *testing.T) {
	p, _ := place(t)
	path := filepath.Join(p.Path(), "ask.x")
	f, err := os.Create(path)
	check(t, err)
	stopped := make(chan struct{})
	check(t, os.Chmod(path, 0o644))
	_, err = f.WriteString(request)
	check(t, err)
	go func() {
		defer close(stopped)
		for range 2000 {
			_, _ = f.WriteString("#" + strings.Repeat("x", 98) + "\n")
		}
		_ = f.Close()
	}()
	for done := false; !done; {
		select {
		case <-stopped:
			done = true
		default:
		}
		if found, err := p.Find("ask.x"); err != nil && !strings.Contains(err.Error(), "longer than") || err == nil && found.Message != "Password:" {
			t.Fatalf("%+v: %v", found, err)
		}
	}
	if _, err := p.Find("ask.x"); err == nil {
		t.Error("200,000 bytes were read")
	}
}

func TestRequestsAreThoseOfOthers(t *testing.T) {
	p, _ := place(t)
	for _, name := range []string{"ask.x", "ask.pamprompt-0", "ask.pamprompt", "sck.x", "sck.pamprompt-0", "tmp.x", "x", ".ask.x", "ask.", "Ask.x"} {
		write(t, p.Path(), name, "")
	}
	for range 2 {
		got, err := p.Requests()
		if err != nil || len(got) != 3 || strings.Contains(strings.Join(got, " "), "pamprompt-") {
			t.Errorf("%q: %v", got, err)
		}
	}
	for name, is := range map[string]bool{"ask.pamprompt-0": true, "sck.pamprompt-0": true, "tmp.pamprompt-0": true, "ask.pamprompt": false, "ask.x": false, "x.pamprompt-0": false} {
		if IsOurs(name) != is {
			t.Errorf("that %s is ours is %v", name, !is)
		}
	}
}
