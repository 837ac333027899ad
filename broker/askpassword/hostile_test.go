// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFilesThatAreNoRequests has each there at the start, brings it in by a
// rename, and looks at it once more: one line each time that it is new.
func TestFilesThatAreNoRequests(t *testing.T) {
	for _, c := range []struct {
		what string
		make func(t *testing.T, path string)
		root bool
	}{
		{"a symlink to a request", func(t *testing.T, path string) {
			target := filepath.Join(tempDir(t), "target")
			write(t, target, text(""))
			check(t, os.Symlink(target, path))
		}, false},
		{"a symlink to nothing", func(t *testing.T, path string) { check(t, os.Symlink("/nonexistent", path)) }, false},
		{"a fifo", func(t *testing.T, path string) { check(t, unix.Mkfifo(path, 0o644)) }, false},
		{"a directory", func(t *testing.T, path string) { check(t, os.Mkdir(path, 0o755)) }, false},
		{"a socket", func(t *testing.T, path string) {
			l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			check(t, err)
			t.Cleanup(func() { _ = l.Close() })
		}, false},
		{"1 MiB", func(t *testing.T, path string) { write(t, path, text(strings.Repeat("#", 1<<20))) }, false},
		{"somebody else's file", func(t *testing.T, path string) {
			write(t, path, text(""))
			check(t, os.Chown(path, 12345, 12345))
		}, true},
		{"a file that its group may write", func(t *testing.T, path string) {
			write(t, path, text(""))
			check(t, os.Chmod(path, 0o664))
		}, false},
		{"garbage", func(t *testing.T, path string) { write(t, path, "\xff\xfe[[[\n==\n") }, false},
		{"NUL bytes", func(t *testing.T, path string) { write(t, path, text("Id=a\x00b\n")) }, false},
		{"nothing at all", func(t *testing.T, path string) { write(t, path, "") }, false},
		{"a socket that is no path", func(t *testing.T, path string) { write(t, path, "[Ask]\nSocket=../x\n") }, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("chown needs root: run this test as root")
			}
			dir := tempDir(t)
			c.make(t, filepath.Join(dir, "ask.one"))
			c.make(t, filepath.Join(dir, "tmp.two"))
			r := run(t, dir)
			r.silent()
			rename(t, filepath.Join(dir, "tmp.two"), filepath.Join(dir, "ask.two"))
			r.silent()
			within(r.Adapter, r.scan)
			r.log.exactly(t, 1, dir+"/ask.one")
			r.log.exactly(t, 1, dir+"/ask.two")
			r.log.exactly(t, 2, "level=WARN")
			check(t, os.RemoveAll(filepath.Join(dir, "ask.one")))
			ask(t, dir, "ask.one", "")
			r.expect("ask.one")
			r.stop()
		})
	}
}

func TestAFloodOfBrokenFilesFloodsNothing(t *testing.T) {
	const flood = 10_000
	r := run(t, tempDir(t))
	name := func(i int) string { return filepath.Join(r.dir, fmt.Sprintf("ask.%05d", i)) }
	for i := range flood {
		write(t, name(i), "broken")
	}
	r.works(0)
	for range 3 {
		within(r.Adapter, r.scan)
	}
	r.log.exactly(t, maxRemembered, "is no request")
	r.log.exactly(t, 1, "too many files are no requests")
	within(r.Adapter, func() {
		if len(r.complaints) != maxRemembered || len(r.dead) != 0 || len(r.inquiries) != 0 {
			t.Errorf("remembered: %d complaints, %d dead, %d inquiries", len(r.complaints), len(r.dead), len(r.inquiries))
		}
	})
	for i := range flood {
		remove(t, name(i))
	}
	r.silent()
	write(t, name(0), "broken again")
	r.silent()
	r.log.exactly(t, maxRemembered+1, "is no request")
	r.log.exactly(t, 1, "too many files are no requests")
}

func TestManyRequestsOfDeadProcessesAreRemembered(t *testing.T) {
	r := run(t, tempDir(t))
	for i := range 2 * maxRemembered {
		ask(t, r.dir, fmt.Sprintf("ask.%d", i), "PID=4194303\n")
	}
	r.silent()
	within(r.Adapter, func() {
		if len(r.dead) != maxRemembered {
			t.Errorf("%d are remembered", len(r.dead))
		}
	})
	r.log.exactly(t, 0, "level=WARN")
}

func TestQuestionsOfOursDoNotWaitForAFlood(t *testing.T) {
	r := newRig(t, tempDir(t))
	ask(t, r.dir, "ask.a", "")
	ask(t, r.dir, "ask.b", "")
	r.seen.gate = make(chan struct{})
	posted := make(chan int, 1)
	go func() {
		r.hear()
		r.postMany(1)
		r.seen.gate <- struct{}{}
		r.hear() // between the two it was written
		posted <- len(ours(t, r.dir))
		close(r.seen.gate)
	}()
	r.start()
	if n := <-posted; n != 2 {
		t.Errorf("%d names of ours were there", n)
	}
}
