// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
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
	"OpenSession":     openSession,
	"ListSessions":    listSessions,
	"ListPrompts":     listPrompts,
	"AnswerPrompt":    answerPrompt,
	"AnswerPromptFD":  answerPromptFD,
	"CancelPrompt":    cancelPrompt,
	"RegisterAgent":   registerAgent,
	"UnregisterAgent": unregisterAgent,
}

// openSession checks, asks policy, finds a worker and gives it the session. It
// returns when the worker has it.
func openSession(b *Broker, ctx context.Context, t target) ([]any, error) {
	service, user := t.call.Args[0].(string), t.call.Args[1].(string)
	given := t.call.Args[2].(map[string]dbus.Variant)
	if !policy.Decide(b.caller(t.call.Caller), policy.Open, policy.Object{}) {
		return nil, denied("open sessions: only root may")
	}
	options, err := parseOptions(given)
	if err = cmp.Or(checkService(service), checkUser(user), err); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	start := &worker.Start{
		Service: service, User: user, Options: options, Owner: b.describe(t.call.Caller),
		CloseTimeoutUsec: uint64(b.config.CloseTimeout.Microseconds()),
	}
	if start.Session, err = b.numbers.next(ctx); err != nil {
		return nil, &api.Error{Code: api.LimitExceeded, Text: "too many sessions are being opened at once: try again"}
	}
	s, err := b.startSession(ctx, t.call.Caller, start)
	if err != nil {
		return nil, err
	}
	return []any{s.id, s.path()}, nil
}

// startSession gives a session to an idle worker, and to the next when that
// one is lost before it had it.
func (b *Broker) startSession(ctx context.Context, p *bus.Peer, start *worker.Start) (*session, error) {
	for {
		w, err := b.config.Pool.Acquire(ctx)
		if err != nil {
			return nil, &api.Error{Code: api.WorkerFailed, Text: fmt.Sprintf(
				"no worker was idle for %v: is `pamprompt-worker --pool` running?", openTimeout)}
		}
		var s *session
		started := make(chan error, 1)
		err = b.look(func() error { s, err = b.give(w, p, start, started); return err })
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
					s.kill(fmt.Sprintf("it did not take the session within %v", openTimeout))
				}
			})
			return s, <-started
		}
	}
}

var errWorkerLost = errors.New("the worker is lost")

// give makes a session of an idle worker. It runs in the owner.
func (b *Broker) give(w *workers.Worker, p *bus.Peer, start *worker.Start, started chan error) (*session, error) {
	most, _ := b.limits(p)
	if b.charge(p.UID).sessions >= most {
		return nil, &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf("uid %d has %d sessions already: close one", p.UID, most)}
	}
	owner := b.client(p)
	if owner == nil {
		b.settle(p.UID)
		return nil, errCallerLeft
	}
	s := b.newSession(start, w)
	s.started = started
	if !w.Bind(s) || w.Send(&worker.ToWorker{Message: &worker.ToWorker_Start{Start: start}}) != nil {
		w.Unbind()
		s.state = api.StateFailed // in case its end is on the way already
		b.settle(p.UID)
		b.tidy(owner)
		return nil, errWorkerLost
	}
	b.add(s, owner)
	return s, nil
}

// describe is what the bus and /proc say of who opens a session. What comes
// from /proc is for people to read: by now the pid may be another's.
func (b *Broker) describe(p *bus.Peer) *worker.Owner {
	unit, comm := processInfo(p.PID)
	return &worker.Owner{Name: p.Name, BusId: b.bus.ID(), Uid: p.UID, Pid: p.PID, Unit: unit, Comm: comm}
}

// processInfo is the systemd unit (or scope) and the name of a process, empty
// where they cannot be read.
func processInfo(pid uint32) (unit, comm string) {
	if pid == 0 {
		return "", ""
	}
	if raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
		comm = printable(strings.TrimSuffix(string(raw), "\n"))
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", comm
	}
	for part := range strings.FieldsFuncSeq(string(raw), func(r rune) bool { return r == '/' || r == '\n' }) {
		if strings.HasSuffix(part, ".service") || strings.HasSuffix(part, ".scope") {
			unit = printable(part) // the innermost: a user's own unit is below the manager's
		}
	}
	return unit, comm
}

// printable keeps what a process chose to be called from playing tricks.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return s[:min(len(s), api.MaxName)]
}

// listed is one element of ListSessions, a(tssuso).
type listed struct {
	ID            uint64
	Service, User string
	Owner         uint32
	State         string
	Path          dbus.ObjectPath
}

func listSessions(b *Broker, _ context.Context, t target) ([]any, error) {
	list := []listed{}
	err := b.look(func() error {
		for _, s := range b.seen(t.call.Caller) {
			list = append(list, listed{s.id, s.start.GetService(), s.start.GetUser(), s.start.GetOwner().GetUid(), s.state, s.path()})
		}
		return nil
	})
	return []any{list}, err
}

// listedPrompt is one element of ListPrompts, a(tossa{sv}).
type listedPrompt struct {
	ID             uint64
	Session        dbus.ObjectPath
	Style, Message string
	Details        map[string]dbus.Variant
}

func listPrompts(b *Broker, _ context.Context, t target) ([]any, error) {
	list := []listedPrompt{}
	size := 0
	err := b.look(func() error {
		for _, number := range sortedNumbers(b.prompts) {
			q := b.prompts[number]
			if !b.mayAnswer(t.call.Caller, q.asker) {
				continue
			}
			// What modules say is under nobody's control, and a message that
			// is too long ends our connection: the rest is for later calls.
			if size += bus.Size(q.message, q.details); size > maxReply {
				b.log.Warn("not every prompt fits in one list", "prompts", len(b.prompts))
				break
			}
			list = append(list, listedPrompt{q.number, q.asker.path(), q.style, q.message, q.details})
		}
		return nil
	})
	return []any{list}, err
}

// maxReply bounds, roughly, the replies whose length grows with what there is.
// A bus takes 32 MiB.
const maxReply = 16 << 20

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

func cancelPrompt(b *Broker, _ context.Context, t target) ([]any, error) {
	return nil, b.cancel(t.call.Caller, t.call.Args[0].(uint64))
}

func registerAgent(b *Broker, _ context.Context, t target) ([]any, error) {
	for name := range t.call.Args[0].(map[string]dbus.Variant) {
		return nil, &api.Error{Code: api.UnknownOption, Text: fmt.Sprintf("RegisterAgent has no option %s: it has none yet", quote(name))}
	}
	if !policy.Decide(b.caller(t.call.Caller), policy.Agent, policy.Object{}) {
		return nil, denied("be an agent")
	}
	return nil, b.look(func() error { return b.enlist(t.call.Caller) })
}

func unregisterAgent(b *Broker, _ context.Context, t target) ([]any, error) {
	return nil, b.look(func() error {
		c := b.clients[t.call.Caller.Name]
		b.retire(c)
		b.tidy(c)
		return nil
	})
}
