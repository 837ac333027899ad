// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"errors"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// buses are the two implementations of the message bus.
var buses = []struct {
	name  string
	start func(testing.TB, system.Options) *system.OnBus
	calls int // that a connection may leave unanswered, if the bus limits that
}{
	{"dbus-daemon", system.StartOnBus, 128},
	{"dbus-broker", system.StartOnDBusBroker, 0},
}

// TestASessionOnEitherBus is the main scenario: a question by signal, an
// answer by descriptor, texts, two agents, properties, a second attempt, and
// the end.
func TestASessionOnEitherBus(t *testing.T) {
	for _, bus := range buses {
		t.Run(bus.name, func(t *testing.T) {
			s := bus.start(t, system.Options{Stacks: map[string]string{
				"talk": "auth required " + modules.System(t, "pam_chatty") + " info\n" +
					system.Matrix(t, "talk", map[string]string{"anna": password}),
			}})
			const info, failed = "info Authentication succeeded", "error Authentication failure"
			a, other := newAgent(t, s.System), newAgent(t, s.System)
			e := a.run("talk", "anna", api.Options{Phases: authenticate, Attempts: 2, Environment: []string{"LANG=C"}},
				turn{asksPassword, "wrong", []string{info, info, info}},
				turn{asksPassword, password, []string{failed, info, info, info}})
			a.wantSaid(e, info, info, info, failed, info, info, info)
			a.wantVariable(e, "LANG", "C")
			for _, p := range e.prompts {
				if seen := other.promptOf(e.session); seen.ID != p.ID {
					t.Errorf("the other agent was told of prompt %d, not %d", seen.ID, p.ID)
				}
				closed := next(other, func(c api.PromptClosed) bool { return c.ID == p.ID })
				if err := other.give(p.ID, password); closed.Outcome != api.OutcomeAnswered || !errors.Is(err, api.AlreadyAnswered) {
					t.Errorf("for it the prompt was %s, and its answer was %v", closed.Outcome, err)
				}
			}
			a.want(e, result{})
		})
	}
}

func TestErrorsOnEitherBus(t *testing.T) {
	for _, bus := range buses {
		t.Run(bus.name, func(t *testing.T) {
			s := bus.start(t, matrixSystem(t))
			a := newAgent(t, s.System)
			a.want(a.run("matrix", "anna", api.Options{}, question(asksPassword, "wrong")), wrong)
			var named dbus.Error
			if _, err := s.Conn(t).RequestName("org.example.Other", 0); !errors.As(err, &named) || named.Name != "org.freedesktop.DBus.Error.AccessDenied" {
				t.Errorf("the policy of the bus is another one: %v", err)
			}
			if _, err := a.Open(within(t), "nosuch", "anna", api.Options{}); !errors.Is(err, api.InvalidArgument) {
				t.Errorf("an unknown service: %v", err)
			}
			if err := a.Session(7).Close(within(t)); !errors.Is(err, api.NoSuchSession) {
				t.Errorf("a session that does not exist: %v", err)
			}
			if err := a.give(7, "x"); !errors.Is(err, api.NoSuchPrompt) {
				t.Errorf("a prompt that does not exist: %v", err)
			}
		})
	}
}

func TestTheBrokerIsKilledOnEitherBus(t *testing.T) {
	for _, bus := range buses {
		t.Run(bus.name, func(t *testing.T) {
			s := bus.start(t, matrixSystem(t))
			a := newAgent(t, s.System)
			session := a.open("matrix", "anna", api.Options{})
			p := a.promptOf(session)
			a.restart(s)
			a.same(session, p)
			a.reply(p.ID, password)
			a.wait(session, api.StateOpen)
			opener := leaver(t, s.System)
			bound, err := opener.Open(within(t), "matrix", "anna", api.Options{})
			if err != nil {
				t.Fatal(err)
			}
			second := a.promptOf(bound)
			if err := opener.Close(); err != nil {
				t.Fatal(err)
			}
			a.isClosed(bound.ID(), second, false)
			a.close(session)
		})
	}
}

// The library waits on signals; this is for scripts, which may call Wait as
// often as the bus lets them.
func TestManyWaitOnEitherBus(t *testing.T) {
	const calls = 130
	for _, bus := range buses {
		t.Run(bus.name, func(t *testing.T) {
			s := bus.start(t, matrixSystem(t))
			a, conn := newAgent(t, s.System), s.Conn(t)
			session := a.open("matrix", "anna", api.Options{})
			p := a.promptOf(session)
			done := make(chan *dbus.Call, calls)
			for range calls {
				conn.Object(api.BusName, session.Path()).Go(api.SessionInterface+".Wait", 0, done, api.StateOpen)
			}
			refused := 0
			if bus.calls > 0 {
				refused = calls - bus.calls
			}
			for range refused { // at once
				var named dbus.Error
				if call := <-done; !errors.As(call.Err, &named) || named.Name != "org.freedesktop.DBus.Error.LimitsExceeded" {
					t.Fatalf("a call over the limit of the bus ended with %v", call.Err)
				}
			}
			if err := conn.BusObject().Call("org.freedesktop.DBus.Peer.Ping", 0).Err; err != nil {
				t.Fatal(err)
			}
			a.reply(p.ID, password)
			for range calls - refused {
				var state, text string
				var status int32
				if err := (<-done).Store(&state, &status, &text); err != nil || state != api.StateOpen || status != 0 {
					t.Fatalf("Wait returned %s, %d, %q, %v", state, status, text, err)
				}
			}
			a.close(session)
		})
	}
}
