// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"io"
	"time"

	"pgregory.net/rapid"

	"github.com/pamprompt/pamprompt/api"
)

func isConversation(s *session) bool { return s.conversation != nil }

func (w *world) converse(rt *rapid.T) {
	s := &session{owner: w.opener(rt), state: api.StateOpen, listed: true}
	var err error
	if s.conversation, err = s.owner.OpenConversation(w.within(), service, "anna", api.ConversationOptions{}); err != nil {
		rt.Fatal(err)
	}
	w.add(s, s.conversation.ID())
}

func (w *world) ask(rt *rapid.T) {
	s := w.pick(rt, func(s *session) bool { return isLive(s) && isConversation(s) && len(s.pending) < maxAsked })
	w.put(s, api.Question{Style: api.StyleSecret})
}

// put asks a question, which waits.
func (w *world) put(s *session, asked api.Question) *question {
	q := &question{s: s, message: fmt.Sprintf("Question %d: ", s.asked), attempt: 1, index: s.asked}
	asked.Message = q.message
	s.asked++
	var err error
	if q.number, q.pipe, err = s.conversation.Ask(w.within(), asked); err != nil {
		w.rt.Fatal(err)
	}
	w.rt.Cleanup(func() { _ = q.pipe.Close() })
	w.number(q.number, fmt.Sprintf("prompt %d of session %d: %s", q.index, s.id, q.message))
	s.pending = append(s.pending, q)
	return q
}

// askLate asks a question that has no time to be answered.
func (w *world) askLate(rt *rapid.T) {
	s := w.pick(rt, func(s *session) bool { return isLive(s) && isConversation(s) })
	q := w.put(s, api.Question{Style: api.StyleVisible, Timeout: time.Microsecond})
	s.givesUp(q, api.TimedOut)
	w.wantPipe(q, "-"+api.OutcomeExpired)
	if outcome := w.outcome(q.number); outcome != api.OutcomeExpired {
		rt.Fatalf("prompt %d was %s, and should have expired", q.number, outcome)
	}
}

// drop closes a pipe: nobody waits for the answer.
func (w *world) drop(rt *rapid.T) {
	q := w.waiting(rt, isConversation)
	if err := q.pipe.Close(); err != nil {
		rt.Fatal(err)
	}
	q.s.givesUp(q, "")
	if outcome := w.outcome(q.number); outcome != api.OutcomeSessionClosed {
		rt.Fatalf("nobody waits for prompt %d, and PromptClosed says %s", q.number, outcome)
	}
}

// said is what a pipe says, up to its end.
func (w *world) said(q *question) string {
	_ = q.pipe.SetReadDeadline(time.Now().Add(patience))
	text, err := io.ReadAll(q.pipe)
	if err != nil {
		w.rt.Fatalf("the pipe of prompt %d says %q, %v", q.number, text, err)
	}
	return string(text)
}

// wantPipe is for questions that have a pipe.
func (w *world) wantPipe(q *question, want string) {
	if q.pipe == nil {
		return
	}
	if got := w.said(q); got != want {
		w.rt.Fatalf("the pipe of prompt %d says %q, and should say %q", q.number, got, want)
	}
	_ = q.pipe.Close()
}

// closePipes is for the questions that wait when a conversation ends.
func (w *world) closePipes(s *session, want string) {
	for _, q := range s.pending {
		w.wantPipe(q, want)
	}
}
