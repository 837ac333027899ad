// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/pids"
)

// An idle worker is stopped: whoever gets it gets the next one instead, in bounded
// time, and nobody gets the stopped one again.
func TestAnIdleWorkerIsStopped(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{})
	busy := map[int]bool{b.somebody.leader(b.open): true, b.somebody.leader(b.waiting): true}
	for _, pid := range b.workers() {
		if !busy[pid] {
			pids.Stop(t, pid) // all idle ones
		}
	}
	victim := b.agent(false)
	began := time.Now()
	s := victim.open("permit", api.Options{})
	took := time.Since(began)
	victim.wait(s, api.StateOpen)
	saw(t, "two idle workers that were stopped cost the next OpenSession %v", took.Round(100*time.Millisecond))
	if took > 18*time.Second { // after 20 it gives up
		t.Errorf("OpenSession took %v", took)
	}
	if lines := b.complaints("did not take a session"); len(lines) != 2 {
		t.Errorf("for two stopped workers the log has %q", lines)
	}
	victim.close(s)
	victim.leave()
	b.unharmed()
}

// The pool is stopped: its idle workers serve, then OpenSession fails in bounded time
// and says why, and works again when the pool goes on.
func TestThePoolIsStopped(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{})
	pool := b.pool()
	pids.Stop(t, pool)
	victim := b.agent(false)
	for range 2 {
		victim.wait(victim.open("permit", api.Options{}), api.StateOpen)
	}
	began := time.Now()
	_, err := victim.Open(within(t), "permit", "root", api.Options{})
	var failed *api.Error
	if !errors.As(err, &failed) || failed.Code != api.WorkerFailed {
		t.Errorf("without an idle worker OpenSession says %v", err)
	}
	saw(t, "with a stopped pool and no idle worker OpenSession fails after %v: %v", time.Since(began).Round(100*time.Millisecond), err)
	if lines := b.complaints("no worker was idle"); len(lines) != 1 {
		t.Errorf("the log has %q", lines)
	}
	kill(t, pool, unix.SIGCONT)
	victim.wait(victim.open("permit", api.Options{}), api.StateOpen)
	victim.leave()
	b.unharmed()
}

// A worker is stopped while its question waits: all others are served, and when it
// goes on, so does its session, with the answer that was sent meanwhile.
func TestAWorkerIsStoppedWhileItsQuestionWaits(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{})
	victim := b.agent(false)
	s := victim.open("ask", api.Options{Agent: true})
	p := victim.prompt(s)
	worker := victim.leader(s)
	pids.Stop(t, worker)
	answered := make(chan error, 1)
	go func() { answered <- victim.give(p.ID, "late") }()
	other := b.agent(false)
	again := other.open("ask", api.Options{Agent: true})
	other.reply(other.prompt(again).ID, "at once")
	other.wait(again, api.StateOpen)
	select {
	case err := <-answered:
		t.Fatalf("the stopped worker has taken its answer: %v", err)
	default:
	}
	kill(t, worker, unix.SIGCONT)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	victim.wait(s, api.StateOpen)
	if p := victim.properties(s); len(p.Environment) != 1 || p.Environment[0] != "ANSWER=late" {
		t.Errorf("the module got %q", p.Environment)
	}
	victim.leave()
	other.leave()
	b.unharmed()
}

// A worker is stopped, with a question and in an open session, and its session is
// closed: it is killed in a set time.
func TestClosingAWorkerThatIsStopped(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{}, "--close-timeout=1s")
	victim := b.agent(false)
	asking := victim.open("ask", api.Options{Agent: true})
	victim.prompt(asking)
	open := victim.open("permit", api.Options{})
	victim.wait(open, api.StateOpen)
	began := time.Now()
	for _, s := range []*api.Session{asking, open} {
		pids.Stop(t, victim.leader(s))
		if err := s.Close(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	victim.failed(asking, api.WorkerFailed, "did not close within 6s")
	victim.failed(open, api.WorkerFailed, "did not close within 6s")
	saw(t, "with --close-timeout=1s the sessions of stopped workers end %v after Close", time.Since(began).Round(100*time.Millisecond))
	for _, s := range []*api.Session{asking, open} {
		b.buried(s, "was killed by SIGKILL")
		b.said(s, "did not close within 6s, and was killed")
	}
	victim.leave()
	b.unharmed()
}
