// SPDX-License-Identifier: Apache-2.0

package model

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/pamprompt/pamprompt/api"
)

const (
	maxLive    = 6 // sessions that have not ended
	maxOpeners = 3
	maxAsked   = 3 // questions of a conversation at once
)

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// pick chooses a session; a step that finds none is none.
func (w *world) pick(rt *rapid.T, fits func(*session) bool) *session {
	var found []*session
	for _, s := range w.sessions {
		if fits(s) {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		rt.Skip("there is no such session")
	}
	return found[rapid.IntRange(0, len(found)-1).Draw(rt, "session")]
}

// waiting chooses a question that waits.
func (w *world) waiting(rt *rapid.T, fits func(*session) bool) *question {
	s := w.pick(rt, func(s *session) bool { return len(s.pending) > 0 && fits(s) })
	return s.pending[rapid.IntRange(0, len(s.pending)-1).Draw(rt, "question")]
}

func anybody(*session) bool     { return true }
func isLive(s *session) bool    { return s.listed && !s.over() }
func hasWorker(s *session) bool { return s.conversation == nil }
func isAlone(s *session) bool   { return hasWorker(s) && !s.alternatives }

// opener is a connection that opens sessions, a new one or not.
func (w *world) opener(rt *rapid.T) *api.Client {
	live := 0
	for _, s := range w.sessions {
		if isLive(s) {
			live++
		}
	}
	if live >= maxLive {
		rt.Skip("there are enough sessions")
	}
	if i := rapid.IntRange(0, maxOpeners-1).Draw(rt, "opener"); i < len(w.openers) {
		return w.openers[i]
	}
	c := w.dial()
	w.openers = append(w.openers, c)
	return c
}

// add makes a session one of the model's.
func (w *world) add(s *session, id uint64) {
	if w.opened[id] {
		w.rt.Fatalf("session %d was opened twice", id)
	}
	w.opened[id] = true
	w.number(id, "a session")
	s.id = id
	w.sessions = append(w.sessions, s)
}

func (w *world) open(rt *rapid.T) {
	s := &session{
		owner: w.opener(rt), linger: rapid.Bool().Draw(rt, "linger"), attempts: rapid.IntRange(1, 2).Draw(rt, "attempts"),
	}
	o := api.Options{Attempts: uint32(s.attempts), Linger: s.linger}
	if s.alternatives = rapid.Bool().Draw(rt, "alternatives"); s.alternatives {
		o.Alternatives = []string{other}
	}
	opened, err := s.owner.Open(w.within(), service, "anna", o)
	if err != nil {
		rt.Fatal(err)
	}
	s.begins()
	w.add(s, opened.ID())
}

// openLate opens a session whose question has no time to be answered.
func (w *world) openLate(rt *rapid.T) {
	s := &session{owner: w.opener(rt), attempts: 1}
	opened, err := s.owner.Open(w.within(), service, "anna", api.Options{Timeout: time.Microsecond})
	if err != nil {
		rt.Fatal(err)
	}
	s.begins()
	s.givesUp(s.pending[0], api.TimedOut)
	w.add(s, opened.ID())
}

// took checks that an answer was taken, by the module or on the pipe.
func (w *world) took(q *question, text string, err error) {
	if err != nil {
		w.rt.Fatalf("answer prompt %d: %v", q.number, err)
	}
	q.s.takes(q, text)
	w.wantPipe(q, "+"+text)
	if outcome := w.outcome(q.number); outcome != api.OutcomeAnswered {
		w.rt.Fatalf("prompt %d was answered, and PromptClosed says %s", q.number, outcome)
	}
}

func (w *world) answer(rt *rapid.T) {
	q := w.waiting(rt, anybody)
	text := w.text(rt, q)
	w.took(q, text, w.give(w.agent, q.number, text))
}

// answerAgain answers what has just been answered.
func (w *world) answerAgain(rt *rapid.T) {
	q := w.waiting(rt, anybody)
	text := w.text(rt, q)
	w.took(q, text, w.give(w.agent, q.number, text))
	if err := w.give(w.second, q.number, right); code(err) != api.AlreadyAnswered {
		rt.Fatalf("a second answer to prompt %d: %v", q.number, err)
	}
}

// answerBadly answers with what no module can take: the prompt waits on.
func (w *world) answerBadly(rt *rapid.T) {
	q := w.waiting(rt, hasWorker)
	if err := w.give(w.agent, q.number, "a\x00b"); code(err) != api.InvalidArgument {
		rt.Fatalf("an answer with a NUL byte to prompt %d: %v", q.number, err)
	}
}

// late are what who comes late hears.
var late = map[string]api.Code{
	api.OutcomeAnswered: api.AlreadyAnswered, api.OutcomeCancelled: api.Cancelled,
	api.OutcomeExpired: api.TimedOut, api.OutcomeSessionClosed: api.NoSuchPrompt,
}

// answerLate answers or cancels a prompt that has ended.
func (w *world) answerLate(rt *rapid.T) {
	if len(w.closed) == 0 {
		rt.Skip("no prompt has ended")
	}
	ids := make([]uint64, 0, len(w.closed))
	for id := range w.closed {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	id := ids[rapid.IntRange(0, len(ids)-1).Draw(rt, "prompt")]
	want := late[w.closed[id]]
	if w.closedBy[id] != w.broker {
		want = api.NoSuchPrompt // nobody has told this broker
	}
	for what, err := range map[string]error{
		"an answer": w.give(w.agent, id, right), "a cancel": w.second.Cancel(w.within(), id),
	} {
		if code(err) != want {
			rt.Fatalf("%s for prompt %d, which is %s: %v", what, id, w.closed[id], err)
		}
	}
}

func (w *world) cancel(rt *rapid.T) {
	q := w.waiting(rt, anybody)
	if err := w.agent.Cancel(w.within(), q.number); err != nil {
		rt.Fatal(err)
	}
	q.s.givesUp(q, api.Cancelled)
	w.wantPipe(q, "-"+api.OutcomeCancelled)
	if outcome := w.outcome(q.number); outcome != api.OutcomeCancelled {
		rt.Fatalf("prompt %d was cancelled, and PromptClosed says %s", q.number, outcome)
	}
}

// close ends a session, or one that has ended, which changes nothing.
func (w *world) close(rt *rapid.T) { w.end(w.pick(rt, func(s *session) bool { return s.listed })) }

func (w *world) end(s *session) {
	if err := w.agent.Session(s.id).Close(w.within()); err != nil {
		w.rt.Fatal(err)
	}
	if !s.over() {
		w.closePipes(s, "-"+api.OutcomeSessionClosed)
		s.ends(ending{api.StateClosed, ""})
	}
}

// kill kills a session's worker.
func (w *world) kill(rt *rapid.T) {
	s := w.pick(rt, func(s *session) bool { return isLive(s) && hasWorker(s) })
	w.killWorker(w.leader(s))
	s.isKilled()
}

func (w *world) leader(s *session) int {
	p, err := w.agent.Session(s.id).Properties(w.within())
	if err != nil || p.Leader == 0 {
		w.rt.Fatalf("session %d has the leader %d, %v", s.id, p.Leader, err)
	}
	return int(p.Leader)
}

func (w *world) killWorker(pid int) {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		w.rt.Fatal(err)
	}
}

// leave takes an opener off the bus.
func (w *world) leave(rt *rapid.T) {
	if len(w.openers) == 0 {
		rt.Skip("nobody has opened anything")
	}
	w.goes(w.openers[rapid.IntRange(0, len(w.openers)-1).Draw(rt, "opener")])
}

func (w *world) goes(c *api.Client) {
	if err := c.Close(); err != nil {
		w.rt.Fatal(err)
	}
	w.hasLeft(c)
}

// hasLeft is what becomes of the model.
func (w *world) hasLeft(c *api.Client) {
	w.openers = slices.DeleteFunc(w.openers, func(other *api.Client) bool { return other == c })
	for _, s := range w.sessions {
		if s.owner == c {
			w.closePipes(s, "-"+api.OutcomeSessionClosed)
			s.isLeft()
		}
	}
}
