// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"log/slog"
	"runtime"

	"github.com/pamprompt/pamprompt/api/worker"
)

// sweep is Sweep. Like a mirror it is at work on a thread of its own, so that the
// user's directory holds up nobody, and one at a time.
func (s *session) sweep(uid uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != nil {
		return fmt.Errorf("%w: a Sweep for a worker that has a session", worker.ErrMalformed)
	}
	if s.sweeping || !hasUserDir(uid) {
		return nil
	}
	s.sweeping = true
	go func() {
		err := sweepUserDir(uid, onlyDebug(s.log))
		s.log.Debug("a user's own ask-password directory was swept", "uid", uid, "error", err)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sweeping = false
	}()
	return nil
}

// sweepUserDir ends the thread that it runs on, as the user's it is of no other
// use.
func sweepUserDir(uid uint32, log *slog.Logger) error {
	runtime.LockOSThread() // and never unlock: that is what ends the thread
	place, err := openUserDir(uid, openDir, log)
	if err != nil || place == nil {
		return err
	}
	defer place.Close()
	return place.Sweep()
}
