// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pamprompt/pamprompt/api"
)

// caller is one who comes, does some things, and goes.
type caller struct {
	b      *bench
	c      *api.Client
	w      *api.Watcher
	agents []*api.Client // who answers
	n      int           // which thing it is that is done: it says which user and which agent
}

// arrive connects to the bus.
func (b *bench) arrive(ctx context.Context, agents []*api.Client) (*caller, error) {
	c, err := api.Dial(ctx, b.Address)
	if err != nil {
		return nil, err
	}
	w, err := c.Watch(context.Background(), api.WatchOptions{})
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return &caller{b: b, c: c, w: w, agents: agents}, nil
}

func (k *caller) leave() { _ = k.c.Close() }

func (k *caller) agent() *api.Client { return k.agents[k.n%len(k.agents)] }

// kind is a thing that a caller does, and what must come of it.
type kind struct {
	name string
	do   func(*caller, context.Context) error
}

var kinds = []kind{
	{"an answer by an agent", answered},
	{"an answer by an agent of systemd", replied},
	{"a wrong answer", wrong},
	{"two who answer", late},
	{"a question that is cancelled", cancelled},
	{"a question that expires", expires},
	{"an owner who leaves", leaves},
	{"a session that is closed at once", hasty},
	{"alternatives", alternatives},
	{"a command", command},
	{"a conversation", conversation},
	{"an agent that comes and goes", agentPasses},
	{"a session that lingers", lingers},
}

// open opens a session about the caller's user, whose prompts the caller hears of.
func (k *caller) open(ctx context.Context, service string, o api.Options) (*api.Session, error) {
	o.Agent = true
	return k.c.Open(ctx, service, user(k.n), o)
}

// prompt waits for the next prompt of a session.
func (k *caller) prompt(ctx context.Context, session uint64) (api.Prompt, error) {
	for {
		select {
		case event, more := <-k.w.Events():
			if !more {
				return api.Prompt{}, fmt.Errorf("the watcher ended: %w", k.w.Err())
			}
			if p, ok := event.(api.Prompt); ok && p.Session == session {
				return p, nil
			}
			if _, gone := event.(api.BrokerGone); gone {
				return api.Prompt{}, api.ErrNoBroker
			}
		case <-ctx.Done():
			return api.Prompt{}, fmt.Errorf("no prompt of session %d: %w", session, ctx.Err())
		}
	}
}

// asks opens a session and waits for its prompt.
func (k *caller) asks(ctx context.Context, o api.Options) (*api.Session, api.Prompt, error) {
	s, err := k.open(ctx, "word", o)
	if err != nil {
		return nil, api.Prompt{}, err
	}
	p, err := k.prompt(ctx, s.ID())
	return s, p, err
}

// closed closes a session that is to be open, and waits until it is.
func closed(ctx context.Context, s *api.Session) error {
	if err := s.Wait(ctx, api.StateOpen); err != nil {
		return err
	}
	if err := s.Close(ctx); err != nil {
		return err
	}
	return s.Wait(ctx, api.StateClosed)
}

func answered(k *caller, ctx context.Context) error {
	s, p, err := k.asks(ctx, api.Options{})
	if err == nil {
		err = answer(ctx, k.agent(), p.ID, password(k.n))
	}
	if err != nil {
		return err
	}
	return closed(ctx, s)
}

// No other session that waits at the same time is about the same user.
func replied(k *caller, ctx context.Context) error {
	s, err := k.open(ctx, "word", api.Options{})
	if err == nil {
		err = k.b.files.reply(ctx, "pamprompt:word:"+user(k.n), password(k.n))
	}
	if err != nil {
		return err
	}
	return closed(ctx, s)
}

func wrong(k *caller, ctx context.Context) error {
	s, p, err := k.asks(ctx, api.Options{AskPassword: api.AskPasswordNo})
	if err == nil {
		err = answer(ctx, k.agent(), p.ID, password(k.n+1))
	}
	if err != nil {
		return err
	}
	return wantCode(s.Wait(ctx, api.StateOpen), api.AuthenticationFailed)
}

func late(k *caller, ctx context.Context) error {
	s, p, err := k.asks(ctx, api.Options{AskPassword: api.AskPasswordFallback})
	if err == nil {
		err = answer(ctx, k.agent(), p.ID, password(k.n))
	}
	if err == nil {
		err = wantCode(answer(ctx, k.agents[(k.n+1)%len(k.agents)], p.ID, password(k.n)), api.AlreadyAnswered)
	}
	if err != nil {
		return err
	}
	return closed(ctx, s)
}

func cancelled(k *caller, ctx context.Context) error {
	s, p, err := k.asks(ctx, api.Options{})
	if err == nil {
		err = k.agent().Cancel(ctx, p.ID)
	}
	if err != nil {
		return err
	}
	return wantCode(s.Wait(ctx, api.StateOpen), api.Cancelled)
}

func expires(k *caller, ctx context.Context) error {
	s, _, err := k.asks(ctx, api.Options{Timeout: time.Millisecond})
	if err != nil {
		return err
	}
	return wantCode(s.Wait(ctx, api.StateOpen), api.TimedOut)
}

func leaves(k *caller, ctx context.Context) error {
	one, err := k.b.arrive(ctx, k.agents)
	if err != nil {
		return err
	}
	defer one.leave()
	one.n = k.n
	_, _, err = one.asks(ctx, api.Options{})
	return err
}

func hasty(k *caller, ctx context.Context) error {
	s, err := k.open(ctx, "word", api.Options{})
	if err == nil {
		err = s.Close(ctx)
	}
	if err == nil {
		err = wantCode(s.Wait(ctx, api.StateOpen), api.Cancelled)
	}
	if err != nil {
		return err
	}
	return s.Wait(ctx, api.StateClosed)
}

func alternatives(k *caller, ctx context.Context) error {
	s, p, err := k.asks(ctx, api.Options{Alternatives: []string{"token"}, AskPassword: api.AskPasswordNo})
	if err == nil {
		err = answer(ctx, k.agent(), p.ID, password(k.n))
	}
	if err != nil {
		return err
	}
	return closed(ctx, s)
}

func command(k *caller, ctx context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		_ = w.Close()
		return err
	}
	s, err := k.c.Open(ctx, "permit", "root", api.Options{
		Command: []string{"/bin/sh", "-c", "echo done; exit 3"}, Stdio: []*os.File{null, w, null}, WorkingDirectory: "/",
	})
	_, _ = w.Close(), null.Close()
	if err != nil {
		return err
	}
	said, err := io.ReadAll(r)
	if err != nil || string(said) != "done\n" {
		return fmt.Errorf("the command said %q: %w", said, errors.Join(err, errNot))
	}
	p, err := s.WaitExit(ctx)
	if err != nil || p.ExitStatus != 3 {
		return fmt.Errorf("the command ended with %d: %w", p.ExitStatus, errors.Join(err, errNot))
	}
	return s.Wait(ctx, api.StateClosed)
}

func conversation(k *caller, ctx context.Context) error {
	v, err := k.c.OpenConversation(ctx, "ftp", user(k.n), api.ConversationOptions{AskPassword: api.AskPasswordNo})
	if err == nil {
		err = v.Tell(ctx, api.StyleInfo, "Welcome")
	}
	for i := 0; i < 3 && err == nil; i++ {
		err = question(k, ctx, v, i)
	}
	if err != nil {
		return err
	}
	return v.Close(ctx)
}

// question is answered, cancelled or withdrawn.
func question(k *caller, ctx context.Context, v *api.Conversation, i int) error {
	id, response, err := v.Ask(ctx, api.Question{Style: api.StyleSecret, Message: "Password: "})
	if err != nil {
		return err
	}
	defer func() { _ = response.Close() }()
	switch i {
	case 0:
		if err := answer(ctx, k.agent(), id, password(k.n)); err != nil {
			return err
		}
		return wantResponse(ctx, response, password(k.n))
	case 1:
		if err := k.agent().Cancel(ctx, id); err != nil {
			return err
		}
		_, err := api.ReadResponse(ctx, response)
		return wantCode(err, api.Cancelled)
	}
	return nil
}

func wantResponse(ctx context.Context, response *os.File, want string) error {
	got, err := api.ReadResponse(ctx, response)
	if err != nil {
		return err
	}
	defer got.Wipe()
	if string(got.Bytes()) != want {
		return fmt.Errorf("the answer is that of another question: %w", errNot)
	}
	return nil
}

func agentPasses(k *caller, ctx context.Context) error {
	c, err := api.Dial(ctx, k.b.Address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	w, err := c.Watch(ctx, api.WatchOptions{Agent: true})
	if err == nil && k.n%2 == 0 { // the others leave the bus with it
		w.Close()
	}
	return err
}

func lingers(k *caller, ctx context.Context) error {
	one, err := k.b.arrive(ctx, k.agents)
	if err != nil {
		return err
	}
	one.n = k.n
	s, err := one.open(ctx, "permit", api.Options{Linger: true})
	if err == nil {
		err = s.Wait(ctx, api.StateOpen)
	}
	one.leave()
	if err != nil {
		return err
	}
	return closed(ctx, k.c.Session(s.ID()))
}
