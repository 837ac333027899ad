// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
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
	starts, stdio, err := b.mayOpen(ctx, t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	number, err := b.numbers.next(ctx)
	if err != nil {
		return nil, &api.Error{Code: api.LimitExceeded, Text: "too many sessions are being opened at once: try again"}
	}
	for _, start := range starts {
		start.Session = number
	}
	s, err := b.startSession(ctx, t.call.Caller, starts, stdio)
	if err != nil {
		return nil, err
	}
	return []any{s.id, s.path()}, nil
}

// mayOpen is whether a caller may open the session that it wants, and what each
// worker is to be told, with the descriptors that go along. These stay the call's.
func (b *Broker) mayOpen(ctx context.Context, t target) (starts []*worker.Start, stdio []int, err error) {
	service, user := t.call.Args[0].(string), t.call.Args[1].(string)
	options, err := parseOptions(t.call.Args[2].(map[string]dbus.Variant))
	if err = cmp.Or(checkService(service), checkUser(user), err); err != nil {
		return nil, nil, err
	}
	if err := options.checkAlternatives(service); err != nil {
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
		if err := b.admit(t.call.Caller, 1+len(options.alternatives)); err != nil {
			return nil, nil, err
		}
		what, refusal := policy.Open, "open sessions of this service"
		if options.runs() {
			what, refusal = policy.Run, "run commands as this user with this service"
		}
		if uid, vouched, err = b.permitOpen(ctx, t.call, what, service, user); err != nil {
			return nil, nil, unless(err, refusal)
		}
		for _, other := range options.alternatives {
			if _, _, err := b.permitOpen(ctx, t.call, what, other, user); err != nil {
				return nil, nil, unless(err, refusal)
			}
		}
	}
	if vouched {
		options.permitted()
	}
	start := &worker.Start{
		Service: service, User: user, UserUid: uid, Options: options.Options, Owner: b.describe(t.call.Caller),
		CloseTimeoutUsec: uint64(b.config.CloseTimeout.Microseconds()),
	}
	if options.runs() {
		start.Command = &options.command
	}
	return startsOf(start, options.alternatives), stdio, nil
}

// admit counts an OpenSession of so many services.
func (b *Broker) admit(p *bus.Peer, services int) error {
	return b.look(func() error { return b.openings.take(p.UID, services, time.Now()) })
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
		f, err := b.normalise(ctx, t.call.Caller.UID, fd)
		if err == nil && isPipe(fd) && !b.bus.Here(ctx, t.call.Caller) {
			_ = f.Close()
			b.log.Warn("an answer is not taken: whoever gave it has ended, and it may be half of one",
				"prompt", t.call.Args[0], "caller", t.call.Caller.Name, "caller-uid", t.call.Caller.UID)
			return nil, errCallerLeft
		}
		return f, err
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
