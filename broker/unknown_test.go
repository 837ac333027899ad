// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// These rules want to know the caller's name. One denies what polkit allows here,
// and one allows what polkit is not asked about.
const wantsName = `
[[rule]]
action = "see"
service = "vault"
user = "@self"
verdict = "deny"

[[rule]]
action = ["open", "answer", "manage", "see"]
service = "vault"
caller = "uid:60001"
verdict = "allow"
`

// rulesOf reads rules.
func rulesOf(t *testing.T, text string) *policy.Rules {
	t.Helper()
	rules, err := policy.Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// withoutNames has nobody answer who has a uid.
func withoutNames(context.Context, uint32) (string, error) {
	return "", errors.New("NSS does not answer")
}

// A caller who is not known, because nobody answers whose account a uid is, has
// what is its own and nothing else: neither what a rule allows that does not ask
// for the name, nor what polkit does.
func TestACallerWhoseNameCannotBeLookedUp(t *testing.T) {
	const own, roots, ownPrompt, rootsPrompt = 7, 8, 17, 18
	b, address, idle := startOnBus(t)
	pretendPolkit(t, address).always(true)
	b.accounts = newAccounts(withoutNames)
	b.rules.Store(rulesOf(t, wantsName))
	caller := &bus.Peer{Name: ":1.4711", UID: stranger}
	for id, owner := range map[uint64]uint32{own: stranger, roots: 0} {
		tr := newTransaction(b, &worker.Start{
			Session: id, Service: "vault", User: "anna", Owner: &worker.Owner{Uid: owner}, Options: &worker.Options{Attempts: 1},
		}, idle())
		b.do(func() {
			b.add(tr.s, nil)
			tr.s.announced = true
			tr.ask(&worker.Prompt{Style: worker.Style_STYLE_SECRET, Text: []byte("?")}, id+10)
		})
	}
	for _, c := range []struct {
		name string
		try  func(call *bus.Call, session, prompt uint64) error
	}{
		{"to see", func(call *bus.Call, session, _ uint64) error {
			return b.permitSession(t.Context(), call, session, policy.See)
		}},
		{"to end", func(call *bus.Call, session, _ uint64) error {
			return b.permitSession(t.Context(), call, session, policy.Manage)
		}},
		{"to answer", func(call *bus.Call, _, prompt uint64) error { return b.permitPrompt(t.Context(), call, prompt) }},
	} {
		if err := c.try(&bus.Call{Caller: caller}, own, ownPrompt); err != nil {
			t.Errorf("%s what is its own: %v", c.name, err)
		}
		if err := c.try(&bus.Call{Caller: caller}, roots, rootsPrompt); !errors.Is(err, api.AccessDenied) {
			t.Errorf("%s what is root's: %v, want AccessDenied", c.name, err)
		}
	}
	on := func(args ...any) target {
		return target{call: &bus.Call{Caller: caller, Path: dbus.ObjectPath(strings.TrimSuffix(api.SessionPrefix, "/")), Args: args}}
	}
	if _, err := registerAgent(b, t.Context(), on(map[string]dbus.Variant{})); !errors.Is(err, api.AccessDenied) {
		t.Errorf("to be an agent: %v, want AccessDenied", err)
	}
	if _, _, err := b.mayOpen(t.Context(), on("vault", "anna", map[string]dbus.Variant{})); !errors.Is(err, api.AccessDenied) {
		t.Errorf("to open: %v, want AccessDenied", err)
	}
	var seen []uint64
	if err := b.seen(t.Context(), on().call, func(_ policy.Caller, sessions []*session) error {
		for _, s := range sessions {
			seen = append(seen, s.id)
		}
		return nil
	}); err != nil || !slices.Equal(seen, []uint64{own}) {
		t.Errorf("it sees the sessions %v, %v", seen, err)
	}
	if children := b.childrenOf(t.Context(), on()); !slices.Equal(children, []string{"7"}) {
		t.Errorf("it sees the objects %q", children)
	}
	reply, err := listPrompts(b, t.Context(), on())
	if list, ok := reply[0].([]listedPrompt); err != nil || !ok || len(list) != 1 || list[0].ID != ownPrompt {
		t.Errorf("it lists %v, %v", reply, err)
	}
}

// An agent who is not known to new rules is told of nothing.
func TestAnAgentWhoseNameCannotBeLookedUp(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.accounts = newAccounts(withoutNames)
	v.SetRules(rulesOf(t, wantsName))
	v.ask(1)
	v.text("one")
	e.settle()
	e.wantHeard()
	v.accounts = newAccounts(func(context.Context, uint32) (string, error) { return "anna", nil })
	v.SetRules(rulesOf(t, wantsName))
	e.wantHeard("prompt 1")
	v.text("two")
	e.wantHeard("two")
}
