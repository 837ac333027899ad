// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

// request is a file in a directory of requests, as the test finds it.
type request struct {
	protocol.Request
	path   string
	socket string
}

// send says something to whoever asks, as an agent does that is run by root.
func (r request) send(text string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: r.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte(text))
	return err
}

// say is send, which must work.
func (r request) say(t testing.TB, text string) {
	t.Helper()
	if err := r.send(text); err != nil {
		t.Fatal(err)
	}
}

func (r request) gone() bool {
	_, err := os.Lstat(r.path)
	_, err2 := os.Lstat(r.socket)
	return errors.Is(err, os.ErrNotExist) && errors.Is(err2, os.ErrNotExist)
}

// wantGone is for after the broker has said that the prompt has ended.
func (r request) wantGone(t testing.TB) {
	t.Helper()
	if !r.gone() {
		t.Errorf("there still is %s, or its socket", r.path)
	}
}

// names are the files of a directory that begin with a prefix.
func names(t testing.TB, dir, prefix string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			found = append(found, e.Name())
		}
	}
	return found
}

const ours = "ask.pamprompt-"

// load reads a request file.
func load(t testing.TB, dir, name string) request {
	t.Helper()
	r, err := tryLoad(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tryLoad is load for a request that may go at any time.
func tryLoad(dir, name string) (request, error) {
	path := filepath.Join(dir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return request{}, err
	}
	parsed, err := protocol.Parse(text)
	if err != nil {
		return request{}, fmt.Errorf("%s: %w\n%s", path, err, text)
	}
	return request{parsed, path, filepath.Join(dir, filepath.Base(parsed.Socket))}, nil
}

// requests waits until there are n requests of ours, and reads them.
func (b *stage) requests(n int) []request {
	b.t.Helper()
	return requestsIn(b.t, b.dir, n)
}

func requestsIn(t testing.TB, dir string, n int) (found []request) {
	t.Helper()
	var files []string
	until(t, dir, func() bool {
		files = names(t, dir, ours)
		return len(files) == n
	})
	for _, name := range files {
		found = append(found, load(t, dir, name))
	}
	return found
}

// request waits until there is one request of ours.
func (b *stage) request() request { b.t.Helper(); return b.requests(1)[0] }

// anotherThan waits until there is one request of ours, and not that one.
func (b *stage) anotherThan(old request) request {
	b.t.Helper()
	name := filepath.Base(old.path)
	until(b.t, b.dir, func() bool {
		files := names(b.t, b.dir, ours)
		return len(files) == 1 && files[0] != name
	})
	return b.request()
}

// wantNothingOfOurs is for when no prompt waits.
func (b *stage) wantNothingOfOurs() {
	b.t.Helper()
	for _, prefix := range []string{ours, "sck.pamprompt-", "tmp.pamprompt-"} {
		if left := names(b.t, b.dir, prefix); len(left) > 0 {
			b.t.Errorf("there are left %d of %q", len(left), left[0])
		}
	}
}

// until waits for a state of a directory, looking whenever something in it
// changes.
func until(t testing.TB, dir string, ready func() bool) {
	t.Helper()
	f := inotify(t, dir, unix.IN_CREATE|unix.IN_MOVE|unix.IN_DELETE|unix.IN_MODIFY|unix.IN_CLOSE_WRITE)
	defer func() { _ = f.Close() }()
	for buf := make([]byte, 64<<10); !ready(); {
		if _, err := f.Read(buf); err != nil {
			all, _ := os.ReadDir(dir)
			t.Fatalf("what is waited for in %s does not happen: %v; it has %d files: %.500v", dir, err, len(all), all)
		}
	}
}

// change is what happened to a name in a directory.
type change struct {
	mask uint32
	name string
}

// changes does something, and returns what of mask happened meanwhile.
func changes(t testing.TB, dir string, mask uint32, do func()) (all []change) {
	t.Helper()
	f := inotify(t, dir, mask)
	defer func() { _ = f.Close() }()
	do()
	buf := make([]byte, 64<<10)
	n := 0
	raw, err := f.SyscallConn()
	if err == nil {
		err2 := raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf) })
		err = errors.Join(err, err2)
	}
	if err != nil { // EAGAIN: nothing has happened
		t.Fatal(err)
	}
	for buf = buf[:n]; len(buf) > 0; {
		end := unix.SizeofInotifyEvent + binary.NativeEndian.Uint32(buf[12:])
		name, _, _ := bytes.Cut(buf[unix.SizeofInotifyEvent:end], []byte{0})
		all = append(all, change{binary.NativeEndian.Uint32(buf[4:]), string(name)})
		buf = buf[end:]
	}
	return all
}

// untilRead does something, and waits until somebody has read a file whose name
// begins so.
func untilRead(t testing.TB, dir, prefix string, do func()) {
	t.Helper()
	f := inotify(t, dir, unix.IN_CLOSE_NOWRITE)
	defer func() { _ = f.Close() }()
	do()
	for buf := make([]byte, 64<<10); ; {
		n, err := f.Read(buf)
		if err != nil {
			t.Fatalf("nobody reads %s* in %s: %v", prefix, dir, err)
		}
		if bytes.Contains(buf[:n], []byte(prefix)) {
			return
		}
	}
}

func inotify(t testing.TB, dir string, mask uint32) *os.File {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	_, err = unix.InotifyAddWatch(fd, dir, mask)
	if err = errors.Join(err, f.SetReadDeadline(time.Now().Add(patience))); err != nil {
		_ = f.Close()
		t.Fatal(err)
	}
	return f
}

// logged waits until the broker's log has a line with all of these.
func (b *stage) logged(parts ...string) (found string) {
	b.t.Helper()
	until(b.t, b.Dir, func() bool {
		found = ""
		if lines := b.lines(parts...); len(lines) > 0 {
			found = lines[0]
		}
		return found != ""
	})
	return found
}

// lines are those of the broker's log with all of these.
func (b *stage) lines(parts ...string) (found []string) {
	for line := range strings.Lines(b.Log()) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			found = append(found, line)
		}
	}
	return found
}
