// SPDX-License-Identifier: Apache-2.0

package model

import (
	"os"
	"slices"

	"github.com/pamprompt/pamprompt/api"
)

// What the stack asks, in this order; after a wrong password from the start, if there
// is an attempt left. The last question is one of pam_open_session.
const (
	token = iota
	password
	last
)

const (
	service = "model"
	right   = "right"
)

var (
	questions = [...]string{token: "Token: ", password: "Password: ", last: "Session: "}
	// variables of the PAM environment show which answers the module was given.
	variables = [...]string{token: "TOKEN", last: "LAST"}
)

// session is what a session must be.
type session struct {
	id           uint64
	conversation *api.Conversation // nil unless it is one
	linger       bool
	owner        *api.Client // nil when it has left
	attempts     int

	step, attempt, asked int
	pending              []*question
	given                map[string]string // what the environment must say

	state  string
	code   api.Code // of a session that failed
	listed bool     // the broker knows of it
	may    []ending // it has ended in one of these ways; nil when it is known, or has not
}

// ending is how a session ends.
type ending struct {
	state string
	code  api.Code
}

// question is a prompt that waits.
type question struct {
	s              *session
	number         uint64 // 0 while it was not seen
	message        string
	attempt, index int
	pipe           *os.File // of a conversation's
}

func (s *session) over() bool { return s.state == api.StateClosed || s.state == api.StateFailed }

// begins is the begin of a session with a worker.
func (s *session) begins() {
	s.state, s.listed, s.attempt, s.given = api.StateOpening, true, 1, make(map[string]string)
	s.asks(token)
}

func (s *session) asks(step int) {
	q := &question{s: s, message: questions[step], attempt: s.attempt, index: s.asked}
	if step == last {
		q.attempt = 1 // attempts are at authentication
	}
	s.step, s.pending = step, []*question{q}
	s.asked++
}

// wouldFail reports whether an answer to the question that waits is the end.
func (s *session) wouldFail(text string) bool {
	return s.conversation == nil && s.step == password && text != right && s.attempt == s.attempts
}

// takes is an answer that whoever asked has.
func (s *session) takes(q *question, text string) {
	s.pending = slices.DeleteFunc(s.pending, func(other *question) bool { return other == q })
	switch {
	case s.conversation != nil:
	case s.wouldFail(text):
		s.ends(ending{api.StateFailed, api.AuthenticationFailed})
	case s.step == password && text != right:
		s.attempt++
		s.asks(token)
	case s.step == password:
		s.asks(last)
	case s.step == token:
		s.given[variables[token]] = text
		s.asks(password)
	default:
		s.given[variables[last]] = text
		s.state = api.StateOpen
	}
}

// gives up is a question that ends without an answer, which the stack takes for the
// end.
func (s *session) givesUp(q *question, code api.Code) {
	s.pending = slices.DeleteFunc(s.pending, func(other *question) bool { return other == q })
	if s.conversation == nil {
		s.ends(ending{api.StateFailed, code})
	}
}

// ends is the end of a session, in one of the ways that are given. A session that has
// ended may have done so in these ways too, if it did at the same time.
func (s *session) ends(ways ...ending) {
	s.pending = nil
	if len(ways) == 1 {
		s.state, s.code = ways[0].state, ways[0].code
		return
	}
	s.may = ways
}

// isLeft is what becomes of a session whose owner leaves the bus.
func (s *session) isLeft() {
	s.owner = nil
	if s.linger {
		return
	}
	if !s.over() {
		s.ends(ending{api.StateClosed, ""})
	}
	s.listed, s.may = false, nil
}

// isTakenOver is what becomes of a session when the broker was killed and another one
// has come: workers bring theirs along, and nobody the rest.
func (s *session) isTakenOver() {
	switch {
	case s.conversation != nil, s.over():
		s.listed, s.pending = false, nil
		s.ends(ending{api.StateClosed, ""})
	case s.owner == nil:
		s.isLeft()
	}
}
