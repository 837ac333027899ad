// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
)

// returning has workers of a session with the services word and finger come back to a
// broker that has just started.
type returning struct {
	t      *testing.T
	b      *Broker
	starts []*worker.Start
	adopt  func(i int, d *worker.Session)
}

func startReturning(t *testing.T, linger bool) *returning {
	t.Helper()
	b, _, idle := startOnBus(t)
	r := &returning{t: t, b: b, starts: startsOf(&worker.Start{
		Session: 7, Service: "word", User: "anna", Owner: &worker.Owner{}, Options: &worker.Options{Attempts: 1, Linger: linger},
	}, []string{"finger"})}
	r.adopt = func(i int, d *worker.Session) {
		d.Start = r.starts[i]
		b.adopt(idle(), d)
	}
	return r
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
