// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
)

// waits waits for the prompt of a session that nobody is told of.
func (b *stage) waits(s *api.Session) (id uint64) {
	b.t.Helper()
	var style, message string
	var details map[string]dbus.Variant
	call := b.Conn(b.t).Object(api.BusName, s.Path()).CallWithContext(within(b.t), api.SessionInterface+".NextPrompt", 0, uint64(0))
	if err := call.Store(&id, &style, &message, &details); err != nil {
		b.t.Fatal(err)
	}
	return id
}

// openBy opens a session for a client that hears nothing.
func (b *stage) openBy(c *api.Client, o api.Options) *api.Session {
	b.t.Helper()
	s, err := c.Open(within(b.t), "one", "anna", o)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func TestASessionThatAsksNoAgents(t *testing.T) {
	b := one(t, password(t))
	s := b.open(api.Options{AskPassword: api.AskPasswordNo})
	p := b.bus.promptOf(s)
	// A second session, whose request would be the second one.
	other := b.open(api.Options{Reason: "the second", AskPassword: api.AskPasswordYes})
	second := b.bus.promptOf(other)
	if r := b.request(); r.Message != line("the second", "", "Password:") {
		t.Errorf("there is a request %q", r.Message)
	}
	b.bus.answer(second, answer)
	b.bus.answer(p, answer)
	b.bus.opened(s)
	b.bus.opened(other)
}

func TestAWordThatIsNoneOfTheOptions(t *testing.T) {
	b := one(t, password(t))
	conn := b.Conn(t)
	for _, value := range []any{"", "maybe", "YES", "fallback ", true, uint32(1)} {
		call := conn.Object(api.BusName, api.RootPath).CallWithContext(within(t), api.ManagerInterface+".OpenSession", 0,
			"one", "anna", map[string]any{api.OptionAskPassword: value})
		if named, ok := call.Err.(dbus.Error); !ok || named.Name != api.ErrorPrefix+string(api.InvalidArgument) {
			t.Errorf("ask-password %#v: %v", value, call.Err)
		}
	}
}

// The request comes and goes with the agents on D-Bus, also while it waits.
func TestAgentsOfSystemdAreAskedWhileThereIsNoOther(t *testing.T) {
	b := start(t, options{stacks: map[string]string{"one": password(t)}, alone: true})
	c := b.Client(t)
	s := b.openBy(c, api.Options{AskPassword: api.AskPasswordFallback})
	id := b.waits(s)
	first := b.request()

	one := b.listen()
	first.wantGone(t) // before RegisterAgent returns
	two := b.listen()
	one.leave()
	b.wantNothingOfOurs()
	two.leave()
	second := b.anotherThan(first)

	third := b.listen() // one that leaves the bus without a word
	second.wantGone(t)
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
	b.anotherThan(second).say(t, "+"+answer)
	if err := s.Wait(within(t), api.StateOpen); err != nil {
		t.Errorf("prompt %d: %v", id, err)
	}
	b.wantNothingOfOurs()
}

// An opener that answers itself is an agent, as far as its session goes.
func TestAnOpenerThatAnswersItselfCountsAsAnAgent(t *testing.T) {
	b := start(t, options{stacks: map[string]string{"one": password(t)}, alone: true})
	opener := watch(t, b.Client(t), false)
	s := b.openBy(opener.Client, api.Options{AskPassword: api.AskPasswordFallback, Agent: true, Linger: true})
	p := opener.promptOf(s)
	b.wantNothingOfOurs()
	plain := b.openBy(b.Client(t), api.Options{AskPassword: api.AskPasswordFallback, Reason: "nobody is there"})
	if r := b.request(); r.Message != line("nobody is there", "", "Password:") {
		t.Errorf("there is a request %q", r.Message)
	}
	if err := plain.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	until(t, b.dir, func() bool { return len(names(t, b.dir, ours)) == 0 })
	// Now there is nobody who could answer.
	if err := opener.Close(); err != nil {
		t.Fatal(err)
	}
	r := b.request()
	if r.Message != line("", "", "Password:") {
		t.Errorf("there is a request %q", r.Message)
	}
	r.say(t, "+"+answer)
	if err := b.Client(t).Session(s.ID()).Wait(within(t), api.StateOpen); err != nil {
		t.Errorf("prompt %d: %v", p.ID, err)
	}
}
