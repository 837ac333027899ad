// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
)

// close is Close: the question that waits fails, so do all later ones, and PAM
// gets a time to unwind in.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.over() {
		return
	}
	s.closed, s.refusing, s.state.Closing = true, true, true
	if s.question != nil {
		s.withdrawLocked(reply{outcome: worker.Outcome_OUTCOME_SESSION_CLOSED})
	}
	close(s.closing)
	s.giveUpStdio()
	if !s.working {
		s.watch()
	}
}

// closeLimit is how long what Close ends may take: the processes of the session,
// and then PAM.
func (s *session) closeLimit() time.Duration {
	if limit := duration(s.state.GetStart().GetCloseTimeoutUsec()); limit != 0 {
		return limit
	}
	return closeTimeout
}

// watch gives PAM a time to unwind in. The caller holds the lock.
func (s *session) watch() {
	limit := s.closeLimit()
	time.AfterFunc(limit, func() { s.overdue(limit) })
}

// work says that processes of the session run. PAM's time begins after them.
func (s *session) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.working = true
}

// rest says that no process of the session is left.
func (s *session) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.working = false
	if s.closed {
		s.watch()
	}
}

// abandon closes a session whose broker has been away for so long that nobody
// will come to close it. One that lingers goes on: it is meant to.
func (s *session) abandon(away time.Duration) {
	s.mu.Lock()
	leave := s.state == nil || s.closed || s.over() || s.state.GetStart().GetOptions().GetLinger()
	s.mu.Unlock()
	if leave {
		return
	}
	s.log.Warn("the broker does not come back: the session is closed", "session", s.start().GetSession(), "away", away)
	s.close()
}

// abandonUnheard is abandon when nobody has taken what was said on a connection: systemd keeps
// the socket, and has it dialled, also when no broker ever starts. One that does takes
// everything sooner or later, but may not have taken yet what was said a moment ago.
func (s *session) abandonUnheard(conn *worker.Conn, away time.Duration) {
	const looks = 20
	for range looks {
		if conn.Taken() {
			return
		}
		time.Sleep(min(away, 5*time.Second) / looks)
	}
	s.abandon(away)
}

// hasEnded tells whether the broker is told, or to be told, that the session is over.
func (s *session) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over()
}

// isClosed tells whether Close came.
func (s *session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// overdue ends the process when a module did not return in time after Close.
// Nothing can interrupt a module, so PAM is not closed, which the text says. The
// time that libpam waits after a failure is not the module's.
func (s *session) overdue(limit time.Duration) {
	s.mu.Lock()
	if s.over() || s.working {
		s.mu.Unlock()
		return
	}
	if left := delayLeft(); left > 0 {
		s.mu.Unlock()
		time.AfterFunc(left+limit, func() { s.overdue(limit) })
		return
	}
	phase := s.state.GetPhase()
	s.failLocked(&failure{
		code:   workerFailed,
		status: pam.ErrSystem,
		phase:  phase,
		text:   fmt.Sprintf("a module did not return within %v of Close in phase %s; PAM was not closed", limit, phase.Word()),
	})
	s.mu.Unlock()
	_ = s.waitTold()
	killChildren(os.Getpid())
	os.Exit(1)
}

// killChildren ends what a hanging module has started and waits for, a command
// of pam_exec for instance, with all that this has started in turn. What made
// itself a daemon is no child any more and stays.
func killChildren(pid int) {
	for _, child := range children(pid) {
		killChildren(child)
		_ = unix.Kill(child, unix.SIGKILL)
	}
}

// fail is the end of a session that did not open.
func (s *session) fail(f *failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(f)
}

func (s *session) failLocked(f *failure) {
	if s.over() {
		return
	}
	s.state.Failed = &worker.Failed{
		Error:     f.code,
		PamResult: int32(f.status),
		Text:      worker.Cut(f.text, worker.MaxString),
		Phase:     f.phase,
	}
	s.last(&worker.ToBroker{Message: &worker.ToBroker_Failed{Failed: s.state.Failed}})
}

// end is the end of a session that was open, or was closed before.
func (s *session) end(status pam.Error, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() {
		return
	}
	s.state.Closed = &worker.Closed{PamResult: int32(status), Text: worker.Cut(text, worker.MaxString)}
	s.last(&worker.ToBroker{Message: &worker.ToBroker_Closed{Closed: s.state.Closed}})
}

// last sends the last packet. The caller holds the lock.
func (s *session) last(m *worker.ToBroker) {
	if s.tell(m) {
		s.markTold()
	}
}

// over tells whether there is a result. The caller holds the lock.
func (s *session) over() bool {
	return s.state.GetClosed() != nil || s.state.GetFailed() != nil
}

// markTold is called once: over is final, and told by the packet or by a Hello.
func (s *session) markTold() {
	select {
	case <-s.told:
	default:
		close(s.told)
	}
}

// waitTold waits until the broker knows the result, but not for ever.
func (s *session) waitTold() error {
	select {
	case <-s.told:
		return nil
	case <-time.After(farewell):
		return errors.New("no broker came back to be told how the session ended")
	}
}
