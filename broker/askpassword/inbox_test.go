// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

func TestRequestsAreToldOf(t *testing.T) {
	dir := tempDir(t)
	ask(t, dir, "ask.before", "Id=disk\nEcho=1\n")
	r := run(t, dir)
	if q := r.expect("ask.before"); q.ID != "disk" || !q.Echo || q.Message != "Password:" || q.Socket != "/run/nobody" {
		t.Errorf("told of %+v", q)
	}
	for _, c := range []struct {
		what string
		do   func()
		want []string
	}{
		{"a file that is renamed into place", func() { ask(t, dir, "ask.a", "") }, []string{"ask.a"}},
		{"a file that is written in place", func() { write(t, dir+"/ask.b", text("")) }, []string{"ask.b"}},
		{"a file of another name", func() { write(t, dir+"/sck.c", text("")) }, nil},
		{"a file that is replaced by a rename", func() { ask(t, dir, "ask.a", "Id=2\n") }, []string{"ask.a removed", "ask.a"}},
		{"a file that is written again", func() { write(t, dir+"/ask.b", text("Id=2\n")) }, []string{"ask.b removed", "ask.b"}},
		{"a file that is renamed", func() { rename(t, dir+"/ask.a", dir+"/ask.z") }, []string{"ask.a removed", "ask.z"}},
		{"a file that becomes wrong", func() { write(t, dir+"/ask.z", "[Ask]\n") }, []string{"ask.z removed"}},
		{"a file that becomes right", func() { write(t, dir+"/ask.z", text("")) }, []string{"ask.z"}},
		{"a file that is renamed away", func() { rename(t, dir+"/ask.z", dir+"/z") }, []string{"ask.z removed"}},
		{"a file that whoever asked removes", func() { remove(t, dir+"/ask.b") }, []string{"ask.b removed"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.do()
			r.expect(c.want...)
			r.silent()
		})
	}
	r.log.exactly(t, 1, "level=WARN") // of the file that became wrong
}

func TestAHalfWrittenFileIsARequestWhenItIsClosed(t *testing.T) {
	r := run(t, tempDir(t))
	f, err := os.Create(filepath.Join(r.dir, "ask.slow"))
	check(t, err)
	for _, part := range []string{"[As", "k]\nSock", "et=/run/nobody\nMess"} {
		_, err = f.WriteString(part)
		check(t, err)
		r.silent()
	}
	within(r.Adapter, r.scan) // sees half of it
	r.silent()
	r.log.exactly(t, 1, "ask.slow")
	_, err = f.WriteString("age=Pass phrase:\n")
	check(t, err)
	check(t, f.Close())
	if q := r.expect("ask.slow"); q.Message != "Pass phrase:" {
		t.Errorf("the message is %q", q.Message)
	}
}

func TestARequestExpires(t *testing.T) {
	r := run(t, tempDir(t))
	ask(t, r.dir, "ask.never", fmt.Sprintf("NotAfter=%d\n", uint64(math.MaxUint64)))
	r.expect("ask.never")
	ask(t, r.dir, "ask.over", fmt.Sprintf("NotAfter=%d\n", protocol.Now()-1))
	r.silent()
	end := protocol.Now() + 50_000
	ask(t, r.dir, "ask.soon", fmt.Sprintf("NotAfter=%d\n", end))
	r.expect("ask.soon", "ask.soon expired")
	if now := protocol.Now(); now < end {
		t.Errorf("it expired %d µs too early", end-now)
	}
	within(r.Adapter, r.scan)
	r.silent()
	remove(t, filepath.Join(r.dir, "ask.soon"))
	r.silent()
	r.log.exactly(t, 0, "level=WARN")
}

// asker is a process that does nothing; end ends it.
func asker(t *testing.T) (cmd *exec.Cmd, end func()) {
	t.Helper()
	cmd = exec.Command("cat")
	in, err := cmd.StdinPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return cmd, func() { _ = in.Close() }
}

func TestARequestEndsWithItsProcess(t *testing.T) {
	r := run(t, tempDir(t))
	cmd, end := asker(t)
	pid := fmt.Sprintf("PID=%d\n", cmd.Process.Pid)
	ask(t, r.dir, "ask.a", pid)
	ask(t, r.dir, "ask.b", pid)
	r.expect("ask.a", "ask.b")
	ask(t, r.dir, "ask.a", "")
	r.expect("ask.a removed", "ask.a")
	end() // nobody waits for it yet
	r.expect("ask.b died")
	ask(t, r.dir, "ask.zombie", pid)
	r.silent()
	check(t, cmd.Wait())
	ask(t, r.dir, "ask.late", pid)
	within(r.Adapter, r.scan)
	r.silent()
	remove(t, filepath.Join(r.dir, "ask.b"))
	remove(t, filepath.Join(r.dir, "ask.late"))
	remove(t, filepath.Join(r.dir, "ask.zombie"))
	r.silent()
	within(r.Adapter, func() {
		if len(r.dead) != 0 {
			t.Errorf("remembered: %v", r.dead)
		}
	})
	r.log.exactly(t, 0, "level=WARN")
}

// TestANumberThatMeansAnotherProcessAsksNothing has the numbers of processes to
// itself, and so can say which is the next.
func TestANumberThatMeansAnotherProcessAsksNothing(t *testing.T) {
	if !inNamespace(t, "--pid", "--fork", "--mount-proc", "--kill-child") {
		return
	}
	const last = "/proc/sys/kernel/ns_last_pid"
	r := run(t, tempDir(t))
	cmd, end := asker(t)
	pid := cmd.Process.Pid
	ask(t, r.dir, "ask.a", fmt.Sprintf("PID=%d\n", pid))
	r.expect("ask.a")
	end()
	r.expect("ask.a died")
	check(t, cmd.Wait())
	for range 100 {
		if err := os.WriteFile(last, []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Skipf("%v: the kernel needs CONFIG_CHECKPOINT_RESTORE", err)
		}
		if again, _ := asker(t); again.Process.Pid != pid {
			continue // a thread of ours was faster
		}
		within(r.Adapter, r.scan)
		r.silent()
		ask(t, r.dir, "ask.a", fmt.Sprintf("PID=%d\n", pid))
		r.expect("ask.a") // what is new is asked
		return
	}
	t.Skipf("%s does not say which process is the next", last)
}

func TestThereIsRoomForSoManyRequests(t *testing.T) {
	dir := tempDir(t)
	name := func(i int) string { return fmt.Sprintf("ask.%04d", i) }
	for i := range maxInquiries + 10 {
		ask(t, dir, name(i), "")
	}
	r := run(t, dir)
	for i := range maxInquiries {
		r.expect(name(i))
	}
	r.log.exactly(t, 1, "too many requests")
	for i := range 10 {
		remove(t, filepath.Join(dir, name(i)))
		r.expect(name(i)+" removed", name(maxInquiries+i))
	}
	r.log.exactly(t, 1, "too many requests")
	remove(t, filepath.Join(dir, name(10)))
	r.expect(name(10) + " removed")
	r.silent()
	ask(t, dir, "ask.x", "")
	r.expect("ask.x")
	ask(t, dir, "ask.y", "")
	within(r.Adapter, func() { r.look("ask.y") })
	r.log.exactly(t, 2, "too many requests")
	r.log.exactly(t, 2, "level=WARN")
}

func TestWhatAnOverflowHidIsFound(t *testing.T) {
	raw, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	check(t, err)
	most, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	check(t, err)
	if most > 1<<17 {
		t.Skipf("a queue of %d events takes too long to fill: set fs.inotify.max_queued_events lower", most)
	}
	dir := tempDir(t)
	ask(t, dir, "ask.goes", "")
	ask(t, dir, "ask.stays", "")
	r := run(t, dir)
	r.expect("ask.goes", "ask.stays")
	r.seen.gate = make(chan struct{})
	ask(t, dir, "ask.gate", "") // Run's goroutine stands in Asked from now on
	r.expect("ask.gate")
	for i := range most + 2*eventsBuffer/32 {
		write(t, filepath.Join(dir, fmt.Sprint("noise", i%2)), "")
	}
	remove(t, filepath.Join(dir, "ask.goes"))
	ask(t, dir, "ask.comes", "")
	close(r.seen.gate)
	r.expect("ask.comes", "ask.goes removed")
	r.silent()
}
