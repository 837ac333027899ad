// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/polkit"
	"github.com/pamprompt/pamprompt/policy"
)

// caller is what policy is told of a peer. It reads /proc, and asks NSS if the
// rules want the account's name: not for the owner. An error is about who the
// caller is, never about what it wants.
func (b *Broker) caller(ctx context.Context, p *bus.Peer) (policy.Caller, error) {
	who := b.basic(p)
	if who.Admin {
		return who, nil
	}
	who.Groups, who.Unit = p.Groups, p.Unit()
	if !b.rules.Load().WantsName() {
		return who, nil
	}
	var err error
	who.Name, err = b.accounts.name(ctx, p.UID)
	return who, err
}

// basic is who a peer is, when nothing is decided by rules.
func (b *Broker) basic(p *bus.Peer) policy.Caller {
	return policy.Caller{UID: p.UID, Admin: b.isAdmin(p.UID)}
}

// isAdmin is for root, and for the uid that we run as, which is root too on a
// system bus: what it started, it may use.
func (b *Broker) isAdmin(uid uint32) bool { return uid == 0 || uid == b.admin }

// usual are the polkit actions that stand behind an action on a session where
// no rule says otherwise.
func usual(a policy.Action) []string {
	switch a {
	case policy.See:
		return []string{policy.PolkitList}
	case policy.Answer:
		return []string{policy.PolkitAnswerOwn, policy.PolkitAnswerAny}
	case policy.Manage:
		return []string{policy.PolkitManage}
	}
	return nil
}

// errRefused is for whoever asks permit; what the caller is told says the same
// whatever the reason.
var errRefused = errors.New("refused")

// permit decides whether a caller may do something to a session or a prompt that
// find finds; nil if so. find runs in the owner, polkit is asked outside of it.
//
// Who may not, learns nothing: that there is no such thing is refused like
// everything else, after the same questions to polkit, so that neither words nor
// time tell the difference. What was found may be gone when permit returns.
func (b *Broker) permit(ctx context.Context, call *bus.Call, a policy.Action, find func() policy.Object) error {
	who, unknown := b.caller(ctx, call.Caller)
	var object policy.Object
	if !b.do(func() { object = find() }) {
		return errStopping
	}
	rules := b.rules.Load()
	if unknown != nil {
		rules = nil // what is one's own stays that
	}
	d := rules.Decide(who, a, object)
	if d.Verdict == policy.Allow {
		return nil
	}
	why := cmp.Or(unknown, errors.New(d.Why))
	for _, action := range usual(a) {
		counts := unknown == nil && d.Verdict == policy.Polkit && object.Exists && slices.Contains(d.Polkit, action)
		err := b.polkit.Check(ctx, polkit.Question{
			Caller: call.Caller, Action: action, Details: polkitDetails(object),
			// Nobody is asked for a password to no avail, but for the last
			// action, which is asked about what does not exist too.
			Interactive: call.Interactive && (counts || action != policy.PolkitAnswerOwn),
			Private:     true,
		})
		if err == nil && counts {
			return nil
		}
		if err != nil && counts {
			why = fmt.Errorf("%s: %w", action, err)
		}
	}
	b.refused(call.Caller, a.String(), object, why)
	return errRefused
}

// polkitDetails is what rules in JavaScript may look at. That there is no such
// object does not show in their number.
func polkitDetails(o policy.Object) map[string]string {
	return map[string]string{"service": o.Service, "user": o.User}
}

// permitOpen decides whether a caller may open a session, or run something in one.
// A uid means that the rules took the user for the caller's own account, and that
// the session must not be one of somebody else's. byPolkit says that it was
// polkit who allowed it.
func (b *Broker) permitOpen(ctx context.Context, call *bus.Call, what policy.Action, service, user string) (uid *uint32, byPolkit bool, err error) {
	who, err := b.caller(ctx, call.Caller)
	object := policy.Object{Service: service, User: user}
	if err == nil {
		d := b.rules.Load().Decide(who, what, object)
		err = b.follow(ctx, call, d, object)
		byPolkit = d.Verdict == policy.Polkit
	}
	if err != nil {
		b.refused(call.Caller, what.String(), object, err)
		return nil, false, errRefused
	}
	if who.Name == user {
		uid = &who.UID
	}
	return uid, byPolkit, nil
}

// follow is nil if a decision is a yes, by itself or by polkit's.
func (b *Broker) follow(ctx context.Context, call *bus.Call, d policy.Decision, object policy.Object) error {
	err := errors.New(d.Why)
	switch d.Verdict {
	case policy.Allow:
		return nil
	case policy.Polkit:
		for _, action := range d.Polkit {
			refusal := b.polkit.Check(ctx, polkit.Question{
				Caller: call.Caller, Action: action, Details: polkitDetails(object), Interactive: call.Interactive,
			})
			if refusal == nil {
				return nil
			}
			err = fmt.Errorf("%s: %w", action, refusal)
		}
	}
	return err
}

// denied is what a refused caller hears.
func denied(what string) error {
	return &api.Error{Code: api.AccessDenied, Text: "you may not " + what}
}

// unless is err, and the words that go to the caller for a refusal.
func unless(err error, what string) error {
	if errors.Is(err, errRefused) {
		return denied(what)
	}
	return err
}

// permitSession decides whether a caller may do something to a session.
func (b *Broker) permitSession(ctx context.Context, call *bus.Call, id uint64, a policy.Action) error {
	return unless(b.permit(ctx, call, a, func() policy.Object { return b.sessions[id].object() }),
		"use this session, or there is none of this number")
}

// permitPrompt decides whether a caller may answer or cancel a prompt, or learn
// how it ended.
func (b *Broker) permitPrompt(ctx context.Context, call *bus.Call, number uint64) error {
	return unless(b.permit(ctx, call, policy.Answer, func() policy.Object {
		if q := b.prompts[number]; q != nil {
			return q.asker.object()
		}
		gone, _ := b.answered.find(number)
		return gone.object
	}), "answer or cancel this prompt, or there is none of this number")
}

// mayList decides whether a caller may see sessions on which polkit decides. It
// is asked whether there are any or not.
func (b *Broker) mayList(ctx context.Context, call *bus.Call) bool {
	if b.isAdmin(call.Caller.UID) {
		return true // it sees them all without
	}
	return b.polkit.Check(ctx, polkit.Question{
		Caller: call.Caller, Action: policy.PolkitList, Details: polkitDetails(policy.Object{}), Interactive: call.Interactive,
	}) == nil
}

// SetRules has policy follow other rules from now on. What was begun under the
// old ones goes on. It may be called at any time after New, and returns when the
// agents were looked at again.
func (b *Broker) SetRules(rules *policy.Rules) {
	b.rules.Store(rules)
	var agents []*client
	b.do(func() {
		for c := range b.agents {
			if !c.who.Admin {
				c.who = policy.Caller{} // nobody, until we know what the rules want to know
				agents = append(agents, c)
			}
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	for _, c := range agents {
		who, err := b.caller(ctx, c.peer)
		if err != nil {
			b.log.Warn("an agent is told of nothing any more", "caller-uid", c.peer.UID, "why", err)
			continue
		}
		b.do(func() { c.who = who })
	}
	b.do(b.review)
}
