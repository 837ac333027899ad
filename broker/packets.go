// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// Packet is one packet of the session's worker. It runs in the worker's
// reader and returns when the owner has dealt with it.
func (s *session) Packet(m *worker.ToBroker) {
	var number uint64
	if m.GetPrompt() != nil {
		var err error
		if number, err = s.b.numbers.next(context.Background()); err != nil {
			return
		}
	}
	s.b.do(func() {
		if s.over() {
			return
		}
		if err := s.handle(m, number); err != nil {
			s.lost(fmt.Errorf("%w: %w", worker.ErrMalformed, err))
		}
	})
	// A module that talks without end waits here, before its words fill our
	// memory: the bus is slower than it.
	s.b.bus.WaitRoom()
}

// Lost is the end of the worker's connection.
func (s *session) Lost(err error) {
	if errors.Is(err, io.EOF) {
		err = errors.New("it ended without saying why")
	}
	s.b.do(func() { s.lost(err) })
}

// handle checks a packet against the state that the session is in. An error
// is a break of the protocol, and the end of the session.
func (s *session) handle(m *worker.ToBroker, number uint64) error {
	if s.started != nil && m.GetEntering() == nil && m.GetFailed() == nil && m.GetClosed() == nil {
		return errors.New("it began with something else than Entering")
	}
	s.progress(m)
	switch m := m.GetMessage().(type) {
	case *worker.ToBroker_Entering:
		return s.entering(m.Entering)
	case *worker.ToBroker_Resolved:
		s.resolved, s.uid = true, m.Resolved.GetUid()
		if s.prompt != nil { // it is known now whom it is about
			s.prompt.offer()
		}
		s.mirror()
	case *worker.ToBroker_Prompt:
		if s.prompt != nil {
			return errors.New("it asked while a question was open")
		}
		s.numbered(m.Prompt.GetIndex(), number)
		s.ask(m.Prompt, number)
	case *worker.ToBroker_Taken:
		return s.taken(m.Taken)
	case *worker.ToBroker_Withdrawn:
		return s.withdrawn(m.Withdrawn)
	case *worker.ToBroker_Text:
		s.tell(m.Text)
	case *worker.ToBroker_Opened:
		return s.open(m.Opened)
	case *worker.ToBroker_Exited:
		return s.exitedWith(m.Exited)
	case *worker.ToBroker_Closed:
		s.closed(m.Closed)
	case *worker.ToBroker_Failed:
		s.failed(m.Failed)
	}
	return nil
}

// progress lets the next answer go, when PAM goes on with other things than the
// last one: what it thought of that it has said, and waited as long as it wanted.
func (s *session) progress(m *worker.ToBroker) {
	switch m.GetMessage().(type) {
	case *worker.ToBroker_Entering, *worker.ToBroker_Prompt, *worker.ToBroker_Opened:
		s.pass()
	}
}

// entering follows the phases, which only go forward, except that
// authentication may be tried again.
func (s *session) entering(e *worker.Entering) error {
	again := e.GetPhase() == worker.Phase_PHASE_AUTHENTICATE && s.phase == e.GetPhase() && e.GetAttempt() > s.attempt
	first := e.GetPhase() == worker.Phase_PHASE_START && s.started != nil
	if e.GetPhase() <= s.phase && !again && !first || e.GetPhase() == worker.Phase_PHASE_OPEN {
		return fmt.Errorf("it went from phase %s to %s", s.phase.Word(), e.GetPhase().Word())
	}
	s.phase, s.attempt = e.GetPhase(), e.GetAttempt()
	if s.state == api.StateOpen { // without Close: the last process of the session has ended
		s.enter(api.StateClosing)
	}
	if first {
		s.take(nil)
		s.announce()
		owner := s.start.GetOwner()
		more := []slog.Attr{slog.Int("worker", s.worker.PID())}
		if program := s.program(); program != "" {
			more = append(more, slog.String("command", program))
		}
		s.b.audit(slog.LevelInfo, "session begins", eventOpen, s.about(),
			origin{channelDBus, owner.GetUid(), owner.GetPid(), owner.GetName()}.attrs(), more)
	}
	return nil
}

// numbered tells the worker the number of its prompt before anybody else
// hears of it, so that a later broker can be told.
func (s *session) numbered(index uint32, number uint64) {
	s.send(&worker.ToWorker{Message: &worker.ToWorker_Numbered{Numbered: &worker.Numbered{Index: index, Number: number}}})
}

// send tells the worker something that needs no answer. One that cannot be told
// has ended: what it said last is on its way, and is dealt with when it comes.
// One that does not read is given up, and its session ends with the connection.
func (s *session) send(m *worker.ToWorker) {
	if err := s.worker.Send(m); errors.Is(err, worker.ErrBusy) {
		s.b.log.Warn("a worker does not read what it is told", "session", s.id, "worker", s.worker.PID())
		s.worker.Close()
	}
}

// taken is what the worker says of an answer.
func (s *session) taken(t *worker.Taken) error {
	q := s.prompt
	if q == nil || s.question.GetIndex() != t.GetIndex() || q.claim == nil {
		return nil // the question ended while the answer was on its way
	}
	if t.GetError() == "" {
		s.b.auditPrompt(eventAnswer, q.claim.by, q)
		q.release(nil)
		q.end(api.OutcomeAnswered)
		return nil
	}
	if !api.Code(t.GetError()).Known() {
		return fmt.Errorf("it refused an answer with an error of no name")
	}
	q.release(&api.Error{Code: api.Code(t.GetError()), Text: clean([]byte(t.GetText()))})
	s.again()
	s.pass()
	return nil
}

// again has the prompt wait once more: the answer that came was of no use.
func (s *session) again() {
	s.prompt.mirror.again()
	s.mirror()
	s.notify()
}

func (s *session) withdrawn(w *worker.Withdrawn) error {
	q := s.prompt
	if q == nil || s.question.GetIndex() != w.GetIndex() {
		return errors.New("it withdrew a question that was not open")
	}
	switch w.GetOutcome() {
	case worker.Outcome_OUTCOME_CANCELLED:
		q.end(api.OutcomeCancelled)
	case worker.Outcome_OUTCOME_EXPIRED:
		q.end(api.OutcomeExpired)
	case worker.Outcome_OUTCOME_ANSWERED:
		s.b.auditPrompt(eventAnswer, origin{channel: channelUserAgent, uid: s.uid}, q)
		q.end(api.OutcomeAnswered)
	default:
		q.end(api.OutcomeSessionClosed)
	}
	return nil
}

// tell passes on a text that wants no answer.
func (s *session) tell(m *worker.Message) {
	s.notice(m)
	text := bus.Signal{
		Path: api.RootPath, Name: api.ManagerInterface + ".Message",
		Values: []any{s.path(), styleName(m.GetStyle()), clean(m.GetText())},
	}
	for _, c := range s.hearers() {
		text.Dest = c.peer.Name
		s.b.bus.Send(text)
	}
	for c := range s.b.agents {
		text.Dest = c.peer.Name
		switch {
		case s.b.hears(c, s):
			s.b.bus.Send(text)
		case s.b.ruling(c, s).Verdict == policy.Polkit:
			s.b.owe(c, s, text)
		}
	}
}

func (s *session) open(o *worker.Opened) error {
	if s.opened || s.prompt != nil || s.phase > worker.Phase_PHASE_OPEN {
		return fmt.Errorf("it opened in phase %s", s.phase.Word())
	}
	if s.runs() != (o.GetPid() != 0) {
		return errors.New("it opened without the command that it was to run, or with one of its own")
	}
	s.pid = o.GetPid()
	s.phase = worker.Phase_PHASE_OPEN
	s.environment, s.openedAt = strs(o.GetEnvironment()), o.GetOpenedUsec()
	if s.state == api.StateOpening { // not when it is being closed already
		s.enter(api.StateOpen)
	}
	return nil
}

func (s *session) closed(c *worker.Closed) {
	text := clean(c.GetText())
	if s.why != "" {
		text = strings.TrimSuffix(s.why+"; "+text, "; ")
	}
	s.end(api.StateClosed, c.GetPamResult(), text)
}

func (s *session) failed(f *worker.Failed) {
	code := api.Code(f.GetError())
	if !code.Known() {
		code = api.WorkerFailed // of a later version
	}
	s.end(api.StateFailed, f.GetPamResult(), (&api.Error{Code: code, Text: clean(f.GetText())}).Error())
}

func strs(entries [][]byte) []string {
	out := make([]string, len(entries))
	for i, entry := range entries {
		out[i] = clean(entry)
	}
	return out
}
