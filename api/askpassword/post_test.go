// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// posted is a request of the test's own, and what agents said to it.
type posted struct {
	*Posted
	t       testing.TB
	place   *Place
	log     *journal
	replies chan Reply
}

func post(t testing.TB) *posted {
	t.Helper()
	p, log := place(t)
	return postIn(t, p, log)
}

func postIn(t testing.TB, p *Place, log *journal) *posted {
	t.Helper()
	replies := make(chan Reply, 100)
	q, err := p.Post(Request{Message: "Password:", PID: os.Getpid()}, func(r Reply) { replies <- r })
	check(t, err)
	t.Cleanup(q.Close)
	return &posted{q, t, p, log, replies}
}

func (q *posted) path() string { return filepath.Join(q.place.Path(), sockPrefix+q.id) }

// reply is what systemd's program for agents sends, run as some uid.
func (q *posted) reply(uid uint32, kind, input string) error {
	q.t.Helper()
	const program = "/lib/systemd/systemd-reply-password"
	if _, err := os.Stat(program); err != nil {
		q.t.Skipf("%v: the Debian package systemd has it", err)
	}
	cmd := exec.Command(program, kind, q.path())
	cmd.Stdin = strings.NewReader(input)
	if uid != 0 {
		needRoot(q.t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// send sends a datagram with a copy of descriptors.
func (q *posted) send(packet []byte, fds ...int) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	check(q.t, err)
	defer func() { _ = unix.Close(s) }()
	_ = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1<<20)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(s, packet, oob, &unix.SockaddrUnix{Name: q.path()}, 0)
}

// heard is the next answer.
func (q *posted) heard() string {
	q.t.Helper()
	r := within(q.t, q.replies)
	defer r.Answer.Wipe()
	if r.Answer == nil {
		return "cancelled"
	}
	return "answered: " + string(r.Answer.Bytes())
}

// goesOn sees that the question is still open, and that nothing came before.
func (q *posted) goesOn() {
	q.t.Helper()
	check(q.t, q.send([]byte("+still here")))
	if got := q.heard(); got != "answered: still here" {
		q.t.Errorf("%.200q came", got)
	}
}

func TestModesWhateverTheUmask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		t.Run(fmt.Sprintf("%04o", umask), func(t *testing.T) {
			p, log := place(t)
			old := unix.Umask(umask)
			q, err := p.Post(Request{Message: "?"}, func(Reply) {})
			unix.Umask(old)
			check(t, err)
			defer q.Close()
			for name, want := range map[string]fs.FileMode{q.Name(): 0o644, sockPrefix + q.id: 0o600 | fs.ModeSocket} {
				st, err := os.Lstat(filepath.Join(p.Path(), name))
				check(t, err)
				if st.Mode() != want {
					t.Errorf("the mode of %s is %v, want %v", name, st.Mode(), want)
				}
			}
			// What the name has from its first moment on, less the umask.
			var st unix.Stat_t
			check(t, unix.Fstat(int(q.socket.Fd()), &st))
			if st.Mode&0o777 != 0o600 {
				t.Errorf("the mode of the socket itself is %o", st.Mode&0o777)
			}
			if log.String() != "" {
				t.Errorf("the log says %q", log)
			}
		})
	}
}

func TestNothingIsReplaced(t *testing.T) {
	p, _ := place(t)
	for _, c := range []struct {
		name string
		make func(q *Posted) error
	}{
		{askPrefix, func(q *Posted) error { return q.write([]byte("new")) }},
		{tempPrefix, func(q *Posted) error { return q.write([]byte("new")) }},
		{sockPrefix, func(q *Posted) error { return q.bind() }},
	} {
		for kind, make := range map[string]func(path string) error{
			"file":           func(path string) error { return os.WriteFile(path, []byte("old"), 0o644) },
			"link":           func(path string) error { return os.Symlink(filepath.Join(p.Path(), "target"), path) },
			"link to a file": func(path string) error { return os.Symlink("/proc/self/comm", path) },
		} {
			t.Run(c.name+" "+kind, func(t *testing.T) {
				q := &Posted{place: p, id: ours + "0123"}
				path := filepath.Join(p.Path(), c.name+q.id)
				check(t, make(path))
				before, err := os.Lstat(path)
				check(t, err)
				if err := c.make(q); !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EADDRINUSE) {
					t.Errorf("the error is %v", err)
				}
				after, err := os.Lstat(path)
				check(t, err)
				if !os.SameFile(before, after) || before.Size() != after.Size() {
					t.Error("it was replaced")
				}
				if left := names(t, p.Path()); len(left) != 1 {
					t.Errorf("%q is there", left)
				}
				check(t, os.Remove(path))
			})
		}
	}
}

func TestAThousandAtOnce(t *testing.T) {
	p, log := place(t)
	before := descriptors(t)
	var wait sync.WaitGroup
	posted := make(chan *Posted, 1000)
	for range 10 {
		wait.Go(func() {
			for range 100 {
				q, err := p.Post(Request{Message: "?"}, func(Reply) {})
				if err != nil {
					t.Error(err)
					return
				}
				posted <- q
			}
		})
	}
	wait.Wait()
	close(posted)
	if n := len(names(t, p.Path())); n != 2000 {
		t.Errorf("%d files are there, want 2000", n)
	}
	for q := range posted {
		wait.Go(q.Close)
	}
	wait.Wait()
	if n := len(names(t, p.Path())); n != 0 || log.String() != "" {
		t.Errorf("%d files are left; the log says %q", n, log)
	}
	if after := descriptors(t); after > before+2 { // for what the runtime opens once
		t.Errorf("%d descriptors are open, and %d were before", after, before)
	}
}

func TestCloseWhileRepliesArrive(t *testing.T) {
	p, log := place(t)
	for range 50 {
		q, err := p.Post(Request{Message: "?"}, func(r Reply) { r.Answer.Wipe() })
		check(t, err)
		var wait sync.WaitGroup
		begun := make(chan struct{}, 4)
		for range 4 {
			wait.Go(func() {
				conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: filepath.Join(p.Path(), sockPrefix+q.id), Net: "unixgram"})
				if err == nil {
					defer func() { _ = conn.Close() }()
				}
				begun <- struct{}{}
				for err == nil {
					_, err = conn.Write([]byte("+abc"))
				}
			})
		}
		<-begun
		for range 3 {
			wait.Go(q.Close)
		}
		wait.Wait()
		(*Posted)(nil).Close()
	}
	if left := names(t, p.Path()); len(left) != 0 || log.String() != "" {
		t.Errorf("%q is left; the log says %q", left, log)
	}
}

func TestWhatWasPostedOutlivesItsPlace(t *testing.T) {
	log := new(journal)
	p, err := Open(folder(t), slog.New(slog.NewTextHandler(log, nil)))
	check(t, err)
	first, second := postIn(t, p, log), postIn(t, p, log)
	p.Close()
	p.Close()
	first.goesOn()
	first.Close()
	first.Close()
	second.goesOn()
	second.Close()
	if left := names(t, p.Path()); len(left) != 0 || log.String() != "" {
		t.Errorf("%q is left; the log says %q", left, log)
	}
	if p.File().Fd() != ^uintptr(0) {
		t.Error("the directory is still open")
	}
	if _, err := p.Post(Request{}, func(Reply) {}); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("the error of posting is %v", err)
	}
}

func TestPostThatFailsLeavesNothing(t *testing.T) {
	p, log := place(t)
	gone := folder(t)
	dir, err := os.Open(gone)
	check(t, err)
	check(t, os.Remove(gone))
	q, err := At(dir, gone, 0, p.log)
	check(t, err)
	defer q.Close()
	before := descriptors(t)
	if _, err := q.Post(Request{}, func(Reply) {}); !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
	if descriptors(t) != before || q.posted != 0 || log.String() != "" {
		t.Errorf("something is left, or in the log: %s", log)
	}
}

func TestPlacesWithNamesThatAgentsCannotUse(t *testing.T) {
	for _, name := range []string{strings.Repeat("x", 80), "it's", `a"b`, `a\b`, "a\nb", "a\u202eb", "a\xff"} {
		dir := filepath.Join(folder(t), name)
		before := descriptors(t)
		if p, err := Open(dir, slog.New(slog.DiscardHandler)); err == nil {
			p.Close()
			t.Errorf("%q was taken", name)
		}
		if descriptors(t) != before {
			t.Error("it is still open")
		}
	}
	link := filepath.Join(folder(t), "link")
	check(t, os.Symlink("/tmp", link))
	if p, err := Open(link, slog.New(slog.DiscardHandler)); err == nil {
		p.Close()
		t.Error("a link was followed")
	}
}
