// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

func TestStdio(t *testing.T) {
	t.Run("is the opener's", func(t *testing.T) {
		s := command(t, stack(t), "root", shell("read -r line; echo got $line; echo and >&2"))
		s.opened()
		_, _ = s.in.WriteString("words\n")
		if got := s.output(); got != "got words\nand\n" {
			t.Errorf("it printed %q", got)
		}
		s.ends("exited 0", "closed 0 the command ended with status 0")
	})
	t.Run("is let go when no command comes of it", func(t *testing.T) {
		s := command(t, stack(t, "auth required {deny}"), "root", shell("true"))
		for s.peer.Next().GetFailed() == nil {
		}
		if got := s.output(); got != "" { // returns at all
			t.Errorf("it printed %q", got)
		}
		s.process.Wait()
	})
	t.Run("is the command's alone", func(t *testing.T) {
		s := command(t, stack(t), "root", shell("exec >/dev/null 2>&1; read -r line"))
		s.opened()
		if got := s.output(); got != "" { // returns while the command runs
			t.Errorf("it printed %q", got)
		}
		_ = s.in.Close()
		s.ends("exited 1", "closed 0 the command ended with status 1")
	})
	t.Run("without any is /dev/null", func(t *testing.T) {
		dir := stack(t)
		_, process, peer := run(t, dir)
		c := shell("for f in 0 1 2; do readlink /proc/$$/fd/$f; done > " + dir + "/got")
		peer.Start(convtest.Start("test", "root", func(s *worker.Start) { s.Command = c }))
		for peer.Next().GetClosed() == nil {
		}
		process.Wait()
		if got := lines(t, filepath.Join(dir, "got")); !slices.Equal(got, []string{"/dev/null", dir + "/got", "/dev/null"}) {
			t.Errorf("it is %q", got)
		}
	})
	t.Run("does not wait where it did not", func(t *testing.T) {
		s := command(t, stack(t), "root", shell("true"))
		s.opened()
		s.ends("exited 0", "closed 0 the command ended with status 0")
		raw, _ := s.out.SyscallConn()
		_ = raw.Control(func(fd uintptr) {
			if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Errorf("the flags of our end are %#x (%v)", flags, err)
			}
		})
	})
	for _, n := range []int{0, 1, 2} {
		t.Run(fmt.Sprintf("is three descriptors and not %d", n), func(t *testing.T) {
			_, _, peer := run(t, stack(t))
			null, err := os.Open("/dev/null")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = null.Close() }()
			c := &worker.Command{Arguments: []string{"true"}, Stdio: true}
			peer.Start(convtest.Start("test", "root", func(s *worker.Start) { s.Command = c }), slices.Repeat([]*os.File{null}, n)...)
			if m, err := peer.Receive(); err == nil {
				t.Errorf("the worker said %s", convtest.Describe(m))
			}
		})
	}
}

// What modules start has no use for them, and would hold a pipe of the opener's
// open for as long as it runs. As 0, 1 or 2 one would be what the modules write to.
func TestStdioIsKeptForTheCommandAlone(t *testing.T) {
	t.Run("and not for what modules start", func(t *testing.T) {
		list := "ls -l /proc/self/fd > {dir}/"
		dir := stack(t, "auth required {probe} [auth:run="+list+"auth]", "session required {probe} [open:run="+list+"open]")
		s := command(t, dir, "root", shell("true"))
		theirs := map[string]bool{}
		for _, end := range []*os.File{s.in, s.out} {
			name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", end.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			theirs[name] = true
		}
		s.ends("exited 0", "closed 0 the command ended with status 0")
		for _, phase := range []string{"auth", "open"} {
			for _, line := range lines(t, filepath.Join(dir, phase)) {
				if _, to, _ := strings.Cut(line, " -> "); theirs[to] {
					t.Errorf("in %s it has %s", phase, line)
				}
			}
		}
	})
	t.Run("above the three that every process has", func(t *testing.T) {
		null, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = null.Close() }()
		saved, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = unix.Dup3(saved, 0, 0), unix.Close(saved) }()
		if err := unix.Close(0); err != nil { // as a module may have
			t.Fatal(err)
		}
		s := newSession(slog.New(slog.DiscardHandler))
		if err := s.keepStdio([]*os.File{null, null, null}); err != nil {
			t.Fatal(err)
		}
		defer s.dropStdio()
		if got, err := s.takeStdio(); err != nil {
			t.Errorf("they are %v: %v", got, err)
		}
	})
}
