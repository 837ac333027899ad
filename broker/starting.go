// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/workers"
)

// takeTimeout is how long a worker may take to say that it has a session. It is idle
// and has nothing else to do, so one that takes longer is stopped, or worse.
const takeTimeout = 5 * time.Second

// startSession gives each transaction of a session to an idle worker, and returns
// when all have begun, or one goes on already. Each begins as soon as it has its
// worker: the pool starts the next one only then.
func (b *Broker) startSession(ctx context.Context, p *bus.Peer, starts []*worker.Start, stdio []int) (*session, error) {
	s := b.newSession(openedAs(starts[0]))
	started := make(chan error, 1)
	s.started, s.again = started, make(chan *worker.Start, len(starts))
	s.expect(starts[0].GetAlternative())
	for i, start := range starts {
		err := b.startOne(ctx, p, s, start, stdio)
		if errors.Is(err, errDecided) {
			break
		}
		if err != nil && i == 0 {
			return nil, err // nobody knows of the session
		}
		if err != nil {
			b.cannotStart(s, err)
			break
		}
	}
	for {
		select {
		case err := <-started:
			return s, err
		case start := <-s.again:
			if err := b.startOne(ctx, p, s, start, stdio); err != nil && !errors.Is(err, errDecided) {
				b.cannotStart(s, err)
			}
		case <-ctx.Done():
			b.do(func() {
				for _, t := range slices.Clone(s.transactions) {
					if s.started != nil && !t.begun {
						t.kill(fmt.Sprintf("it did not take the session within %v", openTimeout))
					}
				}
			})
			return s, <-started
		}
	}
}

// cannotStart has OpenSession fail, when all that has begun is closed.
func (b *Broker) cannotStart(s *session, err error) {
	b.do(func() {
		if s.started != nil && s.refusal == nil {
			s.refuse(contractOf(err))
		}
	})
}

// overdue gives the transaction to another worker, when its own has not taken it in
// time. That one must not run PAM later, beside the other: without a pidfd it cannot
// be killed for certain, and is waited for.
func (t *transaction) overdue() {
	s := t.s
	if t.begun || t.over || s.asked || s.started == nil || t.worker.Kill() != nil {
		return
	}
	s.b.log.Error("an idle worker did not take a session and was killed: another one gets it",
		"session", s.id, "service", t.start.GetService(), "worker", t.worker.PID(), "after", takeTimeout)
	t.over = true // its end is on the way
	t.worker.Unbind()
	t.worker.Close()
	s.transactions = slices.DeleteFunc(s.transactions, func(other *transaction) bool { return other == t })
	s.alternatives.seen &^= 1 << t.index()
	s.alternatives.missing++
	s.again <- t.start
}

// startOne gives a transaction to an idle worker, and to the next when that one is
// lost before it had it.
func (b *Broker) startOne(ctx context.Context, p *bus.Peer, s *session, start *worker.Start, stdio []int) error {
	for {
		w, err := b.config.Pool.Acquire(ctx)
		if errors.Is(err, workers.ErrNotAccepted) {
			return &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf("%v: try again when sessions have ended", err)}
		}
		if err != nil {
			b.log.Error("no worker was idle in time: the pool does not run, or does not start any",
				"session", s.id, "service", start.GetService(), "after", openTimeout)
			return &api.Error{Code: api.WorkerFailed, Text: fmt.Sprintf(
				"no worker was idle for %v: `pamprompt-worker --pool` does not run, or can start none, which its log says", openTimeout)}
		}
		err = b.look(func() error { return b.give(w, p, s, start, stdio) })
		if errors.Is(err, errWorkerLost) {
			w.Close()
			continue
		}
		if err != nil {
			// The worker has no session and no events: it is as idle as before.
			b.config.Pool.Return(w)
		}
		return err
	}
}

// contractOf is an error in the words of the contract.
func contractOf(err error) *api.Error {
	if known := new(api.Error); errors.As(err, &known) {
		return known
	}
	return &api.Error{Code: api.WorkerFailed, Text: err.Error()}
}

var (
	errWorkerLost = errors.New("the worker is lost")
	errDecided    = errors.New("the session needs no further transaction")
)

// give gives a transaction of a session to an idle worker. It runs in the owner.
func (b *Broker) give(w *workers.Worker, p *bus.Peer, s *session, start *worker.Start, stdio []int) error {
	if s.asked || s.over() || s.alternatives.missing == 0 {
		return errDecided
	}
	if start.GetAlternative() != nil && w.Version() < worker.AlternativesVersion {
		// It would not stop, and open a session beside the others.
		return &api.Error{Code: api.WorkerFailed, Text: fmt.Sprintf(
			"worker %d is of an older version, which knows no alternatives: restart `pamprompt-worker --pool`", w.PID())}
	}
	first := b.sessions[s.id] != s
	if first {
		if most, more := b.limits(p.UID).sessions, s.alternatives.missing; b.charge(p.UID).sessions+more > most {
			text := fmt.Sprintf("uid %d has %d sessions already: close one", p.UID, b.charge(p.UID).sessions)
			if more > 1 {
				text = fmt.Sprintf("uid %d may have %d sessions, each alternative counts as one, and it has %d: close some", p.UID, most, b.charge(p.UID).sessions)
			}
			b.settle(p.UID)
			return &api.Error{Code: api.LimitExceeded, Text: text}
		}
		b.settle(p.UID)
	}
	owner := b.client(p)
	if owner == nil {
		return errCallerLeft
	}
	t := s.newTransaction(start, w)
	if !w.Bind(t) || w.Send(&worker.ToWorker{Message: &worker.ToWorker_Start{Start: start}}, stdio...) != nil {
		w.Unbind()
		t.over = true // in case its end is on the way already
		b.tidy(owner)
		return errWorkerLost
	}
	s.join(t)
	if first {
		b.add(s, owner)
	}
	t.tellEndings(nil)
	t.slow = b.after(takeTimeout, t.overdue)
	return nil
}
