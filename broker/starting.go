// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/workers"
)

// startSession gives each transaction of a session to an idle worker, and returns
// when all have begun, or one goes on already. Each begins as soon as it has its
// worker: the pool starts the next one only then.
func (b *Broker) startSession(ctx context.Context, p *bus.Peer, starts []*worker.Start, stdio []int) (*session, error) {
	s := b.newSession(openedAs(starts[0]))
	started := make(chan error, 1)
	s.started = started
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
			b.do(func() {
				if s.started != nil && s.refusal == nil {
					s.refuse(contractOf(err))
				}
			})
			break
		}
	}
	select {
	case err := <-started:
		return s, err
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

// startOne gives a transaction to an idle worker, and to the next when that one is
// lost before it had it.
func (b *Broker) startOne(ctx context.Context, p *bus.Peer, s *session, start *worker.Start, stdio []int) error {
	for {
		w, err := b.config.Pool.Acquire(ctx)
		if err != nil {
			return &api.Error{Code: api.WorkerFailed, Text: fmt.Sprintf(
				"no worker was idle for %v: is `pamprompt-worker --pool` running?", openTimeout)}
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
	return nil
}
