// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"strings"
	"time"

	"github.com/pamprompt/pamprompt/api"
)

// heard is what an agent was told until now.
type heard struct {
	events   int
	broker   int               // how many there were before this one
	told     map[uint64]string // prompts that wait
	closed   map[uint64]string // outcomes of those that do not
	closedBy map[uint64]int    // which broker has told of it
	added    map[uint64]int    // sessions, by which broker
	rank     map[uint64]int    // of the state that a session has reached
	gone     map[uint64]bool   // sessions that were removed
	failed   map[uint64]string // which alternative of a session is said to have failed
}

func newHeard() heard {
	return heard{
		told: make(map[uint64]string), closed: make(map[uint64]string), closedBy: make(map[uint64]int),
		added: make(map[uint64]int), rank: make(map[uint64]int), gone: make(map[uint64]bool), failed: make(map[uint64]string),
	}
}

// ranks are the states in their order: a session only goes forward.
var ranks = map[string]int{api.StateOpening: 1, api.StateOpen: 2, api.StateClosing: 3, api.StateClosed: 4, api.StateFailed: 4}

// hearAll takes in what has come.
func (w *world) hearAll() {
	for {
		select {
		case e, more := <-w.watch.Events():
			w.hear(e, more)
		default:
			return
		}
	}
}

// hear checks an event against all that came before.
func (w *world) hear(e api.Event, more bool) {
	if !more {
		w.rt.Fatalf("the watcher ended: %v", w.watch.Err())
	}
	w.events++
	switch e := e.(type) {
	case api.BrokerGone:
		w.broker++
		clear(w.told)
	case api.SessionAdded:
		if by, again := w.added[e.ID]; again && by == w.broker || w.gone[e.ID] {
			w.rt.Fatalf("session %d was added twice, or after it was removed", e.ID)
		}
		w.added[e.ID] = w.broker
		w.rank[e.ID] = max(w.rank[e.ID], ranks[api.StateOpening])
		w.number(e.ID, "a session")
	case api.SessionChanged:
		if ranks[e.State] <= w.rank[e.ID] || w.gone[e.ID] {
			w.rt.Fatalf("session %d went to %s from a state of rank %d", e.ID, e.State, w.rank[e.ID])
		}
		w.rank[e.ID] = ranks[e.State]
	case api.SessionRemoved:
		if w.gone[e.ID] {
			w.rt.Fatalf("session %d was removed twice", e.ID)
		}
		w.gone[e.ID] = true
	case api.Message:
		if which, _, is := strings.Cut(e.Text.Text, ": "); is && e.Style == api.StyleError { // a module says other things too
			w.failed[e.Session] = which
		}
	case api.Prompt:
		w.hearPrompt(e)
	case api.PromptClosed:
		if _, told := w.told[e.ID]; !told {
			w.rt.Fatalf("PromptClosed of %d (%s) came twice, or for a prompt that nobody was told of", e.ID, e.Outcome)
		}
		delete(w.told, e.ID)
		w.closed[e.ID], w.closedBy[e.ID] = e.Outcome, w.broker
	}
}

func (w *world) hearPrompt(p api.Prompt) {
	what := fmt.Sprintf("prompt %d of session %d: %s", p.Index, p.Session, p.Message)
	if outcome, closed := w.closed[p.ID]; closed {
		w.rt.Fatalf("prompt %d was told of again after it was %s", p.ID, outcome)
	}
	w.number(p.ID, what)
	w.told[p.ID] = what
}

// number notes what has a number, which nothing else may ever have.
func (w *world) number(n uint64, what string) {
	if before, known := w.numbers[n]; known && before != what {
		w.rt.Fatalf("number %d is that of %s, and was that of %s", n, what, before)
	}
	w.numbers[n] = what
}

// outcome waits for the end of a prompt.
func (w *world) outcome(number uint64) string {
	late := time.After(patience)
	for {
		if outcome, closed := w.closed[number]; closed {
			return outcome
		}
		select {
		case e, more := <-w.watch.Events():
			w.hear(e, more)
		case <-late:
			w.rt.Fatalf("nobody said how prompt %d ended", number)
		}
	}
}
