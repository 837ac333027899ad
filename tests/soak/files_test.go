// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/askpassword"
)

// files is a directory of requests for systemd's agents, and who answers there.
type files struct {
	dir string

	mu      sync.Mutex
	waiting map[string]chan<- askpassword.Request // by the Id of the request
}

// watchFiles hands each request that comes to whoever waits for its Id.
func watchFiles(t testing.TB, dir string) *files {
	t.Helper()
	f := &files{dir: dir, waiting: make(map[string]chan<- askpassword.Request)}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		_, err = unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO)
	}
	if err != nil {
		t.Fatal(os.NewSyscallError("inotify", err))
	}
	events := os.NewFile(uintptr(fd), "inotify")
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 64<<10)
		for {
			if _, err := events.Read(buffer); err != nil {
				return
			}
			f.look()
		}
	}()
	t.Cleanup(func() { _ = events.Close(); <-done })
	return f
}

// requests are the names of all that is there.
func (f *files) requests() []string {
	entries, _ := os.ReadDir(f.dir)
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func (f *files) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		return
	}
	for _, name := range f.requests() {
		if !strings.HasPrefix(name, "ask.") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(f.dir, name))
		if err != nil {
			continue // answered meanwhile
		}
		r, err := askpassword.Parse(text)
		if to := f.waiting[r.ID]; err == nil && to != nil {
			to <- r
			delete(f.waiting, r.ID)
		}
	}
}

// reply answers the request with this Id when it is there, as an agent of systemd does.
func (f *files) reply(ctx context.Context, id, text string) error {
	came := make(chan askpassword.Request, 1)
	f.mu.Lock()
	f.waiting[id] = came
	f.mu.Unlock()
	f.look() // it may have been there before
	var r askpassword.Request
	select {
	case r = <-came:
	case <-ctx.Done():
		f.mu.Lock()
		delete(f.waiting, id)
		f.mu.Unlock()
		return ctx.Err()
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: r.Socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte("+" + text))
	return err
}
