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

// returnsWithin is how long calls wait for the sessions of workers that dialled before there
// was a broker. They say what they have at once; one that is stopped does not.
const returnsWithin = time.Second

var errNotServing = errors.New("the broker ends")

// adoptInTime is adopt when the name is ours: an opener that is told again what was
// asked would not believe anybody else.
func (b *Broker) adoptInTime(w *workers.Worker, d *worker.Session) {
	select {
	case <-b.named:
		b.adopt(w, d)
	case <-b.running.Done():
	}
}

// awaitReturns has calls wait until all sessions are known whose workers have been
// waiting for a broker: under systemd those of the last one, whose socket it kept.
// A call about one of them would be told that there is none.
func (b *Broker) awaitReturns(ctx context.Context) {
	late := time.NewTimer(returnsWithin)
	defer late.Stop()
	select {
	case <-b.config.Pool.Returned():
	case <-late.C:
	case <-ctx.Done():
	}
	close(b.rebuilt)
}

// adopt takes over a worker that comes with a session. It runs in the
// worker's reader.
func (b *Broker) adopt(w *workers.Worker, d *worker.Session) {
	start := d.GetStart()
	for _, number := range []uint64{start.GetSession(), d.GetPrompt().GetNumber()} {
		if !b.numbers.seen(number) {
			b.log.Error("a worker came with a number that no broker gave it, and is closed", "number", number, "worker", w.PID())
			w.Refuse()
			return
		}
	}
	owner := b.presentOwner(start.GetOwner())
	b.do(func() {
		s, known := b.sessions[start.GetSession()]
		_, removed := b.removed.find(start.GetSession())
		if removed || known && !s.takes(start) {
			// We gave it up when its connection broke, or it is an alternative
			// that comes after the end of the others.
			b.log.Warn("a lost session came back and is closed", "session", start.GetSession(), "worker", w.PID())
			w.Refuse()
			return
		}
		if !known {
			s = b.newSession(openedAs(start))
			s.expect(start.GetAlternative())
		}
		t := s.newTransaction(start, w)
		if !w.Bind(t) {
			return
		}
		s.join(t)
		s.recall(t, d.GetEnded())
		if known {
			s.recharge()
		} else {
			var c *client
			if owner != nil {
				c = b.client(owner)
			}
			b.add(s, c)
			s.awaitOthers()
		}
		t.rebuild(d)
	})
}

// presentOwner finds the connection that opened a session, if it is still on
// the bus: unique names mean nothing on another bus.
func (b *Broker) presentOwner(o *worker.Owner) *bus.Peer {
	if o.GetBusId() != b.bus.ID() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	p, err := b.bus.Peer(ctx, o.GetName())
	if err != nil || p.UID != o.GetUid() {
		return nil
	}
	return p
}

// rebuild fills a transaction and its session in from what the worker knows of
// them, and goes on where the last broker stopped.
func (t *transaction) rebuild(d *worker.Session) {
	s := t.s
	t.begun, t.ready, t.phase = true, d.GetReady(), d.GetPhase()
	if r := d.GetResolved(); r != nil {
		s.resolved, s.uid = true, r.GetUid()
	}
	if d.GetProceeds() && s.alternatives.winner == nil {
		t.win()
	}
	if t.mayProceed() {
		s.restore(t, d)
	} else {
		t.losing = d.GetClosing()
	}
	s.reappear()
	s.b.log.Info("session taken over", "session", s.id, "service", t.start.GetService(), "phase", t.phase.Word(), "worker", t.worker.PID())
	switch {
	case !t.mayProceed() && s.alternatives.winner != nil:
		t.lose()
	case t.losing, s.asked:
		t.close()
	}
	if p := d.GetPrompt(); p != nil && !t.losing && !t.askAgain(p) {
		return
	}
	switch {
	case d.GetClosed() != nil:
		t.closed(d.GetClosed())
	case d.GetFailed() != nil:
		t.failed(d.GetFailed())
	case s.abandoned():
		s.close("its owner left the bus")
	case d.GetClosing() && t.mayProceed():
		s.close("")
	default:
		s.choose()
	}
}

// reappear announces a session that is taken over. One of which all that has come back
// is being closed may have been open, by the alternative that went on: nobody hears of
// it before that one is back, or is not to come.
func (s *session) reappear() {
	if s.announced {
		return
	}
	if !slices.ContainsFunc(s.transactions, func(t *transaction) bool { return !t.losing }) {
		if s.alternatives.waiting != nil {
			return
		}
		s.asked, s.state = true, api.StateClosing
	}
	s.announce()
}

// restore fills in what the session has of the transaction that opened it.
func (s *session) restore(t *transaction, d *worker.Session) {
	if o := d.GetOpened(); o != nil {
		s.opened, s.pid, s.exited = true, o.GetPid(), d.GetExited()
		s.environment, s.openedAt = strs(o.GetEnvironment()), o.GetOpenedUsec()
	}
	state := s.state
	switch {
	case t.phase > worker.Phase_PHASE_OPEN, d.GetClosing():
		state = api.StateClosing
	case t.phase == worker.Phase_PHASE_OPEN && !s.asked:
		state = api.StateOpen
	}
	s.enter(state)
}

// askAgain puts the question that waits. It reports whether it could.
func (t *transaction) askAgain(p *worker.Prompt) bool {
	number := p.GetNumber()
	if number == 0 { // the last broker died before it could number it
		if number, _ = t.s.b.numbers.try(); number == 0 {
			t.lost(fmt.Errorf("no number could be given to its prompt"))
			return false
		}
		t.numbered(p.GetIndex(), number)
	}
	t.pose(p, number, t.s.abandoned())
	if !t.userFile { // what the last broker wanted nobody knows
		t.mirrorTo(false)
	}
	return true
}
