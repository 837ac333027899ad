// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
)

// returning has workers of a session with the services word and finger come back to a
// broker that has just started.
type returning struct {
	t      *testing.T
	b      *Broker
	starts []*worker.Start
	adopt  func(i int, d *worker.Session)
	told   func() []string
}

func startReturning(t *testing.T, linger bool) *returning {
	t.Helper()
	b, address, idle := startOnBus(t)
	r := &returning{t: t, b: b, told: listen(t, b, address), starts: startsOf(&worker.Start{
		Session: 7, Service: "word", User: "anna", Owner: &worker.Owner{}, Options: &worker.Options{Attempts: 1, Linger: linger},
	}, []string{"finger"})}
	r.adopt = func(i int, d *worker.Session) {
		d.Start = r.starts[i]
		b.adopt(idle(), d)
	}
	return r
}

// listen returns a function that tells what was broadcast of sessions since the last
// time.
func listen(t *testing.T, b *Broker, address string) func() []string {
	t.Helper()
	peer, conn := peerOn(t, b, address)
	if err := conn.AddMatchSignal(); err != nil {
		t.Fatal(err)
	}
	signals := make(chan *dbus.Signal, 256)
	conn.Signal(signals)
	const mark = "org.example.Mark.Mark"
	return func() []string {
		t.Helper()
		b.do(func() { b.bus.Send(bus.Signal{Dest: peer.Name, Path: "/", Name: mark}) })
		var told []string
		for late := time.After(patience); ; {
			select {
			case s := <-signals:
				switch s.Name {
				case mark:
					return told
				case objectManager + ".InterfacesAdded":
					told = append(told, fmt.Sprint("is ", s.Body[1].(map[string]map[string]dbus.Variant)[api.SessionInterface]["State"].Value()))
				case properties + ".PropertiesChanged":
					if state, is := s.Body[1].(map[string]dbus.Variant)["State"]; is && s.Body[0] == api.SessionInterface {
						told = append(told, fmt.Sprint("now ", state.Value()))
					}
				case api.ManagerInterface + ".SessionAdded", api.ManagerInterface + ".SessionRemoved":
					told = append(told, s.Name[len(api.ManagerInterface)+1:])
				}
			case <-late:
				t.Fatalf("was told %q and nothing more", told)
			}
		}
	}
}

func (r *returning) wantTold(want ...string) {
	r.t.Helper()
	if told := r.told(); !slices.Equal(told, want) {
		r.t.Errorf("was told %q, not %q", told, want)
	}
}

// session is the session, in the owner.
func (r *returning) session(look func(s *session)) {
	r.b.do(func() {
		s := r.b.sessions[7]
		if s == nil {
			r.t.Error("there is no session")
			return
		}
		look(s)
	})
}

// One that has ended meanwhile decides nothing, but that all are there.
func TestOneThatIsReadyGoesOnWhenTheOtherComesBackToHaveFailed(t *testing.T) {
	r := startReturning(t, true)
	r.adopt(1, &worker.Session{Phase: worker.Phase_PHASE_ACCOUNT, Ready: true})
	r.session(func(s *session) {
		if s.alternatives.winner != nil {
			t.Error("one goes on before the other is back")
		}
	})
	r.adopt(0, &worker.Session{Phase: worker.Phase_PHASE_END, Failed: &worker.Failed{Error: string(api.AuthenticationFailed), PamResult: 7}})
	r.session(func(s *session) {
		if s.usedService() != "finger" || s.state != api.StateOpening {
			t.Errorf("the session is %s, and %q goes on", s.state, s.usedService())
		}
	})
}

func opened() *worker.Session {
	return &worker.Session{Phase: worker.Phase_PHASE_OPEN, Ready: true, Proceeds: true, Opened: &worker.Opened{}}
}

// What was open does not come back as opening, by the worker of the one that lost.
func TestASessionOnlyGoesForwardAcrossBrokers(t *testing.T) {
	t.Run("of alternatives, one is open and one closes", func(t *testing.T) {
		r := startReturning(t, true)
		r.adopt(0, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE, Closing: true})
		r.wantTold()
		r.adopt(1, opened())
		r.wantTold("SessionAdded", "is open")
		r.session(func(s *session) {
			says(t, s.transactions[0], isClosed)
			if s.usedService() != "finger" || len(s.transactions) != 1 || s.asked {
				t.Errorf("%q goes on, and there are %d transactions; it is to close: %t", s.usedService(), len(s.transactions), s.asked)
			}
		})
		r.wantTold()
	})
	t.Run("the one that closes has ended when the other comes", func(t *testing.T) {
		r := startReturning(t, true)
		r.adopt(0, &worker.Session{Phase: worker.Phase_PHASE_END, Closing: true, Closed: &worker.Closed{}})
		r.wantTold()
		r.adopt(1, opened())
		r.wantTold("SessionAdded", "is open")
	})
	t.Run("all alternatives close", func(t *testing.T) {
		r := startReturning(t, true)
		for i := range 2 {
			r.adopt(i, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE, Ready: true, Closing: true})
		}
		r.wantTold("SessionAdded", "is closing")
		r.session(func(s *session) {
			for _, tr := range slices.Clone(s.transactions) {
				if tr.late == nil {
					t.Error("it may take for ever")
				}
				says(t, tr, isClosed)
			}
			if s.state != api.StateClosed {
				t.Errorf("it is %s, %s", s.state, s.text)
			}
		})
	})
	t.Run("the one that is open does not come", func(t *testing.T) {
		r := startReturning(t, true)
		r.adopt(0, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE, Closing: true})
		r.session((*session).goOnWithout)
		r.wantTold("SessionAdded", "is closing")
		r.session(func(s *session) { says(t, s.transactions[0], isClosed) })
		r.wantTold("now closed")
	})
	t.Run("one that is ready was told to close, and one asks", func(t *testing.T) {
		r := startReturning(t, true)
		r.adopt(0, &worker.Session{Phase: worker.Phase_PHASE_ACCOUNT, Ready: true, Closing: true})
		r.adopt(1, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE, Prompt: asksHere.GetPrompt()})
		r.session(func(s *session) {
			if s.alternatives.winner != nil || len(s.prompts) != 1 || s.state != api.StateOpening {
				t.Errorf("%q goes on, %d prompts wait, and it is %s", s.usedService(), len(s.prompts), s.state)
			}
		})
	})
	t.Run("one transaction, which closes in a module", func(t *testing.T) {
		r := startReturning(t, true)
		r.starts[0].Alternative = nil
		r.adopt(0, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE, Closing: true})
		r.wantTold("SessionAdded", "is closing")
		r.session(func(s *session) {
			if s.transactions[0].late == nil {
				t.Error("it may take for ever")
			}
			says(t, s.transactions[0], isClosed)
		})
		r.wantTold("now closed")
	})
}

// The owner has left while no broker was there, and the workers come one after the
// other: that is one end, not two.
func TestASessionWhoseOwnerHasLeftIsRemovedOnce(t *testing.T) {
	asks := func() *worker.Session {
		return &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE, Prompt: asksHere.GetPrompt()}
	}
	r := startReturning(t, false)
	r.adopt(0, asks())
	r.session(func(s *session) {
		if q := s.transactions[0].prompt; q == nil || !q.muted {
			t.Errorf("somebody is asked for it: %+v", q)
		}
		says(t, s.transactions[0], isClosed)
	})
	r.wantTold("SessionAdded", "is opening", "now closing")
	r.adopt(1, asks())
	r.session(func(s *session) {
		if s.transactions[0].late == nil {
			t.Error("the second one is not closed")
		}
		says(t, s.transactions[0], isClosed)
	})
	r.wantTold("now closed", "SessionRemoved")
	r.adopt(1, asks()) // once more, as one that comes after the others were given up
	r.b.do(func() {
		if len(r.b.sessions) > 0 || len(r.b.prompts) > 0 {
			t.Errorf("there are %d sessions, %d prompts", len(r.b.sessions), len(r.b.prompts))
		}
	})
	r.wantTold()
}

// One that has not begun is nobody's business.
func TestNothingIsToldOfASessionThatDoesNotBegin(t *testing.T) {
	r := startReturning(t, false)
	s := r.b.newSession(openedAs(r.starts[0]))
	s.started = make(chan error, 1)
	r.b.do(func() {
		r.b.add(s, nil)
		s.close("its owner left the bus")
	})
	r.wantTold()
}
