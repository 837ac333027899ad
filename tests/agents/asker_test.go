// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

const askPassword = "systemd-ask-password"

// asker is a program of somebody else that asks for a password.
type asker struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

// asker starts a systemd-ask-password.
func (b *stage) asker(args ...string) *asker {
	b.t.Helper()
	a := &asker{t: b.t, cmd: b.command(askPassword, append([]string{"--no-tty"}, args...)...)}
	a.cmd.Stdout, a.cmd.Stderr = &a.stdout, &a.stderr
	if err := a.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
	})
	return a
}

// prints wants the program to end well, and to print what it was answered.
func (a *asker) prints(want string) {
	a.t.Helper()
	if err := a.cmd.Wait(); err != nil || a.stdout.String() != want {
		a.t.Errorf("it printed %q, not %q: %v %s", &a.stdout, want, err, &a.stderr)
	}
}

// fails wants the program to end without an answer.
func (a *asker) fails() {
	a.t.Helper()
	if err := a.cmd.Wait(); err == nil || a.stdout.Len() > 0 {
		a.t.Errorf("it ended well, and printed %q", &a.stdout)
	}
}

// theirs waits for the request of another program.
func (b *stage) theirs() request {
	b.t.Helper()
	var files []string
	until(b.t, b.dir, func() bool {
		files = names(b.t, b.dir, "ask.")
		return len(files) == 1
	})
	return load(b.t, b.dir, files[0])
}

// question is a request that the test itself puts there, and reads the answer
// to.
type question struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

// put puts a question there as systemd does, with some more lines.
func (b *stage) put(name, more string) *question {
	b.t.Helper()
	socket := filepath.Join(b.dir, "sck."+name)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		b.t.Fatal(err)
	}
	q := &question{b.t, b.write(name, fmt.Sprintf("[Ask]\nSocket=%s/sck.%s\nMessage=%s?\n%s", protocol.System, name, name, more)), conn}
	b.t.Cleanup(func() {
		_ = conn.Close()
		_ = os.Remove(socket)
		_ = os.Remove(q.path)
	})
	return q
}

// write puts a file there under the name of a request.
func (b *stage) write(name, text string) (path string) {
	b.t.Helper()
	temporary := filepath.Join(b.dir, "tmp."+name)
	path = filepath.Join(b.dir, "ask."+name)
	if err := os.WriteFile(temporary, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(temporary, path); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// hears wants the next datagram to be this one.
func (q *question) hears(want string) {
	q.t.Helper()
	buf := make([]byte, 8192)
	if err := q.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		q.t.Fatal(err)
	}
	n, err := q.conn.Read(buf)
	if err != nil || string(buf[:n]) != want {
		q.t.Errorf("whoever asked hears %q, not %q: %v", buf[:n], want, err)
	}
}

// silent wants that no datagram has come.
func (q *question) silent() {
	q.t.Helper()
	raw, err := q.conn.SyscallConn()
	if err != nil {
		q.t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); n != 0 || err != nil {
			q.t.Errorf("whoever asked hears something: %d %v", n, err)
		}
	})
}

const nobody = 65534

// as lets the calling goroutine be another user, for as long as f runs. The
// kernel has users for threads, and a connection is one of its thread.
func as(t testing.TB, uid int, f func()) {
	t.Helper()
	groups, err := unix.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() {
		if err := become(0, groups); err != nil {
			panic(err) // the thread is of no use any more, and nothing says so
		}
	}()
	if err := become(uid, nil); err != nil {
		t.Fatal(err)
	}
	f()
}

// become changes the calling thread, whose saved ids stay root's.
func become(uid int, groups []int) error {
	if uid == 0 {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); errno != 0 {
			return errno
		}
	}
	if err := unix.Setgroups(groups); err != nil {
		return err
	}
	keep := ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(uid), uintptr(uid), keep); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), keep); errno != 0 {
		return errno
	}
	return nil
}

// clientOf is a client of another user.
func (b *stage) clientOf(uid int) (c *api.Client) {
	b.t.Helper()
	if err := os.Chmod(b.Dir, 0o711); err != nil {
		b.t.Fatal(err)
	}
	var err error
	as(b.t, uid, func() { c, err = api.Dial(within(b.t), b.Address) })
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

// busctl runs it, as root and with nothing else of ours.
func (b *stage) busctl(args ...string) string {
	b.t.Helper()
	return strings.TrimSpace(b.output("busctl", append([]string{"call", api.BusName, api.RootPath, api.ManagerInterface}, args...)...))
}
