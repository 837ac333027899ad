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
	side // what the other alternative asks, and nothing else
)

const (
	service = "model"
	other   = "aside" // of a session with alternatives
	right   = "right"
)

var (
	questions = [...]string{token: "Token: ", password: "Password: ", last: "Session: ", side: "Other: "}
	// variables of the PAM environment show which answers the module was given.
	variables = [...]string{token: "TOKEN", last: "LAST", side: "OTHER"}
)

// session is what a session must be.
type session struct {
	id           uint64
	conversation *api.Conversation // nil unless it is one
	linger       bool
	owner        *api.Client // nil when it has left
	attempts     int

	alternatives bool
	used         string     // which of them goes on; empty while that is not decided
	failed       []api.Code // of one that has
	mainFailed   bool       // it is the main one

	step, attempt, asked int // of the main one
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
	step           int
	message        string
	attempt, index int
	pipe           *os.File // of a conversation's
}

func (s *session) over() bool { return s.state == api.StateClosed || s.state == api.StateFailed }

// begins is the begin of a session with a worker.
func (s *session) begins() {
	s.state, s.listed, s.attempt, s.given = api.StateOpening, true, 1, make(map[string]string)
	s.asks(token)
	if s.alternatives {
		s.pending = append(s.pending, &question{s: s, step: side, message: questions[side], attempt: 1})
	} else {
		s.used = service
	}
}

// asks is the next question of the main one.
func (s *session) asks(step int) {
	q := &question{s: s, step: step, message: questions[step], attempt: s.attempt, index: s.asked}
	if step == last {
		q.attempt = 1 // attempts are at authentication
	}
	s.step, s.pending = step, append(s.pending, q)
	s.asked++
}

// isWrong reports whether an answer is the end of the transaction that asked.
func (q *question) isWrong(text string) bool {
	return q.step == password && text != right && q.s.attempt == q.s.attempts
}

// isHalf reports whether one alternative has failed, and the other may go on.
func (s *session) isHalf() bool {
	return s.alternatives && s.used == "" && len(s.failed) > 0 && !s.over() && s.may == nil
}

// lost is the alternative that has failed, when one has.
func (s *session) lost() string {
	if s.mainFailed {
		return service
	}
	return other
}

// goesOn is one of the alternatives that has been first: the other asks nothing more.
func (s *session) goesOn(which string) {
	s.used, s.pending = which, nil
}

// fails is the end of one transaction, and of the session if there is no other.
func (s *session) fails(q *question, code api.Code) {
	if s.alternatives && s.used == "" && len(s.failed) == 0 {
		s.failed = append(s.failed, code)
		s.mainFailed = q == nil || q.step != side
		return
	}
	if s.isHalf() && s.mainFailed {
		code = s.failed[0]
	}
	s.ends(ending{api.StateFailed, code})
}

// dropped takes a question out of those that wait.
func (s *session) dropped(q *question) {
	s.pending = slices.DeleteFunc(s.pending, func(other *question) bool { return other == q })
}

// takes is an answer that whoever asked has.
func (s *session) takes(q *question, text string) {
	s.dropped(q)
	switch {
	case s.conversation != nil:
	case q.isWrong(text):
		s.fails(q, api.AuthenticationFailed)
	case q.step == side:
		s.goesOn(other)
		s.given = map[string]string{variables[side]: text}
		s.state = api.StateOpen
	case q.step == password && text != right:
		s.attempt++
		s.asks(token)
	case q.step == password:
		s.goesOn(service)
		s.asks(last)
	case q.step == token:
		s.given[variables[token]] = text
		s.asks(password)
	default:
		s.given[variables[last]] = text
		s.state = api.StateOpen
	}
}

// givesUp is a question that ends without an answer, which the stack takes for the
// end.
func (s *session) givesUp(q *question, code api.Code) {
	s.dropped(q)
	if s.conversation == nil {
		s.fails(q, code)
	}
}

// isKilled is the end of the worker that leads: of the alternative that goes on, else
// of the main one while it runs.
func (s *session) isKilled() {
	var leading *question
	for _, q := range s.pending {
		if leading == nil || q.step != side {
			leading = q
		}
	}
	s.dropped(leading)
	s.fails(leading, api.WorkerFailed)
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
