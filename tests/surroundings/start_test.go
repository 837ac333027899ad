// SPDX-License-Identifier: Apache-2.0

package surroundings

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// The pool can start no worker, here because the program has another name: what the
// kernel says to a fork for want of memory or of processes takes the same way.
func TestNoWorkerCanBeStarted(t *testing.T) {
	program := filepath.Join(t.TempDir(), "pamprompt-worker")
	if err := os.Link(system.Build(t).Worker, program); err != nil {
		t.Fatal(err)
	}
	b := on(t, system.StartOnBus(t, system.Options{Stacks: stacks(t), BrokerArgs: []string{"--worker", program}}))
	goesOn, journal := b.bystander(), b.journal()
	if err := os.Rename(program, program+".away"); err != nil {
		t.Fatal(err)
	}
	idle := max(2, runtime.NumCPU()) // as many as the pool keeps
	for range idle {                 // each that is taken is one that cannot be replaced
		b.wait(b.open(b.here, "permit", api.Options{}), api.StateOpen)
	}
	b.AwaitLog(t, func(string) bool { return strings.Contains(journal.text(), "workers cannot be started") })
	began, waits := time.Now(), make(chan error, 1)
	go func() {
		_, err := b.here.Open(within(t), "permit", "root", api.Options{})
		waits <- err
	}()
	if err := os.Rename(program+".away", program); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil {
		t.Errorf("who waited for a worker was told %v", err)
	}
	took := time.Since(began)
	b.AwaitLog(t, func(string) bool { return strings.Contains(journal.text(), "workers can be started again") })
	goesOn()
	journal.says("workers cannot be started")
	saw(t, "no worker could be started: %d sessions more were opened, the next one waited; it was there %v after workers could be started again",
		idle, took.Round(time.Millisecond))
}

// The pool alone is killed: what is open stays, and the next pool serves whoever waits.
func TestThePoolIsKilled(t *testing.T) {
	b := on(t, system.StartOnBus(t, system.Options{Stacks: stacks(t), PoolArgs: []string{}}))
	held, journal := b.hold(), b.journal()
	b.idle(3)
	again := b.KillPool(t)
	b.AwaitLog(t, func(string) bool { return strings.Contains(journal.text(), "no worker is idle") })
	waits := make(chan error, 1)
	go func() {
		_, err := b.here.Open(within(t), "permit", "root", api.Options{})
		waits <- err
	}()
	held.unchanged()
	select {
	case err := <-waits:
		t.Errorf("without a pool OpenSession returned: %v", err)
	default:
	}
	began := time.Now()
	again()
	if err := <-waits; err != nil {
		t.Errorf("whoever waited for a pool was told %v", err)
	}
	saw(t, "the pool was killed: whoever waited had a session %v after another pool was started", time.Since(began).Round(time.Millisecond))
	held.goOn()
	if n := strings.Count(journal.text(), "no worker is idle"); n != 1 || strings.Contains(journal.text(), "level=WARN") || strings.Contains(journal.text(), "level=ERROR") {
		t.Errorf("the journal has not one line:\n%s", journal.text())
	}
}

// The pool that a broker has started itself is killed: the broker ends, and the next one has
// all sessions.
func TestThePoolOfTheBrokerIsKilled(t *testing.T) {
	b := start(t)
	held, journal := b.hold(), b.journal()
	var pool int
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", b.BrokerPID(), b.BrokerPID()))
	if err == nil {
		_, err = fmt.Sscan(string(children), &pool)
	}
	if err == nil {
		err = unix.Kill(pool, unix.SIGKILL)
	}
	if err != nil {
		t.Fatalf("kill the pool: %v", err)
	}
	if status := b.EndedWith(t); status != 1 {
		t.Errorf("the broker ended with %d", status)
	}
	journal.says("the pool of workers ended: signal: killed")
	b.Restart(t)
	b.come()
	b.back(held.open, held.runs, held.waits)
	held.unchanged()
	held.goOn()
}

// held are sessions of somebody else's in each state in which one stays: one waits for its
// answer, one is open, one runs a command.
type held struct {
	b       *bench
	waits   *api.Session
	open    *api.Session
	runs    *api.Session
	command uint32
}

func (b *bench) hold() *held {
	b.t.Helper()
	h := &held{b: b, waits: b.open(b.here, "ask", api.Options{Linger: true}), open: b.open(b.here, "permit", api.Options{Linger: true}),
		runs: b.open(b.here, "permit", api.Options{Linger: true, Command: []string{"sleep", "1000"}})}
	b.wait(h.open, api.StateOpen)
	b.wait(h.runs, api.StateOpen)
	h.command = h.properties(h.runs).Leader
	return h
}

func (h *held) properties(s *api.Session) api.Properties {
	h.b.t.Helper()
	p, err := h.b.here.Session(s.ID()).Properties(within(h.b.t))
	if err != nil {
		h.b.t.Fatal(err)
	}
	return p
}

// back waits until the workers of sessions have dialled a broker that has a socket of its own.
func (b *bench) back(sessions ...*api.Session) {
	b.t.Helper()
	there, err := b.here.Sessions(within(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range sessions {
		if !slices.ContainsFunc(there, func(known api.SessionInfo) bool { return known.ID == s.ID() }) {
			next(b, func(e api.SessionAdded) bool { return e.ID == s.ID() })
		}
	}
}

// idle waits until as many workers stand idle as the pool keeps, beside those of so many sessions.
func (b *bench) idle(sessions int) {
	b.t.Helper()
	connected := func() (n int) { // each is held by a pidfd
		found, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", b.BrokerPID()))
		for _, fd := range found {
			if to, _ := os.Readlink(fd); to == "anon_inode:[pidfd]" {
				n++
			}
		}
		return n
	}
	for late := time.Now().Add(patience); connected() < sessions+max(2, runtime.NumCPU()); {
		if time.Now().After(late) {
			b.t.Fatalf("%d workers are connected after %v", connected(), patience)
		}
		if _, err := b.here.Sessions(within(b.t)); err != nil { // the broker's turn
			b.t.Fatal(err)
		}
	}
}

// goOn answers and closes them.
func (h *held) goOn() {
	h.b.t.Helper()
	p := h.b.promptOf(h.waits)
	if err := h.b.give(h.b.here, p.ID); err != nil {
		h.b.t.Errorf("prompt %d cannot be answered: %v", p.ID, err)
	}
	h.b.wait(h.waits, api.StateOpen)
	for _, s := range []*api.Session{h.waits, h.open, h.runs} {
		h.b.close(s)
	}
	h.b.works()
}

// unchanged checks that they are what they were.
func (h *held) unchanged() {
	h.b.t.Helper()
	for _, s := range []*api.Session{h.open, h.runs} {
		if p := h.properties(s); p.State != api.StateOpen {
			h.b.t.Errorf("session %d is %s: %s", s.ID(), p.State, p.ResultText)
		}
	}
	if p := h.properties(h.runs); p.Leader != h.command || unix.Kill(int(h.command), 0) != nil {
		h.b.t.Errorf("the command %d is %d", h.command, p.Leader)
	}
}
