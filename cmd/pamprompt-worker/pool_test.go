// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

var signals = []os.Signal{unix.SIGHUP, unix.SIGPIPE}

// startPool starts a pool of this size.
func startPool(t *testing.T, size int, probe string) (*convtest.Broker, *convtest.Process) {
	t.Helper()
	broker := convtest.Listen(t)
	args := []string{"--pool", "--socket", broker.Socket, "--pam-dir", stack(t, probe), "--size", fmt.Sprint(size)}
	pool := convtest.Run(t, nil, args...)
	t.Cleanup(func() { endAll(t, pool.Pid) })
	return broker, pool
}

// endAll makes sure that no worker of a pool is left.
func endAll(t *testing.T, pool int) {
	for _, pid := range children(t, pool) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// children are the processes that a process has started.
func children(t *testing.T, pid int) []int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(text)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}

// watch returns a function that waits for the end of a process that need not be
// a child of this one.
func watch(t *testing.T, pid int) (waitEnd func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func() {
		t.Helper()
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(poll, 30_000)
			if err == unix.EINTR {
				continue
			}
			if n != 1 {
				t.Fatalf("process %d does not end (%v)", pid, err)
			}
			return
		}
	}
}

func pidOf(p *convtest.Peer) int {
	pid, _ := p.Conn.Peer()
	return pid
}

func TestThePoolRefillsItself(t *testing.T) {
	broker, pool := startPool(t, 2, "auth:ask=secret,x")
	var sessions []*convtest.Peer
	for i := range 4 {
		peer := broker.Accept()
		sessions = append(sessions, peer)
		if peer.Hello.GetSession() != nil {
			t.Error("a new worker has a session")
		}
		peer.Start(convtest.Start("test", "root", func(s *worker.Start) { s.Session = uint64(i + 1) }))
		peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret x")
	}
	// Two more stand idle, and no third one comes.
	broker.Accept()
	broker.Accept()
	if n := len(children(t, pool.Pid)); n != 6 {
		t.Errorf("the pool has %d workers, not 4 with a session and 2 idle", n)
	}
	for i, peer := range sessions {
		ended := watch(t, pidOf(peer))
		peer.Answer(0, "x")
		if said := convtest.Continue(peer); !slices.Contains(said, "closed 0") {
			t.Errorf("session %d said %q", i+1, said)
		}
		ended()
	}
	if log := pool.Log(); strings.Contains(log, "ERROR") {
		t.Errorf("the pool said %s", log)
	}
}

func TestAWorkerThatIsKilled(t *testing.T) {
	broker, pool := startPool(t, 1, "auth:ask=secret,x auth:crash=SEGV")
	peer := broker.Accept()
	pid := pidOf(peer)
	peer.Start(convtest.Start("test", "root"))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret x")
	next := broker.Accept()
	ended := watch(t, pid)
	peer.Answer(0, "x")
	convtest.Continue(peer)
	ended()
	// An idle one that is killed is replaced, and that shows that the pool has
	// seen the other one end.
	idle := pidOf(next)
	if err := unix.Kill(idle, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	third := broker.Accept()
	for _, want := range []string{
		fmt.Sprintf("worker %d (session 4711) was killed by SIGSEGV", pid),
		fmt.Sprintf("worker %d was killed by SIGKILL", idle),
	} {
		if !strings.Contains(pool.Log(), want) {
			t.Errorf("the pool did not say %q but %s", want, pool.Log())
		}
	}
	if got := children(t, pool.Pid); !slices.Equal(got, []int{pidOf(third)}) {
		t.Errorf("the pool has the children %v, not one idle worker", got)
	}
}

// TestAProcessThatAModuleLeavesBehind must not keep the pool from reaping: it
// has inherited the worker's descriptors.
func TestAProcessThatAModuleLeavesBehind(t *testing.T) {
	broker, pool := startPool(t, 1, "auth:fork auth:ask=secret,x open:crash=KILL")
	peer := broker.Accept()
	pid := pidOf(peer)
	peer.Start(convtest.Start("test", "root"))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret x")
	left := children(t, pid)
	if len(left) != 1 {
		t.Fatalf("the module left %v", left)
	}
	t.Cleanup(func() { _ = unix.Kill(left[0], unix.SIGKILL) })
	next := broker.Accept()
	ended := watch(t, pid)
	peer.Answer(0, "x")
	ended()
	if err := unix.Kill(pidOf(next), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	third := broker.Accept()
	if got := children(t, pool.Pid); !slices.Equal(got, []int{pidOf(third)}) {
		t.Errorf("the pool has the children %v, not one idle worker: %s", got, pool.Log())
	}
}

// TestTheEndOfThePool: idle workers end, sessions go on.
func TestTheEndOfThePool(t *testing.T) {
	for _, test := range []struct {
		name   string
		signal os.Signal
		end    string
	}{
		{"by SIGTERM", unix.SIGTERM, "exit status 0"},
		{"by SIGKILL", unix.SIGKILL, "signal: killed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			broker, pool := startPool(t, 1, "auth:ask=secret,x auth:export=A")
			session := broker.Accept()
			session.Start(convtest.Start("test", "root"))
			session.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret x")
			idle := broker.Accept()
			idleEnded, sessionEnded := watch(t, pidOf(idle)), watch(t, pidOf(session))
			pool.Signal(test.signal)
			if end := pool.Wait(); end != test.end {
				t.Errorf("the pool ended with %s", end)
			}
			if said := convtest.Continue(idle); len(said) > 0 {
				t.Errorf("the idle worker said %q", said)
			}
			idleEnded()
			session.Answer(0, "x")
			if said := convtest.Continue(session); !slices.Contains(said, "opened [A=x]") || said[len(said)-1] != "closed 0" {
				t.Errorf("the session said %q", said)
			}
			sessionEnded()
		})
	}
}

// TestWithoutABroker: workers wait for it, and the pool does not start more.
func TestWithoutABroker(t *testing.T) {
	broker, pool := startPool(t, 1, "")
	first := broker.Accept()
	broker.Leave()
	first.Leave()
	broker.Return()
	if again := broker.Accept(); pidOf(again) != pidOf(first) {
		t.Errorf("another worker came back: %s", pool.Log())
	}
}

func TestAWorkerSaysToItsPoolThatItIsTaken(t *testing.T) {
	broker := convtest.Listen(t)
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ours.Close() }()
	process := convtest.Run(t, []*os.File{theirs}, "--idle", "--socket", broker.Socket, "--pam-dir", stack(t, "auth:ask=secret,x"))
	_ = theirs.Close()
	peer := broker.Accept()
	peer.Start(convtest.Start("test", "root"))
	line := make([]byte, 100)
	n, err := ours.Read(line)
	if err != nil || !bytes.Equal(line[:n], []byte("taken 4711\n")) {
		t.Errorf("the worker said %q (%v)", line[:n], err)
	}
	// What the pool does now is of no interest to a session.
	_ = ours.Close()
	if said := convtest.Continue(peer, convtest.Answer("x")); !slices.Contains(said, "closed 0") {
		t.Errorf("the worker said %q", said)
	}
	process.Wait()
}

// TestWhatEndsIdleWorkersIsSaidOnce, as long as none of them has a session.
func TestWhatEndsIdleWorkersIsSaidOnce(t *testing.T) {
	broker, pool := startPool(t, 1, "")
	for range 3 {
		if err := unix.Kill(pidOf(broker.Accept()), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	convtest.Play(broker.Accept(), convtest.Start("test", "root"))
	if err := unix.Kill(pidOf(broker.Accept()), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	broker.Accept() // the pool has seen the other one end
	if n := strings.Count(pool.Log(), "was killed by SIGKILL"); n != 2 {
		t.Errorf("%d lines say that a worker was killed, not 2, with a session between:\n%s", n, pool.Log())
	}
}
