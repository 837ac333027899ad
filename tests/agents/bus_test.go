// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
)

// listener is a client that is told of everything.
type listener struct {
	*api.Client
	t      *testing.T
	events <-chan api.Event
	held   []api.Event // those that nobody wanted yet, in their order
	leave  func()      // ends the watcher, and that it is an agent
}

// listen registers an agent on D-Bus.
func (b *stage) listen() *listener {
	b.t.Helper()
	return watch(b.t, b.Client(b.t), true)
}

// watch hears what a client is told, as an agent or not.
func watch(t *testing.T, c *api.Client, agent bool) *listener {
	t.Helper()
	w, err := c.Watch(context.Background(), api.WatchOptions{Agent: agent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return &listener{Client: c, t: t, events: w.Events(), leave: w.Close}
}

// next is the next event that wanted accepts. What different sessions do comes
// in any order, so the others are kept.
func next[E api.Event](l *listener, wanted func(E) bool) E {
	l.t.Helper()
	for i, event := range l.held {
		if e, ok := event.(E); ok && wanted(e) {
			l.held = slices.Delete(l.held, i, i+1)
			return e
		}
	}
	timeout := time.After(patience)
	for {
		select {
		case event, ok := <-l.events:
			if !ok {
				l.t.Fatal("the watcher has ended")
			}
			if e, ok := event.(E); ok && wanted(e) {
				return e
			}
			l.held = append(l.held, event)
		case <-timeout:
			var e E
			l.t.Fatalf("no %T has come", e)
		}
	}
}

// open opens a session for anna.
func (l *listener) open(service string, o api.Options) *api.Session {
	l.t.Helper()
	s, err := l.Open(within(l.t), service, "anna", o)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// promptOf is the next prompt of a session.
func (l *listener) promptOf(s *api.Session) api.Prompt {
	l.t.Helper()
	return next(l, func(p api.Prompt) bool { return p.Session == s.ID() })
}

// asked is the next prompt of another program.
func (l *listener) asked() api.Prompt {
	l.t.Helper()
	return next(l, func(p api.Prompt) bool { return p.Source == api.SourceAskPassword })
}

// closed wants a prompt to end in this way.
func (l *listener) closed(p api.Prompt, outcome string) {
	l.t.Helper()
	if got := next(l, func(e api.PromptClosed) bool { return e.ID == p.ID }).Outcome; got != outcome {
		l.t.Errorf("prompt %d ended as %s, not as %s", p.ID, got, outcome)
	}
}

// give answers a prompt.
func (l *listener) give(prompt uint64, text string) error {
	s, err := secret.Read(strings.NewReader(text))
	if err != nil {
		return err
	}
	defer s.Wipe()
	return l.Answer(within(l.t), prompt, s)
}

// answer answers a prompt, which must work.
func (l *listener) answer(p api.Prompt, text string) {
	l.t.Helper()
	if err := l.give(p.ID, text); err != nil {
		l.t.Fatalf("answer prompt %d: %v", p.ID, err)
	}
}

func (l *listener) cancel(p api.Prompt) {
	l.t.Helper()
	if err := l.Cancel(within(l.t), p.ID); err != nil {
		l.t.Fatal(err)
	}
}

func (l *listener) end(s *api.Session) {
	l.t.Helper()
	if err := s.Close(within(l.t)); err != nil {
		l.t.Fatal(err)
	}
}

// opened waits until a session is open, closes it, and returns the variable
// ANSWER of its environment, if there is one.
func (l *listener) opened(s *api.Session) (answer string) {
	l.t.Helper()
	for name, value := range l.environment(s) {
		if name == "ANSWER" {
			answer = value
		}
	}
	return answer
}

// environment waits until a session is open, closes it, and returns what it has.
func (l *listener) environment(s *api.Session) map[string]string {
	l.t.Helper()
	if err := s.Wait(within(l.t), api.StateOpen); err != nil {
		l.t.Fatal(err)
	}
	p, err := s.Properties(within(l.t))
	if err != nil {
		l.t.Fatal(err)
	}
	l.end(s)
	variables := make(map[string]string)
	for _, entry := range p.Environment {
		name, value, _ := strings.Cut(entry, "=")
		variables[name] = value
	}
	return variables
}

// failed wants a session to fail in this way.
func (l *listener) failed(s *api.Session, code api.Code, says string) {
	l.t.Helper()
	err := s.Wait(within(l.t), api.StateOpen)
	if !errors.Is(err, code) || !strings.Contains(err.Error(), says) {
		l.t.Errorf("the session ended with %v, not %s and %q", err, code, says)
	}
}

// pending are the prompts that wait, and that this client sees.
func (l *listener) pending() []api.Prompt {
	l.t.Helper()
	prompts, err := l.Prompts(within(l.t))
	if err != nil {
		l.t.Fatal(err)
	}
	return prompts
}
