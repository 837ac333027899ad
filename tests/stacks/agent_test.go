// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/system"
)

// agent is a client that is told of everything.
type agent struct {
	*api.Client
	t      *testing.T
	events <-chan api.Event
	held   []api.Event // those that nobody wanted yet, in their order
}

func newAgent(t *testing.T, s *system.System) *agent {
	t.Helper()
	c := s.Client(t)
	w, err := c.Watch(within(t), api.WatchOptions{Agent: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return &agent{Client: c, t: t, events: w.Events()}
}

// turn is a question that is expected, and what the agent answers to it.
type turn struct {
	asks   string // "secret Password: "
	answer string
	above  []string // what the module said before it asked: "error Authentication failure"
}

// question is a turn with nothing above it.
func question(asks, answer string) turn { return turn{asks: asks, answer: answer} }

// ending is what became of a session that was followed until it was open or
// had failed.
type ending struct {
	api.Properties
	session *api.Session
	prompts []api.Prompt
	said    []string // the texts, as they came
}

// next is the next event that wanted accepts. What different sessions do comes
// in any order, so the others are kept.
func next[E api.Event](a *agent, wanted func(E) bool) E {
	a.t.Helper()
	for i, event := range a.held {
		if e, ok := event.(E); ok && wanted(e) {
			a.held = slices.Delete(a.held, i, i+1)
			return e
		}
	}
	timeout := time.After(30 * time.Second)
	for {
		select {
		case event, ok := <-a.events:
			if !ok {
				a.t.Fatal("the watcher has ended")
			}
			if e, ok := event.(E); ok && wanted(e) {
				return e
			}
			a.held = append(a.held, event)
		case <-timeout:
			var e E
			a.t.Fatalf("no %T has come", e)
		}
	}
}

// promptOf is the next prompt of a session.
func (a *agent) promptOf(s *api.Session) api.Prompt {
	a.t.Helper()
	return next(a, func(p api.Prompt) bool { return p.Session == s.ID() })
}

// reply answers a prompt.
func (a *agent) reply(prompt uint64, text string) {
	a.t.Helper()
	if err := a.give(prompt, text); err != nil {
		a.t.Fatalf("answer prompt %d: %v", prompt, err)
	}
}

func (a *agent) give(prompt uint64, text string) error {
	a.t.Helper()
	answer, err := secret.Read(strings.NewReader(text))
	if err != nil {
		a.t.Fatal(err)
	}
	defer answer.Wipe()
	return a.Answer(within(a.t), prompt, answer)
}

// open opens a session.
func (a *agent) open(service, user string, o api.Options) *api.Session {
	a.t.Helper()
	s, err := a.Open(within(a.t), service, user, o)
	if err != nil {
		a.t.Fatal(err)
	}
	return s
}

// run opens a session and takes the turns, which must be all there are.
func (a *agent) run(service, user string, o api.Options, turns ...turn) ending {
	a.t.Helper()
	return a.follow(a.open(service, user, o), turns...)
}

// follow takes the turns of a session.
func (a *agent) follow(s *api.Session, turns ...turn) ending {
	a.t.Helper()
	e := ending{session: s}
	for e.State == "" {
		switch event := next(a, func(event api.Event) bool { return about(event, s.ID()) }).(type) {
		case api.Prompt:
			if len(e.prompts) == len(turns) {
				a.t.Fatalf("it asks what is not expected: %s", shown(event.Style, event.Message))
			}
			a.take(turns[len(e.prompts)], event)
			e.prompts = append(e.prompts, event)
		case api.Message:
			e.said = append(e.said, shown(event.Style, event.Text.Text))
		case api.SessionChanged:
			e.State = event.State
		}
	}
	if n := len(e.prompts); n < len(turns) {
		a.t.Fatalf("it is %s and never asked %q", e.State, turns[n].asks)
	}
	e.Properties = a.properties(s)
	return e
}

// about tells whether an event is one of a session.
func about(event api.Event, session uint64) bool {
	switch e := event.(type) {
	case api.Prompt:
		return e.Session == session
	case api.Message:
		return e.Session == session
	case api.SessionChanged:
		return e.ID == session
	}
	return false
}

func shown(style, text string) string { return style + " " + text }

// take answers a prompt if it is the one that is expected.
func (a *agent) take(want turn, p api.Prompt) {
	a.t.Helper()
	if got := shown(p.Style, p.Message); got != want.asks {
		a.t.Fatalf("it asks %q, not %q", got, want.asks)
	}
	if got := above(p); !slices.Equal(got, want.above) {
		a.t.Errorf("above %q stands %q, not %q", want.asks, got, want.above)
	}
	a.reply(p.ID, want.answer)
}

// above is what stands above a question.
func above(p api.Prompt) (lines []string) {
	for _, m := range p.Messages {
		lines = append(lines, shown(m.Style, m.Text))
	}
	return lines
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

// close closes a session, and wants every step of it to have worked.
func (a *agent) close(s *api.Session) {
	a.t.Helper()
	if err := s.Close(within(a.t)); err != nil {
		a.t.Fatal(err)
	}
	a.closed(s)
}

// closed waits until a session is closed, and wants every step to have worked.
func (a *agent) closed(s *api.Session) {
	a.t.Helper()
	a.wait(s, api.StateClosed)
	if p := a.properties(s); p.PAMResult != 0 || p.State != api.StateClosed {
		a.t.Errorf("it closed with PAM status %d: %s", p.PAMResult, p.ResultText)
	}
}

// result is how a session is to end: open, or with a code of the contract, a
// PAM status and a text.
type result struct {
	code api.Code
	pam  int32
	text string // part of it
}

// want fails the test unless the session ended so, and closes one that is open.
func (a *agent) want(e ending, want result) {
	a.t.Helper()
	switch err := e.Err(); {
	case want.code == "" && e.State == api.StateOpen && e.PAMResult == 0:
		a.close(e.session)
	case want.code == "":
		a.t.Errorf("it is %s with PAM status %d, not open: %s", e.State, e.PAMResult, e.ResultText)
	case !errors.Is(err, want.code) || e.PAMResult != want.pam || !strings.Contains(err.Error(), want.text):
		a.t.Errorf("it is %s with PAM status %d and %v, not %s with %d: %s", e.State, e.PAMResult, err, want.code, want.pam, want.text)
	}
}

// wantSaid fails the test unless the modules said exactly this.
func (a *agent) wantSaid(e ending, want ...string) {
	a.t.Helper()
	if !slices.Equal(e.said, want) {
		a.t.Errorf("the modules said\n\t%s\nnot\n\t%s", strings.Join(e.said, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// wantVariable fails the test unless the PAM environment has the variable.
func (a *agent) wantVariable(e ending, name, value string) {
	a.t.Helper()
	if entry := name + "=" + value; !slices.Contains(e.Environment, entry) {
		a.t.Errorf("the environment has no %s: %s", entry, fmt.Sprint(e.Environment))
	}
}
