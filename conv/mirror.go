// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"context"
	"log/slog"
	"runtime"
	"time"

	"github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/api/worker"
)

// removal is how long the end of a question waits until its copy is gone. On a
// file system that works that is nothing.
const removal = 100 * time.Millisecond

// mirror is a copy of the question that waits, in the ask-password directory of
// the user that it is about, where the user's own agents can answer it. The
// broker has no capabilities, so this is the worker's to do. There is one copy
// at a time, on a thread of its own: what the user does to the directory holds
// up neither PAM nor the broker.
type mirror struct {
	index uint32
	taken bool          // back: nothing that comes from it counts any more
	hide  chan struct{} // closed when it is to go
	gone  chan struct{} // closed when nothing of it is left
}

// mirror is Mirror. It never waits for the user's directory, except for the
// removal of a copy.
func (s *session) mirror(index uint32, shown bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.waits(index):
	case shown:
		s.mirrorLocked()
	default:
		s.unmirror()
	}
}

func (s *session) mirrorLocked() {
	p, resolved := s.question.prompt, s.state.GetResolved()
	if p.GetStyle() != worker.Style_STYLE_SECRET && p.GetStyle() != worker.Style_STYLE_VISIBLE {
		return
	}
	if resolved == nil || !hasUserDir(resolved.GetUid()) {
		return
	}
	if s.mirrored != nil && !s.mirrored.over() {
		return // it stands, or could not be made, or an earlier one hangs
	}
	m := &mirror{index: p.GetIndex(), hide: make(chan struct{}), gone: make(chan struct{})}
	s.mirrored = m
	request := askpassword.Ask(s.state.GetStart(), p)
	go func() {
		err := m.stand(resolved.GetUid(), request, s.log, func(r askpassword.Reply) { s.replied(m, r) })
		close(m.gone)
		if err != nil {
			s.complain("a question does not stand in the user's own ask-password directory", "uid", resolved.GetUid(), "error", err)
		}
	}()
}

// over tells whether the copy was taken back and is gone.
func (m *mirror) over() bool {
	select {
	case <-m.gone:
		return m.taken
	default:
		return false
	}
}

// unmirror takes the copy back, if there is one, and waits until it is gone,
// unless the directory hangs. The caller holds the lock.
func (s *session) unmirror() {
	m := s.mirrored
	if m == nil || m.taken {
		return
	}
	m.taken = true
	close(m.hide)
	limit := time.NewTimer(removal)
	defer limit.Stop()
	select {
	case <-m.gone:
	case <-limit.C:
		s.complain("a user's own ask-password directory hangs", "uid", s.state.GetResolved().GetUid())
	}
}

// complain logs what a user's directory is to blame for: once, since the user
// could make it as often as there are questions.
func (s *session) complain(text string, args ...any) {
	s.complaint.Do(func() { s.log.Warn(text, args...) })
}

// stand keeps the copy there until it is to go, and ends the thread that it
// runs on, which is not to be used by anybody else. The error says why there
// was no copy.
func (m *mirror) stand(uid uint32, request askpassword.Request, log *slog.Logger, replied func(askpassword.Reply)) error {
	runtime.LockOSThread() // and never unlock: that is what ends the thread
	log = onlyDebug(log)
	place, err := openUserDir(uid, openOrMake, log)
	if err != nil {
		return err
	}
	if place == nil {
		log.Debug("the user has no runtime directory, so no agents", "uid", uid)
		return nil
	}
	defer place.Close()
	if err := place.Sweep(); err != nil {
		return err
	}
	select {
	case <-m.hide:
		return nil
	default:
	}
	posted, err := place.Post(request, replied)
	if err != nil {
		return err
	}
	<-m.hide
	posted.Close()
	return nil
}

// onlyDebug is a log for what the user does in the user's own directory, which is
// not the system's news.
func onlyDebug(log *slog.Logger) *slog.Logger {
	if log.Enabled(context.Background(), slog.LevelDebug) {
		return log
	}
	return slog.New(slog.DiscardHandler)
}

// replied is what an agent of the user said. It runs on whatever thread reads
// the socket. The answer is in locked memory already and goes on to libpam as
// it is; a NUL cannot be in it.
func (s *session) replied(m *mirror, r askpassword.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.taken || !s.waits(m.index):
		r.Answer.Wipe()
	case r.Answer == nil:
		s.withdrawLocked(reply{outcome: worker.Outcome_OUTCOME_CANCELLED})
	default:
		s.withdrawLocked(reply{answer: r.Answer, outcome: worker.Outcome_OUTCOME_ANSWERED})
	}
}
