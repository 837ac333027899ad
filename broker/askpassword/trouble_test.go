// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAReadOnlyDirectory(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dir := tempDir(t)
	ask(t, dir, "ask.a", "")
	shell(t, "mount", "--bind", dir, dir)
	shell(t, "mount", "-o", "remount,bind,ro", dir)
	r := run(t, dir)
	r.expect("ask.a") // that can be read
	postings := r.postMany(20)
	postings[0].Close()
	r.count(0)
	r.log.exactly(t, 1, "level=WARN")
	r.log.await(t, "read-only file system")
	r.again = 1
	within(r.Adapter, r.retry)
	r.log.exactly(t, 1, "level=WARN")
	shell(t, "mount", "-o", "remount,bind,rw", dir)
	r.log.await(t, "can be reached again")
	r.count(19)
	r.log.exactly(t, 1, "can be reached again")
	r.log.exactly(t, 1, "level=WARN")
}

func TestAMissingDirectoryOnAReadOnlyFileSystem(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	top := tempDir(t)
	shell(t, "mount", "--bind", top, top)
	shell(t, "mount", "-o", "remount,bind,ro", top)
	r := run(t, filepath.Join(top, "systemd", "ask-password"))
	r.postMany(5)
	settled(r.Adapter)
	r.log.exactly(t, 1, "level=WARN")
	shell(t, "mount", "-o", "remount,bind,rw", top)
	r.awaitHere()
	r.works(5)
	r.log.exactly(t, 1, "level=WARN")
}

// awaitCount waits for a number of our requests without a word to the adapter,
// which would be a reason to try again.
func awaitCount(t testing.TB, dir string, want int) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(ours(t, dir)) != 2*want; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%q are there, of %d requests", ours(t, dir), want)
		}
	}
}

func TestAFullFileSystem(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, c := range []struct{ what, options string }{
		{"no room for bytes", "size=4k"},
		{"no room for names", "nr_inodes=8"},
	} {
		t.Run(c.what, func(t *testing.T) {
			top := tempDir(t)
			shell(t, "mount", "-t", "tmpfs", "-o", c.options, "tmpfs", top)
			defer shell(t, "umount", "--lazy", top)
			dir := filepath.Join(top, "d")
			r := run(t, dir)
			postings := r.postMany(10)
			there := 0
			within(r.Adapter, func() {
				r.post()
				there = len(ours(t, dir)) / 2
			})
			if there == 0 || there == 10 {
				t.Fatalf("%d of 10 are there", there)
			}
			r.count(there)
			r.log.exactly(t, 1, "no space left on device")
			for i := range 9 { // each makes room for another
				postings[i].Close()
				awaitCount(t, dir, min(there, 9-i))
			}
			within(r.Adapter, r.retry)
			r.log.exactly(t, 1, "level=WARN")
			r.log.exactly(t, 1, "can be reached again")
			postings[9].Close()
			r.count(0)
			r.stop()
		})
	}
}

func TestRoomThatNobodyTellsOfIsFound(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	top := tempDir(t)
	shell(t, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", top)
	defer shell(t, "umount", "--lazy", top)
	dir := filepath.Join(top, "below", "d") // so that no change of top is heard of
	junk := func(path string) {
		_ = os.WriteFile(path, make([]byte, 1<<20), 0o600) // as much as there is room for
	}
	r := run(t, dir)
	junk(filepath.Join(dir, "junk"))
	r.postMany(3)
	r.count(0)
	remove(t, filepath.Join(dir, "junk"))
	r.silent() // a change in the directory is the reason to try again
	r.count(3)
	within(r.Adapter, r.retry)
	r.log.exactly(t, 1, "can be reached again")

	junk(filepath.Join(top, "junk"))
	within(r.Adapter, func() { r.again = 1 }) // nothing but the clock
	r.postMany(3)
	r.count(3)
	r.log.exactly(t, 2, "level=WARN")
	remove(t, filepath.Join(top, "junk"))
	awaitCount(t, dir, 6)
	r.log.awaitNth(t, 2, "can be reached again")
	within(r.Adapter, func() {
		if r.tick != nil {
			t.Error("the clock runs on")
		}
	})
	r.log.exactly(t, 2, "level=WARN")
	r.stop()
}

// TestWhatFailsIsNoReasonToTryAgain sees that it becomes quiet: the files of a
// try that fails are changes of the directory too.
func TestWhatFailsIsNoReasonToTryAgain(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	top := tempDir(t)
	shell(t, "mount", "-t", "tmpfs", "-o", "nr_inodes=4", "tmpfs", top)
	defer shell(t, "umount", "--lazy", top)
	dir := filepath.Join(top, "d")
	r := run(t, dir)
	write(t, filepath.Join(top, "junk"), "") // of four inodes the third
	w, err := newWatcher()
	check(t, err)
	defer w.close()
	_, err = w.add(dir, onAncestor)
	check(t, err)
	r.postMany(1) // the socket has room, and the file has none
	settled(r.Adapter)
	buffer := make([]byte, eventsBuffer)
	for reads := 0; ; reads++ {
		// Beside the way, which is watched too.
		rename(t, filepath.Join(top, "junk"), filepath.Join(top, "gone"))
		rename(t, filepath.Join(top, "gone"), filepath.Join(top, "junk"))
		check(t, w.file.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		n, err := w.file.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) && reads > 0 {
			break
		}
		if err != nil || reads > 50 || !bytes.Contains(buffer[:n], []byte("sck.pamprompt-")) {
			t.Fatalf("after %d reads: %v, %q", reads, err, buffer[:n])
		}
	}
	r.log.exactly(t, 1, "level=WARN")
	r.stop()
}

func TestDescriptorsThatRunOut(t *testing.T) {
	if !inNamespace(t) { // for a process of its own
		return
	}
	dir := tempDir(t)
	ask(t, dir, "ask.a", "")
	r := run(t, dir)
	r.expect("ask.a")
	r.works(0)
	var hoard []*os.File
	var old unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	ask(t, dir, "tmp.b", "")
	within(r.Adapter, func() {
		check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: old.Max}))
		for {
			f, err := os.Open("/dev/null")
			if err != nil {
				break
			}
			hoard = append(hoard, f)
		}
	})
	rename(t, filepath.Join(dir, "tmp.b"), filepath.Join(dir, "ask.b"))
	r.postMany(3)
	r.log.await(t, "too many open files")
	settled(r.Adapter)
	for _, f := range hoard {
		_ = f.Close()
	}
	check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	within(r.Adapter, r.retry)
	r.expect("ask.b") // and ask.a was not taken for gone
	r.works(3)
	r.log.exactly(t, 1, "level=WARN")
}
