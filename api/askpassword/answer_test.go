// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/pids"
)

// target is a socket, and a request of root's that names it.
func target(t testing.TB, kind int) (Found, int) {
	t.Helper()
	path := filepath.Join(folder(t), "sck")
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	check(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	return Found{Request: Request{Socket: path}, UID: uint32(os.Geteuid())}, fd
}

func TestAnswerAndCancel(t *testing.T) {
	f, fd := target(t, unix.SOCK_DGRAM)
	for _, answer := range []string{"hunter2", "", strings.Repeat("x", MaxForeign)} {
		check(t, f.Answer(hold(t, answer)))
		b := make([]byte, MaxForeign+10)
		n, err := unix.Read(fd, b)
		if err != nil || string(b[:n]) != "+"+answer {
			t.Errorf("%q: %v", b[:n], err)
		}
	}
	check(t, f.Cancel())
	b := make([]byte, 10)
	if n, err := unix.Read(fd, b); err != nil || string(b[:n]) != "-" {
		t.Errorf("%q: %v", b[:n], err)
	}
	if err := f.Answer(hold(t, strings.Repeat("x", MaxForeign+1))); !errors.Is(err, secret.ErrTooLong) {
		t.Errorf("an answer that is too long: %v", err)
	}
}

func TestSocketsThatGetNoAnswer(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, f *Found, fd int)
		is    error
		says  string
	}{
		{"a link to it", func(t *testing.T, f *Found, _ int) {
			check(t, os.Symlink(f.Socket, f.Socket+"2"))
			f.Socket += "2"
		}, nil, "sck2 is no socket"},
		{"another's", func(t *testing.T, f *Found, _ int) {
			needRoot(t)
			check(t, os.Chown(f.Socket, 12345, 0))
		}, nil, "belongs to uid 12345, and the request to uid 0"},
		{"one of ours for a file of another's", func(_ *testing.T, f *Found, _ int) { f.UID = 12345 }, nil, "and the request to uid 12345"},
		{"a file", func(t *testing.T, f *Found, _ int) { f.Socket = write(t, filepath.Dir(f.Socket), "file", "") }, nil, "file is no socket"},
		{"a fifo", func(t *testing.T, f *Found, _ int) {
			f.Socket += "2"
			check(t, unix.Mkfifo(f.Socket, 0o600))
		}, nil, "is no socket"},
		{"a folder", func(_ *testing.T, f *Found, _ int) { f.Socket = filepath.Dir(f.Socket) }, nil, "is no socket"},
		{"nothing", func(t *testing.T, f *Found, _ int) { check(t, os.Remove(f.Socket)) }, ErrGone, ""},
		{"nothing in a folder that has gone", func(_ *testing.T, f *Found, _ int) { f.Socket = "/run/gone/sck" }, ErrGone, ""},
		{"one that nobody listens to", func(t *testing.T, f *Found, _ int) {
			f.Socket += "2"
			check(t, unix.Mknod(f.Socket, unix.S_IFSOCK|0o600, 0))
		}, ErrGone, ""},
		{"one that nobody reads", func(t *testing.T, f *Found, _ int) {
			for begun := time.Now(); f.Cancel() == nil; {
				if time.Since(begun) > patience {
					t.Fatal("it takes everything")
				}
			}
		}, ErrBusy, ""},
		{"none", func(_ *testing.T, f *Found, _ int) { *f = Found{} }, ErrGone, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, fd := target(t, unix.SOCK_DGRAM)
			c.spoil(t, &f, fd)
			before := descriptors(t)
			for _, err := range []error{f.Answer(hold(t, "abc")), f.Cancel()} {
				if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want %v %q", err, c.is, c.says)
				}
			}
			if descriptors(t) != before {
				t.Error("something is still open")
			}
		})
	}
	t.Run("one of streams", func(t *testing.T) {
		f, fd := target(t, unix.SOCK_STREAM)
		check(t, unix.Listen(fd, 1))
		if err := f.Cancel(); !errors.Is(err, unix.EPROTOTYPE) {
			t.Errorf("the error is %v", err)
		}
	})
}

// asker is systemd's program that asks, in a namespace where dir is the place.
type asker struct {
	pid    int
	signal func(os.Signal) error
	ended  chan error // what Wait said
	answer *bytes.Buffer
	found  Found
	err    error // of Find
}

// errRefused says that systemd did not even ask.
var errRefused = errors.New("systemd refuses the message")

func ask(t testing.TB, p *Place, args ...string) *asker {
	t.Helper()
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	check(t, err)
	events := os.NewFile(uintptr(watch), "inotify")
	defer func() { _ = events.Close() }()
	_, err = unix.InotifyAddWatch(watch, p.Path(), unix.IN_MOVED_TO)
	check(t, err)
	cmd := inNamespace(t, p.Path(), append([]string{"systemd-ask-password", "--no-tty", "--timeout=0"}, args...)...)
	a := &asker{ended: make(chan error, 1), answer: new(bytes.Buffer)}
	cmd.Stdout = a.answer
	check(t, cmd.Start())
	a.pid, a.signal = cmd.Process.Pid, cmd.Process.Signal
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		a.ended <- cmd.Wait()
		_ = events.Close() // nobody asks any more
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
	})
	if _, err = events.Read(make([]byte, 4096)); err != nil {
		a.err = errRefused
		return a
	}
	names, err := p.Requests()
	if err != nil || len(names) != 1 {
		t.Fatalf("%q: %v", names, err)
	}
	a.found, a.err = p.Find(names[0])
	// Its path is that of the namespace.
	if a.err == nil && !strings.HasPrefix(a.found.Socket, System+"/sck.") {
		t.Errorf("its socket is %s", a.found.Socket)
	}
	a.found.Socket = filepath.Join(p.Path(), filepath.Base(a.found.Socket))
	return a
}

func TestSystemdAsksAndWeAnswer(t *testing.T) {
	for _, answer := range []string{"correct horse", "", "jürgen\xff", strings.Repeat("x", MaxForeign)} {
		p, _ := place(t)
		a := ask(t, p, "--icon=drive", "--id=disk:x", "--echo=yes", "Passphrase for 'x':")
		check(t, a.err)
		if f := a.found; f.Message != "Passphrase for 'x':" || f.Icon != "drive" || f.ID != "disk:x" || f.PID != a.pid || !f.Echo || f.UID != 0 {
			t.Errorf("%+v", f)
		}
		check(t, a.found.Answer(hold(t, answer)))
		if err := within(t, a.ended); err != nil || a.answer.String() != answer+"\n" {
			t.Errorf("%.50q came for %.50q: %v", a.answer, answer, err)
		}
		if err := a.found.Answer(hold(t, answer)); !errors.Is(err, ErrGone) {
			t.Errorf("the error of a second answer is %v", err)
		}
	}
}

func TestSystemdAsksAndWeCancel(t *testing.T) {
	p, _ := place(t)
	a := ask(t, p, "Passphrase:")
	check(t, a.err)
	check(t, a.found.Cancel())
	if err := within(t, a.ended); err == nil || a.answer.Len() != 0 {
		t.Errorf("%q came: %v", a.answer, err)
	}
	if err := a.found.Cancel(); !errors.Is(err, ErrGone) {
		t.Errorf("the error of a second cancel is %v", err)
	}
}

func TestSystemdAsksAndDoesNotRead(t *testing.T) {
	p, _ := place(t)
	a := ask(t, p, "Passphrase:")
	check(t, a.err)
	pids.Stop(t, a.pid)
	answer := hold(t, "abc")
	err, begun := error(nil), time.Now()
	for n := 0; err == nil; n++ {
		if err = a.found.Answer(answer); time.Since(begun) > patience {
			t.Fatalf("it took %d answers", n)
		}
	}
	if !errors.Is(err, ErrBusy) {
		t.Errorf("the error is %v", err)
	}
	check(t, a.signal(unix.SIGCONT))
	if err := within(t, a.ended); err != nil || a.answer.String() != "abc\n" {
		t.Errorf("%q came: %v", a.answer, err)
	}
}

// systemd writes a message as it is, with new lines and all, or refuses it.
func TestSystemdAsksWithHostileMessages(t *testing.T) {
	for _, c := range []struct{ message, says string }{
		{"x\n[Ask]\nSocket=/evil", "more than one Socket="},
		{"x\rSocket=/evil", "a control character"},
		{"x\n[Other]\nSocket=/evil", ""},
		{`x\`, "goes on in the next one"},
		{"\x1b[2J", "a control character"},
		{"#", ""},
		{" x ", ""},
	} {
		p, _ := place(t)
		a := ask(t, p, c.message)
		if errors.Is(a.err, errRefused) {
			continue // as newer ones do
		}
		if c.says == "" {
			check(t, a.err)
			check(t, a.found.Cancel())
			_ = within(t, a.ended)
		} else if a.err == nil || !strings.Contains(a.err.Error(), c.says) {
			t.Errorf("%q: %+v: %v", c.message, a.found, a.err)
		}
	}
}

func ExampleFound_Cancel() {
	fmt.Println(Found{Request: Request{Socket: "/run/nobody/sck"}}.Cancel())
	// Output: whoever asked does not ask any more
}
