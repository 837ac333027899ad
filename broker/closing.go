// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
)

const (
	// killAfter is how much longer than a worker the broker waits for it to
	// close, before it kills it.
	killAfter = 5 * time.Second
	// maxDelay is how much longer it waits for the delay of a failure: libpam
	// makes up to half more of what a module asks for, which is seconds.
	maxDelay = 60 * time.Second
	// keepEnded is how long the object of an ended session stays for somebody
	// who was not there at the end; keepOwned, for an owner who is.
	keepEnded = 30 * time.Second
	keepOwned = 60 * time.Second
	// maxEnded bounds how many of them stay.
	maxEnded = 1024
)

// close ends the session, by way of its transactions if it has any. why is what
// the session's text will say.
func (s *session) close(why string) {
	if s.over() || s.asked {
		return
	}
	s.asked = true
	if s.alternatives.waiting == nil { // those that a worker may bring along are closed as they come
		s.alternatives.missing = 0
	}
	if s.state != api.StateClosing { // by itself, after the command
		s.why = why
	}
	s.enter(api.StateClosing)
	if len(s.transactions) == 0 && s.alternatives.missing == 0 {
		s.end(api.StateClosed, 0, s.why)
		return
	}
	for _, t := range s.transactions {
		t.close()
	}
}

// close has the worker end the transaction, once.
func (t *transaction) close() {
	if t.late != nil {
		return
	}
	t.send(&worker.ToWorker{Message: &worker.ToWorker_Close{Close: &worker.Close{}}})
	patience := t.patience()
	t.late = t.s.b.after(patience, func() {
		if !t.over {
			t.kill(fmt.Sprintf("it did not close within %v", patience))
		}
	})
}

// patience is how long the worker may take to close. Processes of the session have
// their time before PAM has. While PAM is at work on an answer it may also be in the
// delay that follows a failure, which nobody cuts short by closing.
func (t *transaction) patience() time.Duration {
	b := t.s.b
	patience := b.config.CloseTimeout + killAfter
	if t.s.runs() && !t.losing {
		patience += b.config.CloseTimeout
	}
	if g := b.gates[t.gateKey()]; g != nil && g.holder == t {
		patience += maxDelay
	}
	return patience
}

// kill ends a worker that does not do as it is told.
func (t *transaction) kill(why string) {
	if err := t.worker.Kill(); err != nil {
		t.s.b.log.Error("a worker could not be killed", "session", t.s.id, "worker", t.worker.PID(), "error", err)
	}
	t.lost(fmt.Errorf("%s, and was killed", why))
}

// lost ends a transaction whose worker is of no use any more. PAM may not have
// been closed; if the worker lives and comes back, it is told to.
func (t *transaction) lost(err error) {
	if t.over {
		return
	}
	text := fmt.Sprintf("worker %d was lost in phase %s: %v; PAM may not have been closed", t.worker.PID(), t.phase.Word(), err)
	t.s.b.log.Error("transaction failed", "session", t.s.id, "service", t.start.GetService(), "why", text)
	if t.userFile { // of a prompt, which the worker can no more take away
		t.s.b.aside.Go(func() { t.s.b.sweep(t.s.uid) })
	}
	t.finish(api.StateFailed, 0, (&api.Error{Code: api.WorkerFailed, Text: text}).Error())
}

// stop lets go of all that a transaction has. state is how it ended.
func (t *transaction) stop(state string) {
	t.over = true
	t.stopTimers()
	t.lastNotice(state)
	t.worker.Close()
	if t.prompt != nil {
		t.prompt.end(api.OutcomeSessionClosed)
	}
	t.pass()
}

// sweepTimeout bounds how long a user's own directory may take to be looked at.
const sweepTimeout = 5 * time.Second

// sweep has a worker take away what dead ones have left in a user's own
// ask-password directory: only a worker can take on the user's identity.
func (b *Broker) sweep(uid uint32) {
	ctx, cancel := context.WithTimeout(b.running, sweepTimeout)
	defer cancel()
	if err := b.config.Pool.Sweep(ctx, uid); err != nil {
		b.log.Warn("a question may be left in a user's own directory", "uid", uid, "error", err)
	}
}

// end is the one way a session ends.
func (s *session) end(state string, result int32, text string) {
	b := s.b
	s.stopTimers()
	for _, t := range s.transactions {
		t.stop(state)
		b.forget(t)
	}
	for _, e := range s.alternatives.endings {
		b.forget(e.t)
	}
	s.transactions, s.alternatives.endings = nil, nil
	for _, number := range sortedNumbers(s.prompts) {
		s.prompts[number].end(api.OutcomeSessionClosed)
	}
	s.conversation.stop()
	s.result, s.text = result, text
	if s.announced {
		b.live--
	}
	if s.started != nil { // OpenSession says it all
		s.state = state
		s.recharge()
		err := cmp.Or(s.refusal, api.ParseResult(text))
		if err == nil {
			err = &api.Error{Code: api.Cancelled, Text: "the session was closed before it began"}
		}
		s.take(err)
		s.forget()
		return
	}
	s.enter(state)
	s.recharge()
	b.audit(slog.LevelInfo, "session ended", eventClose, s.about(),
		[]slog.Attr{slog.String("state", state), slog.Int("pam", int(result)), slog.String("why", text)})
	if s.owner == nil && !s.start.GetOptions().GetLinger() {
		s.forget()
		return
	}
	keep := keepOwned
	if s.owner == nil {
		keep = keepEnded
	}
	s.late = b.after(keep, s.forget)
	if b.ended = append(b.ended, s); len(b.ended) > maxEnded {
		b.ended[0].forget()
	}
}

// take tells OpenSession what became of it.
func (s *session) take(err *api.Error) {
	if s.started == nil {
		return
	}
	if err == nil {
		s.started <- nil
	} else {
		s.started <- err
	}
	s.started = nil
}

// forget removes the object of an ended session.
func (s *session) forget() {
	b := s.b
	s.stopTimers()
	if b.sessions[s.id] != s {
		return
	}
	delete(b.sessions, s.id)
	b.removed.add(past{number: s.id})
	b.ended = slices.DeleteFunc(b.ended, func(other *session) bool { return other == s })
	if s.owner != nil {
		delete(s.owner.sessions, s)
		b.tidy(s.owner)
		s.owner = nil
	}
	s.notify()
	if s.announced {
		b.bus.Send(bus.Signal{Path: api.RootPath, Name: api.ManagerInterface + ".SessionRemoved", Values: []any{s.id, s.path()}})
		b.bus.Send(bus.Signal{Path: api.RootPath, Name: objectManager + ".InterfacesRemoved", Values: []any{s.path(), []string{api.SessionInterface}}})
	}
}

// orphaned is called when the owner has left the bus.
func (s *session) orphaned() {
	s.owner = nil
	switch {
	case s.over() && s.start.GetOptions().GetLinger():
		s.stopTimers()
		s.late = s.b.after(keepEnded, s.forget)
	case s.over():
		s.forget()
	case !s.start.GetOptions().GetLinger():
		s.close("its owner left the bus")
	}
}

func (s *session) stopTimers() {
	if s.late != nil {
		s.late.Stop()
		s.late = nil
	}
	s.alternatives.stopTimer()
	for _, t := range s.transactions {
		t.stopTimers()
	}
}

func (t *transaction) stopTimers() {
	if t.late != nil {
		t.late.Stop()
	}
	if t.slow != nil {
		t.slow.Stop()
	}
}

// after has the owner run f later. Stopping the timer from the owner's
// goroutine does not stop an f that is queued already: f must check.
func (b *Broker) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { b.post(f) })
}
