// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/policy"
)

var sessionMembers = map[string]method{
	"Ask":        ask,
	"Wait":       waitSession,
	"NextPrompt": nextPrompt,
	"Close":      closeSession,
	"Kill":       killSession,
}

var states = []string{api.StateOpening, api.StateOpen, api.StateClosing, api.StateClosed, api.StateFailed}

// waitSession returns when the session has reached a state, or has ended.
func waitSession(b *Broker, ctx context.Context, t target) ([]any, error) {
	state := t.call.Args[0].(string)
	if !slices.Contains(states, state) {
		return nil, invalid("%s is no state of a session: it is one of %s", quote(state), strings.Join(states, ", "))
	}
	var reply []any
	err := b.await(ctx, t, func(s *session) (bool, error) {
		reply = []any{s.state, s.result, s.text}
		return s.reached(state), nil
	})
	return reply, err
}

// nextPrompt returns the first pending prompt above a number, and waits for
// one while one can come.
func nextPrompt(b *Broker, ctx context.Context, t target) ([]any, error) {
	after := t.call.Args[0].(uint64)
	who := b.basic(t.call.Caller)
	mayNot, err := b.mayNotAnswer(ctx, t)
	if err != nil {
		return nil, err
	}
	var reply []any
	err = b.await(ctx, t, func(s *session) (bool, error) {
		for _, number := range sortedNumbers(s.prompts) {
			if q := s.prompts[number]; number > after && q.claim == nil && !mayNot[q.asker.object().Service] {
				reply = []any{q.number, q.style, q.message, q.detailsFor(who)}
				return true, nil
			}
		}
		if s.over() || s.state == api.StateOpen && s.conversation == nil {
			return false, &api.Error{Code: api.NoSuchPrompt, Text: strings.TrimSuffix(fmt.Sprintf("session %d asks nothing more, it is %s: %s", s.id, s.state, s.text), ": ")}
		}
		return false, nil
	})
	return reply, err
}

// mayNotAnswer are the alternatives of a session whose prompts the caller may not
// answer: dispatch has asked for the main service alone.
func (b *Broker) mayNotAnswer(ctx context.Context, t target) (map[string]bool, error) {
	var services []string
	if err := b.look(func() error {
		s, err := b.find(t.session)
		if err == nil {
			services = s.alternatives.others()
		}
		return err
	}); err != nil {
		return nil, err
	}
	mayNot := make(map[string]bool)
	for _, service := range services {
		err := b.permit(ctx, t.call, policy.Answer, func() policy.Object {
			o := b.sessions[t.session].object()
			o.Service = service
			return o
		})
		if mayNot[service] = err != nil; err != nil && !errors.Is(err, errRefused) {
			return nil, err
		}
	}
	return mayNot, nil
}

// await looks at a session at every change, until done says so, or nobody
// waits any more. A session that has ended can still be looked at when its
// object is gone, so that whoever waits hears how it ended.
func (b *Broker) await(ctx context.Context, t target, done func(*session) (bool, error)) error {
	var s *session
	for {
		var (
			ready   bool
			changed chan struct{}
		)
		err := b.look(func() (err error) {
			if s == nil {
				if s, err = b.find(t.session); err != nil {
					return err
				}
			}
			changed = s.changed
			ready, err = done(s)
			return err
		})
		if ready || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-t.call.Caller.Gone():
			return errCallerLeft
		case <-ctx.Done():
			return errStopping
		}
	}
}

func closeSession(b *Broker, _ context.Context, t target) ([]any, error) {
	return nil, b.look(func() error {
		if t.call.Caller.Left() {
			return errCallerLeft
		}
		s, err := b.find(t.session)
		if err == nil {
			s.close(fmt.Sprintf("closed by uid %d", t.call.Caller.UID))
		}
		return err
	})
}
