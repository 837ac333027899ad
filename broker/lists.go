// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/polkit"
	"github.com/pamprompt/pamprompt/policy"
)

// maxReply bounds, roughly, the replies whose length grows with what there is.
// A bus takes 32 MiB.
const maxReply = 16 << 20

// maxAsked is how many questions ListPrompts may have for polkit.
const maxAsked = 256

// listTimeout bounds how long polkit may take to answer all of them.
const listTimeout = 10 * time.Second

// listed is one element of ListSessions, a(tssuso).
type listed struct {
	ID            uint64
	Service, User string
	Owner         uint32
	State         string
	Path          dbus.ObjectPath
}

func listSessions(b *Broker, ctx context.Context, t target) ([]any, error) {
	list := []listed{}
	err := b.seen(ctx, t.call, func(_ policy.Caller, seen []*session) error {
		for _, s := range seen {
			list = append(list, listed{s.id, s.start.GetService(), s.start.GetUser(), s.start.GetOwner().GetUid(), s.state, s.path()})
		}
		return nil
	})
	return []any{list}, err
}

// seen has the owner run f with the sessions that a caller may see, in the order
// of their numbers. polkit is asked once for all those on which it decides, and
// also when there are none.
func (b *Broker) seen(ctx context.Context, call *bus.Call, f func(policy.Caller, []*session) error) error {
	who, rules := b.callerAndRules(ctx, call.Caller)
	all := b.mayList(ctx, call)
	return b.look(func() error { return f(who, b.visible(who, rules, all)) })
}

// callerAndRules are who a caller is, and the rules to judge by. If who it is could
// not be established for them, it has what is its own, and polkit is not heard: a
// rule might have denied what that allows.
func (b *Broker) callerAndRules(ctx context.Context, p *bus.Peer) (policy.Caller, *policy.Rules) {
	who, err := b.caller(ctx, p)
	if err != nil {
		return who, policy.Closed(err.Error())
	}
	return who, b.rules.Load()
}

// visible are the sessions that somebody may see, with those on which polkit
// decides, or without.
func (b *Broker) visible(who policy.Caller, rules *policy.Rules, polkits bool) []*session {
	var sessions []*session
	for _, s := range b.sessions {
		verdict := rules.Decide(who, policy.See, s.object()).Verdict
		if s.announced && (verdict == policy.Allow || verdict == policy.Polkit && polkits) {
			sessions = append(sessions, s)
		}
	}
	slices.SortFunc(sessions, func(x, y *session) int { return int(int64(x.id - y.id)) })
	return sessions
}

// listedPrompt is one element of ListPrompts, a(tossa{sv}).
type listedPrompt struct {
	ID             uint64
	Session        dbus.ObjectPath
	Style, Message string
	Details        map[string]dbus.Variant
}

// listPrompts lists what a caller may answer. polkit is asked once for all
// prompts that look alike to it, and never interactively: a list is no reason to
// ask for a password.
func listPrompts(b *Broker, ctx context.Context, t target) ([]any, error) {
	who, rules := b.callerAndRules(ctx, t.call.Caller)
	may := make(map[kind]bool)
	asked := make(map[kind]polkit.Question)
	if err := b.look(func() error {
		for _, q := range b.prompts {
			object := q.asker.object()
			d := rules.Decide(who, policy.Answer, object)
			k := kindOfPrompt(d, object)
			if may[k] = d.Verdict == policy.Allow; d.Verdict == policy.Polkit && len(asked) < maxAsked {
				asked[k] = polkit.Question{Caller: t.call.Caller, Details: polkitDetails(object)}
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	for k, question := range asked {
		for action := range strings.FieldsSeq(k.actions) {
			question.Action = action
			may[k] = may[k] || b.polkit.Check(ctx, question) == nil
		}
	}
	list := []listedPrompt{}
	size := 0
	err := b.look(func() error {
		for _, number := range sortedNumbers(b.prompts) {
			q := b.prompts[number]
			object := q.asker.object()
			if !may[kindOfPrompt(rules.Decide(who, policy.Answer, object), object)] {
				continue
			}
			// What modules say is under nobody's control, and a message that
			// is too long ends our connection: the rest is for later calls.
			if size += bus.Size(q.message, q.details); size > maxReply {
				b.log.Warn("not every prompt fits in one list", "prompts", len(b.prompts))
				break
			}
			list = append(list, listedPrompt{q.number, q.asker.path(), q.style, q.message, q.detailsFor(who)})
		}
		return nil
	})
	return []any{list}, err
}

// kind is what prompts have in common on which policy and polkit decide alike.
type kind struct {
	verdict       policy.Verdict
	actions       string // of polkit
	service, user string
}

func kindOfPrompt(d policy.Decision, o policy.Object) kind {
	if d.Verdict != policy.Polkit {
		return kind{verdict: d.Verdict}
	}
	return kind{d.Verdict, strings.Join(d.Polkit, " "), o.Service, o.User}
}
