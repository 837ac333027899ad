// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

func TestAnIdleWorkerKnowsWhoHasAUID(t *testing.T) {
	e := newEtc(t)
	users := "root:x:0:0:root:/root:/bin/sh\nanna:x:60001:60000::/nonexistent:/bin/sh\n" +
		"far:x:3000000000:60000::/nonexistent:/bin/sh\nann\xe4:x:60002:60000::/nonexistent:/bin/sh\n" +
		strings.Repeat("x", worker.MaxName+1) + ":x:60003:60000::/nonexistent:/bin/sh\n"
	e.write("passwd", users)
	_, process, peer := run(t, stack(t))
	for _, test := range []struct {
		uid  uint32
		want string
	}{
		{annaUID, "name 60001 anna"},
		{annaUID, "name 60001 anna"},
		{3000000000, "name 3000000000 far"}, // above INT_MAX: CVE-2018-19788
		{60009, "name 60009"},
		{60002, "name 60002"}, // is not UTF-8
		{60003, "name 60003"}, // is too long
		{0, "name 0 root"},
	} {
		peer.Resolve(test.uid)
		peer.Expect(test.want)
	}
	e.write("passwd", strings.Replace(users, "anna", "otto", 1))
	peer.Resolve(annaUID)
	peer.Expect("name 60001 otto")
	wantSaid(t, convtest.Play(peer, convtest.Start("test", "root")), everyPhase...)
	process.Wait()
}

func TestAResolveThatMayNotComeEndsTheConnection(t *testing.T) {
	t.Run("with a session", func(t *testing.T) {
		broker, _, peer := asking(t, stack(t, asks))
		peer.Resolve(0)
		if said := convtest.Continue(peer); len(said) > 0 {
			t.Errorf("the worker said %q", said)
		}
		peer = broker.Accept()
		peer.Answer(0, "x")
		peer.Expect("taken 0", "entering account")
	})
	t.Run("of the uid that is none", func(t *testing.T) {
		broker, _, peer := run(t, stack(t))
		peer.Resolve(^uint32(0))
		if said := convtest.Continue(peer); len(said) > 0 {
			t.Errorf("the worker said %q", said)
		}
		broker.Accept()
	})
}

// hangs makes NSS hang. The function waits until somebody is in it, lets that go
// on, with an error, and makes NSS answer all others from then on.
func (e *etc) hangs() (goOn func()) {
	e.t.Helper()
	pipe := filepath.Join(e.dir, "pipe")
	fifo(e.t, pipe)
	e.mount(pipe, "passwd")
	return func() {
		e.t.Helper()
		e.mount(filepath.Join(e.dir, "passwd"), "passwd")
		f, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err != nil {
			e.t.Fatal(err)
		}
		_ = f.Close()
	}
}

// inNSS is what a worker logs as it asks NSS.
const inNSS = `msg="ask NSS for the broker"`

func TestNSSThatHangsHoldsUpNobodyElse(t *testing.T) {
	e := newEtc(t)
	goOn := e.hangs()
	broker, process, peer := run(t, stack(t))
	peer.Resolve(annaUID)
	process.Says(inNSS)
	peer.Leave() // the broker has waited long enough
	peer = broker.Accept()
	if peer.Hello.GetSession() != nil {
		t.Error("the worker is not idle")
	}
	threads := len(tasks(t, process.Pid))
	for range 20 {
		peer.Resolve(annaUID)
		peer.Leave()
		peer = broker.Accept()
	}
	if now := len(tasks(t, process.Pid)); now > threads+5 {
		t.Errorf("there are %d threads, and were %d", now, threads)
	}
	peer.Resolve(annaUID)
	goOn()
	peer.Expect("name 60001 anna")
	wantSaid(t, convtest.Play(peer, convtest.Start("test", "root")), everyPhase...)
	process.Wait()
	if n := strings.Count(process.Log(), inNSS); n != 2 {
		t.Errorf("NSS was asked %d times, not for the first broker and the last", n)
	}
}

func tasks(t testing.TB, pid int) []string {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

func TestASecondResolveWhileNSSHangs(t *testing.T) {
	e := newEtc(t)
	e.hangs()
	broker, process, peer := run(t, stack(t))
	peer.Resolve(annaUID)
	process.Says(inNSS)
	peer.Resolve(annaUID)
	if said := convtest.Continue(peer); len(said) > 0 {
		t.Errorf("the worker said %q", said)
	}
	broker.Accept()
}

// TestNSSThatFailsIsNotAnUnknownUser: an error that counts as an answer was
// CVE-2021-3560.
func TestNSSThatFailsIsNotAnUnknownUser(t *testing.T) {
	e := newEtc(t)
	pipe := filepath.Join(e.dir, "pipe")
	fifo(t, pipe)
	f, err := os.OpenFile(pipe, os.O_RDWR, 0) // so that nobody who opens it waits
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	e.mount(pipe, "passwd")
	broker, process, peer := run(t, stack(t))
	peer.Resolve(annaUID)
	if said := convtest.Continue(peer); len(said) > 0 {
		t.Errorf("the worker said %q", said)
	}
	process.Says("look up an account for the broker")
	if peer = broker.Accept(); peer.Hello.GetSession() != nil {
		t.Error("the worker is not idle")
	}
}
