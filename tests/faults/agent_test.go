// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
)

// agent is a client of the test: it opens sessions, and answers.
type agent struct {
	*api.Client
	t      testing.TB
	events <-chan api.Event
	held   map[uint64]uint64 // the prompt of each session, the last one
}

// agent is a client with a connection of its own. With all it is told of every
// prompt, else of those of sessions that it opens with the option agent.
func (b *bench) agent(all bool) *agent {
	b.t.Helper()
	c := b.Client(b.t)
	w, err := c.Watch(within(b.t), api.WatchOptions{Agent: all, Queue: 1 << 16})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(w.Close)
	return &agent{Client: c, t: b.t, events: w.Events(), held: map[uint64]uint64{}}
}

func (a *agent) open(service string, o api.Options) *api.Session {
	a.t.Helper()
	s, err := a.Open(within(a.t), service, "root", o)
	if err != nil {
		a.t.Fatalf("open %s: %v", service, err)
	}
	return s
}

// next is the next event that wanted accepts; the others are dropped.
func next[E api.Event](a *agent, wanted func(E) bool) E {
	a.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case event, ok := <-a.events:
			if !ok {
				a.t.Fatal("the watcher has ended")
			}
			if e, ok := event.(E); ok && wanted(e) {
				return e
			}
		case <-timeout:
			var e E
			a.t.Fatalf("no %T has come", e)
		}
	}
}

// prompt is the next prompt of a session.
func (a *agent) prompt(s *api.Session) api.Prompt {
	a.t.Helper()
	p := next(a, func(p api.Prompt) bool { return p.Session == s.ID() })
	a.held[s.ID()] = p.ID
	return p
}

// message waits for a text of a session.
func (a *agent) message(s *api.Session, text string) {
	a.t.Helper()
	next(a, func(m api.Message) bool { return m.Session == s.ID() && m.Text.Text == text })
}

func (a *agent) give(prompt uint64, text string) error {
	answer, err := secret.Read(strings.NewReader(text))
	if err != nil {
		return err
	}
	defer answer.Wipe()
	return a.Answer(within(a.t), prompt, answer)
}

func (a *agent) reply(prompt uint64, text string) {
	a.t.Helper()
	if err := a.give(prompt, text); err != nil {
		a.t.Fatalf("answer prompt %d: %v", prompt, err)
	}
}

func (a *agent) properties(s *api.Session) api.Properties {
	a.t.Helper()
	p, err := s.Properties(within(a.t))
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

// wait waits for a state, which the session must reach.
func (a *agent) wait(s *api.Session, state string) {
	a.t.Helper()
	if err := s.Wait(within(a.t), state); err != nil {
		a.t.Fatalf("session %d did not become %s: %v", s.ID(), state, err)
	}
}

// close closes a session in order.
func (a *agent) close(s *api.Session) {
	a.t.Helper()
	if err := s.Close(within(a.t)); err != nil {
		a.t.Fatal(err)
	}
	a.wait(s, api.StateClosed)
}

// failed waits until a session has failed, and checks with what.
func (a *agent) failed(s *api.Session, code api.Code, words ...string) {
	a.t.Helper()
	err := s.Wait(within(a.t), api.StateClosed)
	if !errors.Is(err, code) {
		a.t.Errorf("session %d ended with %v, not %s", s.ID(), err, code)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			a.t.Errorf("%q is not in the error: %v", word, err)
		}
	}
}

// leave leaves the bus, with everything that is the agent's.
func (a *agent) leave() {
	a.t.Helper()
	if err := a.Client.Close(); err != nil {
		a.t.Error(err)
	}
}
