// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// matrixSystem has one service, which asks anna for the password.
func matrixSystem(t *testing.T) system.Options {
	return system.Options{Stacks: map[string]string{"matrix": system.Matrix(t, "matrix", map[string]string{"anna": password})}}
}

// leaver opens sessions and leaves the bus before the test ends.
func leaver(t *testing.T, s *system.System) *api.Client {
	t.Helper()
	c, err := api.Dial(within(t), s.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestTheOpenerLeaves(t *testing.T) {
	s := system.StartOnBus(t, matrixSystem(t))
	for _, test := range []struct {
		name   string
		linger bool
		open   bool // when the opener leaves
	}{
		{"while a question waits", false, false},
		{"while the session is open", false, true},
		{"while a question waits, and the session lingers", true, false},
		{"while the session is open, and it lingers", true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, opener := newAgent(t, s.System), leaver(t, s.System)
			session, err := opener.Open(within(t), "matrix", "anna", api.Options{Linger: test.linger})
			if err != nil {
				t.Fatal(err)
			}
			p := a.promptOf(a.Session(session.ID()))
			if test.open {
				a.reply(p.ID, password)
				a.wait(a.Session(session.ID()), api.StateOpen)
			}
			if err := opener.Close(); err != nil {
				t.Fatal(err)
			}
			if test.linger {
				goesOn(a, a.Session(session.ID()), p, test.open)
			} else {
				a.isClosed(session.ID(), p, test.open)
			}
		})
	}
}

// goesOn lets somebody else answer, if that is still to be done, and close.
func goesOn(a *agent, session *api.Session, p api.Prompt, open bool) {
	a.t.Helper()
	if !open {
		a.reply(p.ID, password)
	}
	a.wait(session, api.StateOpen)
	if properties := a.properties(session); !properties.Linger || len(properties.Environment) == 0 {
		a.t.Errorf("its properties are %+v", properties)
	}
	a.close(session)
}

// isClosed wants a session to be closed, and its question withdrawn.
func (a *agent) isClosed(session uint64, p api.Prompt, open bool) {
	a.t.Helper()
	if !open {
		closed := next(a, func(e api.PromptClosed) bool { return e.ID == p.ID })
		if closed.Outcome != api.OutcomeSessionClosed {
			a.t.Errorf("the question ended as %s", closed.Outcome)
		}
	}
	changed := next(a, func(e api.SessionChanged) bool {
		return e.ID == session && e.State != api.StateOpen && e.State != api.StateClosing
	})
	if changed.State != api.StateClosed {
		a.t.Errorf("it is %s", changed.State)
	}
	next(a, func(e api.SessionRemoved) bool { return e.ID == session })
}
