// SPDX-License-Identifier: Apache-2.0

package model

import (
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/pamprompt/pamprompt/api"
)

// together runs two functions at the same time.
func together(f, g func()) {
	var ready, done sync.WaitGroup
	ready.Add(2)
	for _, one := range []func(){f, g} {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			one()
		})
	}
	done.Wait()
}

// twoAnswers has two agents answer: one of them has been first, and whoever asked has
// its answer.
func (w *world) twoAnswers(rt *rapid.T) {
	q := w.waiting(rt, anybody)
	one, other := w.text(rt, q), w.text(rt, q)
	var first, second error
	together(func() { first = w.give(w.agent, q.number, one) }, func() { second = w.give(w.second, q.number, other) })
	if first != nil {
		one, first, second = other, second, first
	}
	if code(second) != api.AlreadyAnswered {
		rt.Fatalf("two answers to prompt %d: %v, %v", q.number, first, second)
	}
	w.took(q, one, first)
}

func (w *world) answerAndCancel(rt *rapid.T) {
	q := w.waiting(rt, anybody)
	text := w.text(rt, q)
	var answered, cancelled error
	together(func() { answered = w.give(w.agent, q.number, text) }, func() { cancelled = w.second.Cancel(w.within(), q.number) })
	switch outcome := w.outcome(q.number); {
	case outcome == api.OutcomeAnswered && (cancelled == nil || code(cancelled) == api.AlreadyAnswered):
		w.took(q, text, answered)
	case outcome == api.OutcomeCancelled && cancelled == nil && code(answered) == api.Cancelled:
		q.s.givesUp(q, api.Cancelled)
		w.wantPipe(q, "-"+outcome)
	default:
		rt.Fatalf("prompt %d is %s; who answered heard %v, who cancelled %v", q.number, outcome, answered, cancelled)
	}
}

// answerAnd is an answer that comes when the session ends.
func (w *world) answerAnd(rt *rapid.T, q *question, end func(), as ending) {
	text := w.text(rt, q)
	var answered error
	together(func() { answered = w.give(w.agent, q.number, text) }, end)
	ways := []ending{as}
	outcome := w.outcome(q.number)
	switch {
	case outcome == api.OutcomeAnswered && answered == nil:
		if q.isWrong(text) { // also of alternatives: the main one's failure is the end that was asked for
			ways = append(ways, ending{api.StateFailed, api.AuthenticationFailed})
		}
		q.s.takes(q, text)
		w.wantPipe(q, "+"+text)
	case outcome == api.OutcomeSessionClosed && answered == nil && q.pipe != nil:
		// Whoever asked has it; that is known a moment after the conversation has ended.
		q.s.dropped(q)
		w.wantPipe(q, "+"+text)
	case outcome == api.OutcomeSessionClosed && code(answered) == api.NoSuchPrompt:
		q.s.dropped(q)
		w.wantPipe(q, "-"+outcome)
	default:
		rt.Fatalf("prompt %d is %s, and who answered heard %v", q.number, outcome, answered)
	}
	w.closePipes(q.s, "-"+api.OutcomeSessionClosed)
	q.s.state, q.s.code = "", ""
	q.s.ends(ways...)
}

func (w *world) answerAndClose(rt *rapid.T) {
	q := w.waiting(rt, anybody)
	var err error
	w.answerAnd(rt, q, func() { err = w.second.Session(q.s.id).Close(w.within()) }, ending{api.StateClosed, ""})
	if err != nil {
		rt.Fatal(err)
	}
}

func (w *world) answerAndKill(rt *rapid.T) {
	q := w.waiting(rt, isAlone)
	pid := w.leader(q.s)
	w.answerAnd(rt, q, func() { w.killWorker(pid) }, ending{api.StateFailed, api.WorkerFailed})
}

func (w *world) answerAndLeave(rt *rapid.T) {
	q := w.waiting(rt, func(s *session) bool { return s.owner != nil && !s.linger })
	owner := q.s.owner
	var err error
	w.answerAnd(rt, q, func() { err = owner.Close() }, ending{api.StateClosed, ""})
	if err != nil {
		rt.Fatal(err)
	}
	w.hasLeft(owner)
}

// twoAlternatives has both alternatives of a session come to their end at the same time:
// one goes on.
func (w *world) twoAlternatives(rt *rapid.T) {
	s := w.pick(rt, func(s *session) bool { return len(s.pending) == 2 && s.alternatives })
	one, two := s.pending[0], s.pending[1]
	if one.step == side {
		one, two = two, one
	}
	if one.step == token { // the password is what ends it
		first := w.text(rt, one)
		w.took(one, first, w.give(w.agent, one.number, first))
		w.settle()
		one = s.pending[len(s.pending)-1]
	}
	text := w.text(rt, two)
	var main, aside error
	together(func() { main = w.give(w.agent, one.number, right) }, func() { aside = w.give(w.second, two.number, text) })
	switch {
	case main == nil && (aside == nil && w.goesOn(s) == service || code(aside) == api.NoSuchPrompt):
		s.takes(one, right)
	case aside == nil && (main == nil || code(main) == api.NoSuchPrompt):
		s.takes(two, text)
	default:
		rt.Fatalf("two alternatives of session %d heard %v and %v", s.id, main, aside)
	}
}

// goesOn waits until one of the alternatives does, and returns its service.
func (w *world) goesOn(s *session) string {
	late := time.After(patience)
	for {
		p, err := w.agent.Session(s.id).Properties(w.within())
		if err != nil {
			w.rt.Fatal(err)
		}
		if p.UsedService != "" {
			return p.UsedService
		}
		select { // the state, a prompt, or the end of one comes with it
		case e, more := <-w.watch.Events():
			w.hear(e, more)
		case <-late:
			w.rt.Fatalf("none of the alternatives of session %d goes on", s.id)
		}
	}
}

// answerAndDrop has an answer come when nobody waits any more.
func (w *world) answerAndDrop(rt *rapid.T) {
	q := w.waiting(rt, isConversation)
	text := w.text(rt, q)
	var answered, closed error
	together(func() { answered = w.give(w.agent, q.number, text) }, func() { closed = q.pipe.Close() })
	outcome := w.outcome(q.number)
	if closed != nil || late[outcome] == "" || (answered == nil) != (outcome == api.OutcomeAnswered) ||
		answered != nil && (code(answered) != api.NoSuchPrompt || outcome != api.OutcomeSessionClosed) {
		rt.Fatalf("prompt %d is %s, and who answered heard %v; the pipe: %v", q.number, outcome, answered, closed)
	}
	q.s.dropped(q)
}
