// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"slices"

	"github.com/pamprompt/pamprompt/api/worker"
)

// await is where an alternative stops: its user has authenticated and may use the
// account, and nothing of the session was done yet. It says so, and returns when the
// broker lets it go on, or closes it.
func (s *session) await() *failure {
	s.mu.Lock()
	alone := s.state.GetStart().GetAlternative() == nil
	if !alone && !s.closed {
		s.state.Ready = true
		s.tell(&worker.ToBroker{Message: &worker.ToBroker_Ready{Ready: &worker.Ready{}}})
	}
	s.mu.Unlock()
	if alone {
		return nil
	}
	select {
	case <-s.proceed:
	case <-s.closing:
	}
	if s.isClosed() {
		return &failure{} // Close says it all
	}
	return nil
}

// goOn is Proceed. It comes once, to an alternative that is ready.
func (s *session) goOn() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.GetReady() || s.state.GetProceeds() {
		return fmt.Errorf("%w: a Proceed for what does not wait for it", worker.ErrMalformed)
	}
	s.state.Proceeds = true
	close(s.proceed)
	return nil
}

// otherEnded is Ended: the broker that is there knows it, the next one would not.
func (s *session) otherEnded(e *worker.Ended) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.state.GetStart().GetAlternative()
	if int(e.GetIndex()) >= len(a.GetServices()) || e.GetIndex() == a.GetIndex() {
		return fmt.Errorf("%w: the end of what is no other alternative", worker.ErrMalformed)
	}
	s.state.Ended = slices.DeleteFunc(s.state.GetEnded(), func(known *worker.Ended) bool { return known.GetIndex() == e.GetIndex() })
	s.state.Ended = append(s.state.Ended, e)
	return nil
}

// giveUpStdio lets go of what the command would have had, when another
// alternative goes on: whoever reads the other end of a pipe waits for its end, and a
// module may take its time to return. Nobody takes them any more: PAM was told of the
// terminal, and the command is not begun. The caller holds the lock.
func (s *session) giveUpStdio() {
	if s.state.GetStart().GetAlternative() != nil && !s.state.GetProceeds() && s.state.GetPhase() > worker.Phase_PHASE_START {
		s.closeStdio()
	}
}
