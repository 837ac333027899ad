// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/workers"
	"github.com/pamprompt/pamprompt/policy"
)

// openTimeout bounds the wait for an idle worker, and for it to take a session.
const openTimeout = 20 * time.Second

var managerMembers = map[string]method{
	"OpenSession":      openSession,
	"OpenConversation": openConversation,
	"ListSessions":     listSessions,
	"ListPrompts":      listPrompts,
	"AnswerPrompt":     answerPrompt,
	"AnswerPromptFD":   answerPromptFD,
	"CancelPrompt":     cancelPrompt,
	"RegisterAgent":    registerAgent,
	"UnregisterAgent":  unregisterAgent,
}

// openSession checks, asks policy, finds a worker and gives it the session. It
// returns when the worker has it.
func openSession(b *Broker, ctx context.Context, t target) ([]any, error) {
	start, stdio, err := b.mayOpen(ctx, t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if start.Session, err = b.numbers.next(ctx); err != nil {
		return nil, &api.Error{Code: api.LimitExceeded, Text: "too many sessions are being opened at once: try again"}
	}
	s, err := b.startSession(ctx, t.call.Caller, start, stdio)
	if err != nil {
		return nil, err
	}
	return []any{s.id, s.path()}, nil
}

// mayOpen is whether a caller may open the session that it wants, and what the
// worker is to be told, with the descriptors that go along. These stay the call's.
func (b *Broker) mayOpen(ctx context.Context, t target) (start *worker.Start, stdio []int, err error) {
	service, user := t.call.Args[0].(string), t.call.Args[1].(string)
	options, err := parseOptions(t.call.Args[2].(map[string]dbus.Variant))
	if err = cmp.Or(checkService(service), checkUser(user), err); err != nil {
		return nil, nil, err
	}
	if stdio, err = options.descriptors(t.call); err != nil {
		return nil, nil, err
	}
	admin := b.isAdmin(t.call.Caller.UID)
	if err := checkOpening(admin, options); err != nil {
		return nil, nil, err
	}
	var uid *uint32
	vouched := admin
	if !admin {
		if err := b.admit(t.call.Caller); err != nil {
			return nil, nil, err
		}
		what, refusal := policy.Open, "open sessions of this service"
		if options.runs() {
			what, refusal = policy.Run, "run commands as this user with this service"
		}
		if uid, vouched, err = b.permitOpen(ctx, t.call, what, service, user); err != nil {
			return nil, nil, unless(err, refusal)
		}
	}
	if vouched {
		options.permitted()
	}
	start = &worker.Start{
		Service: service, User: user, UserUid: uid, Options: options.Options, Owner: b.describe(t.call.Caller),
		CloseTimeoutUsec: uint64(b.config.CloseTimeout.Microseconds()),
	}
	if options.runs() {
		start.Command = &options.command
	}
	return start, stdio, nil
}

// admit counts an OpenSession.
func (b *Broker) admit(p *bus.Peer) error {
	return b.look(func() error { return b.openings.take(p.UID, time.Now()) })
}

// startSession gives a session to an idle worker, and to the next when that
// one is lost before it had it.
func (b *Broker) startSession(ctx context.Context, p *bus.Peer, start *worker.Start, stdio []int) (*session, error) {
	for {
		w, err := b.config.Pool.Acquire(ctx)
		if err != nil {
			return nil, &api.Error{Code: api.WorkerFailed, Text: fmt.Sprintf(
				"no worker was idle for %v: is `pamprompt-worker --pool` running?", openTimeout)}
		}
		var s *session
		started := make(chan error, 1)
		err = b.look(func() error { s, err = b.give(w, p, start, stdio, started); return err })
		if errors.Is(err, errWorkerLost) {
			w.Close()
			continue
		}
		if err != nil {
			// The worker has no session and no events: it is as idle as before.
			b.config.Pool.Return(w)
			return nil, err
		}
		select {
		case err := <-started:
			return s, err
		case <-ctx.Done():
			b.do(func() {
				if s.started != nil {
					s.transactions[0].kill(fmt.Sprintf("it did not take the session within %v", openTimeout))
				}
			})
			return s, <-started
		}
	}
}

var errWorkerLost = errors.New("the worker is lost")

// give makes a session of an idle worker. It runs in the owner.
func (b *Broker) give(w *workers.Worker, p *bus.Peer, start *worker.Start, stdio []int, started chan error) (*session, error) {
	if most := b.limits(p.UID).sessions; b.charge(p.UID).sessions >= most {
		b.settle(p.UID)
		return nil, &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf("uid %d has %d sessions already: close one", p.UID, most)}
	}
	owner := b.client(p)
	if owner == nil {
		b.settle(p.UID)
		return nil, errCallerLeft
	}
	s := b.newSession(start)
	s.started = started
	t := s.transact(start, w)
	if !w.Bind(t) || w.Send(&worker.ToWorker{Message: &worker.ToWorker_Start{Start: start}}, stdio...) != nil {
		w.Unbind()
		t.over = true // in case its end is on the way already
		b.settle(p.UID)
		b.tidy(owner)
		return nil, errWorkerLost
	}
	b.add(s, owner)
	return s, nil
}

// describe is what the bus and /proc say of who opens a session. What comes
// from /proc is for people to read.
func (b *Broker) describe(p *bus.Peer) *worker.Owner {
	unit, comm := p.Describe()
	return &worker.Owner{Name: p.Name, BusId: b.bus.ID(), Uid: p.UID, Pid: p.PID, Unit: unit, Comm: comm}
}

func answerPrompt(b *Broker, ctx context.Context, t target) ([]any, error) {
	return nil, b.answer(ctx, t.call, t.call.Args[0].(uint64), func() (*os.File, error) {
		return memfdOf(t.call.Args[1].(string))
	})
}

func answerPromptFD(b *Broker, ctx context.Context, t target) ([]any, error) {
	fd, err := t.call.Descriptor(t.call.Args[1].(dbus.UnixFDIndex))
	if err != nil {
		return nil, err
	}
	return nil, b.answer(ctx, t.call, t.call.Args[0].(uint64), func() (*os.File, error) {
		return b.normalise(ctx, fd)
	})
}

func cancelPrompt(b *Broker, ctx context.Context, t target) ([]any, error) {
	return nil, b.cancel(ctx, t.call, t.call.Args[0].(uint64))
}

func registerAgent(b *Broker, ctx context.Context, t target) ([]any, error) {
	for name := range t.call.Args[0].(map[string]dbus.Variant) {
		return nil, &api.Error{Code: api.UnknownOption, Text: fmt.Sprintf("RegisterAgent has no option %s: it has none yet", quote(name))}
	}
	who, err := b.caller(ctx, t.call.Caller)
	if err == nil {
		err = b.follow(ctx, t.call, b.rules.Load().Decide(who, policy.Agent, policy.Object{}), policy.Object{})
	}
	if err != nil {
		b.refused(t.call.Caller, policy.Agent.String(), policy.Object{}, err)
		return nil, denied("be an agent")
	}
	return nil, b.look(func() error { return b.enlist(t.call.Caller, who) })
}

func unregisterAgent(b *Broker, _ context.Context, t target) ([]any, error) {
	return nil, b.look(func() error {
		c := b.clients[t.call.Caller.Name]
		b.retire(c)
		b.tidy(c)
		return nil
	})
}
