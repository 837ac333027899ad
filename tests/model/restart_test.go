// SPDX-License-Identifier: Apache-2.0

package model

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/pamprompt/pamprompt/api"
)

// seldom keeps steps rare that take as long as many others.
func (w *world) seldom(rt *rapid.T) {
	if rapid.IntRange(0, 2).Draw(rt, "seldom") != 0 {
		rt.Skip("not now")
	}
}

// restart kills the broker and starts it again. Meanwhile a worker or an opener may go.
func (w *world) restart(rt *rapid.T) {
	w.seldom(rt)
	meanwhile := func() {}
	var left []*session // that come back to be closed
	switch rapid.SampledFrom([]string{"nothing", "leave", "kill"}).Draw(rt, "meanwhile") {
	case "leave":
		if len(w.openers) > 0 {
			c := w.openers[rapid.IntRange(0, len(w.openers)-1).Draw(rt, "opener")]
			for _, s := range w.sessions {
				if s.owner == c && isLive(s) && hasWorker(s) && !s.linger {
					left = append(left, s)
				}
			}
			meanwhile = func() { w.goes(c) }
		}
	case "kill":
		s := w.pick(rt, func(s *session) bool { return isLive(s) && isAlone(s) })
		pid := w.leader(s)
		meanwhile = func() {
			w.killWorker(pid)
			s.ends(ending{api.StateFailed, api.WorkerFailed}) // and nobody is there to say so
		}
	}
	w.restarts(func() {}, meanwhile)
	for _, s := range left {
		w.removed(s)
	}
}

// removed waits until the broker has forgotten a session.
func (w *world) removed(s *session) {
	late := time.After(patience)
	for !w.gone[s.id] {
		select {
		case e, more := <-w.watch.Events():
			w.hear(e, more)
		case <-late:
			w.rt.Fatalf("session %d did not come back to be closed", s.id)
		}
	}
}

// restarts kills the broker while something is under way.
func (w *world) restarts(underWay, meanwhile func()) {
	w.down = true
	w.kills++
	together(underWay, func() { w.Kill(w.t) })
	w.loseWaiters()
	for _, s := range w.sessions {
		w.closePipes(s, "")
		if s.conversation != nil && s.listed {
			s.pending = nil
		}
	}
	meanwhile()
	w.Restart(w.t)
	w.down = false
	for _, s := range w.sessions {
		if s.listed {
			s.isTakenOver()
		}
	}
	clear(w.left) // those have ended
	w.hearBack()
}

// hearBack waits until the agent knows of the new broker.
func (w *world) hearBack() {
	late := time.After(patience)
	for {
		select {
		case e, more := <-w.watch.Events():
			w.hear(e, more)
			if _, back := e.(api.BrokerBack); back {
				return
			}
		case <-late:
			w.rt.Fatal("the agent does not know that the broker is back")
		}
	}
}

// answerAndRestart kills the broker while it has an answer. Whether the module has it
// nobody knows, unless who answered was told so.
func (w *world) answerAndRestart(rt *rapid.T) {
	w.seldom(rt)
	q := w.waiting(rt, func(s *session) bool { return !s.alternatives && (s.owner != nil || s.linger) })
	text := w.text(rt, q)
	if q.step == password {
		text = right
	}
	var answered error
	pipe := q.pipe
	q.pipe = nil // it is looked at here
	w.restarts(func() { answered = w.give(w.agent, q.number, text) }, func() {})
	if pipe != nil {
		q.pipe = pipe
		if said := w.said(q); said != "+"+text && (said != "" || answered == nil) {
			rt.Fatalf("who answered heard %v, and the pipe of prompt %d says %q", answered, q.number, said)
		}
		return
	}
	had := w.went(q)
	if q.step != password && slices.Contains(w.noted(q.step), text) != had {
		rt.Fatalf("who answered prompt %d heard %v, it was taken: %t, and the module has %q", q.number, answered, had, w.noted(q.step))
	}
	if had {
		q.s.takes(q, text)
	} else if answered == nil {
		rt.Fatalf("prompt %d was answered, and another broker asks it again", q.number)
	}
}

// killAndRestart has the main one of two alternatives end under one broker, and the other
// one under the next: the session ends as the main one did.
func (w *world) killAndRestart(rt *rapid.T) {
	s := w.pick(rt, func(s *session) bool {
		return s.alternatives && len(s.pending) == 2 && (s.owner != nil || s.linger)
	})
	w.seldom(rt)
	w.killWorker(w.leader(s))
	s.isKilled()
	w.settle()
	w.restarts(func() {}, func() {})
	w.settle()
	q := s.pending[0]
	if err := w.agent.Cancel(w.within(), q.number); err != nil {
		rt.Fatal(err)
	}
	s.givesUp(q, api.Cancelled)
}

// went waits until it shows whether a module has the answer to a question.
func (w *world) went(q *question) bool {
	late := time.After(patience)
	for {
		prompts, err := w.agent.Prompts(w.within())
		if err != nil {
			w.rt.Fatal(err)
		}
		for _, p := range prompts {
			if p.Session == q.s.id {
				return p.ID != q.number
			}
		}
		p, err := w.agent.Session(q.s.id).Properties(w.within())
		if err == nil && p.State == api.StateOpen {
			return true
		}
		if err != nil && code(err) != api.NoSuchSession {
			w.rt.Fatal(err)
		}
		select {
		case e, more := <-w.watch.Events():
			w.hear(e, more)
		case <-late:
			w.rt.Fatalf("session %d did not come back", q.s.id)
		}
	}
}
