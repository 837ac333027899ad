// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pamprompt/pamprompt/api/worker"
)

// lookUp is Resolve. NSS may hang, on a server that does not answer, so nothing
// waits for it here: a broker that is tired of waiting hangs up, and finds the
// worker idle when it dials again. One look-up runs at a time, so that what hangs
// holds one thread. A reply goes to the connection that asked, or to nobody.
func (s *session) lookUp(uid uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn := s.conn
	switch {
	case s.state != nil:
		return fmt.Errorf("%w: a Resolve for a worker that has a session", worker.ErrMalformed)
	case conn == nil:
		return nil
	case s.asking == conn:
		return fmt.Errorf("%w: a Resolve before the last one was answered", worker.ErrMalformed)
	}
	s.asking = conn
	go func() {
		s.lookups.Lock()
		defer s.lookups.Unlock()
		if !s.isAsking(conn) {
			return
		}
		s.log.Debug("ask NSS for the broker", "uid", uid)
		name, err := findName(uid)
		s.found(conn, uid, name, err)
	}()
	return nil
}

// isAsking tells whether the broker still waits for a Name on this connection.
func (s *session) isAsking(conn *worker.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asking == conn && s.conn == conn
}

// found says what NSS said. That it could not be asked is not that it knows
// nobody: the worker hangs up then.
func (s *session) found(conn *worker.Conn, uid uint32, name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking != conn || s.conn != conn {
		return
	}
	s.asking = nil
	if err != nil {
		s.log.Warn("look up an account for the broker", "uid", uid, "error", err)
		_ = conn.Close()
		s.conn = nil
		return
	}
	if s.state != nil {
		return
	}
	if len(name) > worker.MaxName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		name = "" // no caller of the broker could have meant it
	}
	s.tell(&worker.ToBroker{Message: &worker.ToBroker_Name{Name: &worker.Name{Uid: uid, Name: name}}})
}
