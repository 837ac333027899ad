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
)

// Packet is one packet of the transaction's worker. It runs in the worker's
// reader and returns when the owner has dealt with it.
func (t *transaction) Packet(m *worker.ToBroker) {
	var number uint64
	if m.GetPrompt() != nil {
		var err error
		if number, err = t.s.b.numbers.next(context.Background()); err != nil {
			return
		}
	}
	t.s.b.do(func() {
		if t.over {
			return
		}
		if err := t.handle(m, number); err != nil {
			t.broke(fmt.Errorf("%w: %w", worker.ErrMalformed, err))
		}
	})
	// A module that talks without end waits here, before its words fill our
	// memory: the bus is slower than it.
	t.s.b.bus.WaitRoom()
}

// Lost is the end of the worker's connection.
func (t *transaction) Lost(err error) {
	if errors.Is(err, io.EOF) {
		err = errors.New("it ended without saying why")
	}
	t.s.b.do(func() { t.lost(err) })
}

// handle checks a packet against the state that the transaction is in. An error
// is a break of the protocol, and the end of the transaction.
func (t *transaction) handle(m *worker.ToBroker, number uint64) error {
	t.progress(m)
	if t.losing && !ends(m) {
		return nil
	}
	if !t.begun && m.GetEntering() == nil && !ends(m) {
		return errors.New("it began with something else than Entering")
	}
	switch m := m.GetMessage().(type) {
	case *worker.ToBroker_Entering:
		return t.entering(m.Entering)
	case *worker.ToBroker_Resolved:
		if t.s.resolved && t.s.uid != m.Resolved.GetUid() {
			return errors.New("it took the user for somebody else before")
		}
		t.s.resolved, t.s.uid = true, m.Resolved.GetUid()
		if t.prompt != nil { // it is known now whom it is about
			t.prompt.offer()
		}
		t.mirror(t.prompt)
	case *worker.ToBroker_Prompt:
		if t.prompt != nil {
			return errors.New("it asked while a question was open")
		}
		t.numbered(m.Prompt.GetIndex(), number)
		t.ask(m.Prompt, number)
	case *worker.ToBroker_Taken:
		return t.taken(m.Taken)
	case *worker.ToBroker_Withdrawn:
		return t.withdrawn(m.Withdrawn)
	case *worker.ToBroker_Text:
		t.tell(m.Text)
	case *worker.ToBroker_Ready:
		return t.isReady()
	case *worker.ToBroker_Opened:
		return t.open(m.Opened)
	case *worker.ToBroker_Exited:
		return t.s.exitedWith(m.Exited)
	case *worker.ToBroker_Closed:
		t.closed(m.Closed)
	case *worker.ToBroker_Failed:
		t.failed(m.Failed)
	}
	return nil
}

// progress lets the next answer go, when PAM goes on with other things than the
// last one: what it thought of that it has said, and waited as long as it wanted.
func (t *transaction) progress(m *worker.ToBroker) {
	switch m.GetMessage().(type) {
	case *worker.ToBroker_Entering, *worker.ToBroker_Prompt, *worker.ToBroker_Ready, *worker.ToBroker_Opened:
		t.pass()
	}
}

// entering follows the phases, which only go forward, except that
// authentication may be tried again.
func (t *transaction) entering(e *worker.Entering) error {
	again := e.GetPhase() == worker.Phase_PHASE_AUTHENTICATE && t.phase == e.GetPhase() && e.GetAttempt() > t.attempt
	first := e.GetPhase() == worker.Phase_PHASE_START && !t.begun
	if e.GetPhase() <= t.phase && !again && !first || !t.begun && !first || e.GetPhase() == worker.Phase_PHASE_OPEN {
		return fmt.Errorf("it went from phase %s to %s", t.phase.Word(), e.GetPhase().Word())
	}
	if t.prompt != nil {
		return errors.New("it went on while a question was open")
	}
	if e.GetPhase() >= worker.Phase_PHASE_CREDENTIALS && e.GetPhase() <= worker.Phase_PHASE_OPEN && !t.mayProceed() {
		return errWithoutLeave
	}
	t.phase, t.attempt = e.GetPhase(), e.GetAttempt()
	if t.s.state == api.StateOpen { // without Close: the last process of the session has ended
		t.s.enter(api.StateClosing)
	}
	if first {
		t.begun = true
		if t.slow != nil {
			t.slow.Stop()
		}
		t.begins()
		t.s.haveBegun()
	}
	return nil
}

// begins is the begin of a transaction, and of the session if it is the first one.
func (t *transaction) begins() {
	s := t.s
	if s.announced {
		return
	}
	s.announce()
	owner := s.start.GetOwner()
	more := []slog.Attr{slog.Int("worker", t.worker.PID())}
	if program := s.program(); program != "" {
		more = append(more, slog.String("command", program))
	}
	if services := s.alternatives.services; services != nil {
		more = append(more, slog.Any("alternatives", services[1:]))
	}
	s.b.audit(slog.LevelInfo, "session begins", eventOpen, s.about(),
		origin{channelDBus, owner.GetUid(), owner.GetPid(), owner.GetName()}.attrs(), more)
}

// numbered tells the worker the number of its prompt before anybody else
// hears of it, so that a later broker can be told.
func (t *transaction) numbered(index uint32, number uint64) {
	t.send(&worker.ToWorker{Message: &worker.ToWorker_Numbered{Numbered: &worker.Numbered{Index: index, Number: number}}})
}

// send tells the worker something that needs no answer. One that cannot be told
// has ended: what it said last is on its way, and is dealt with when it comes.
// One that does not read is given up, and its transaction ends with the connection.
func (t *transaction) send(m *worker.ToWorker) {
	if err := t.worker.Send(m); errors.Is(err, worker.ErrBusy) {
		t.s.b.log.Warn("a worker does not read what it is told", "session", t.s.id, "worker", t.worker.PID())
		t.worker.Close()
	}
}

// taken is what the worker says of an answer.
func (t *transaction) taken(m *worker.Taken) error {
	q := t.prompt
	if q == nil || t.question.GetIndex() != m.GetIndex() || q.claim == nil {
		return nil // the question ended while the answer was on its way
	}
	if m.GetError() == "" {
		t.s.b.auditPrompt(eventAnswer, q.claim.by, q)
		q.release(nil)
		q.end(api.OutcomeAnswered)
		return nil
	}
	if !api.Code(m.GetError()).Known() {
		return fmt.Errorf("it refused an answer with an error of no name")
	}
	q.release(&api.Error{Code: api.Code(m.GetError()), Text: clean([]byte(m.GetText()))})
	t.again()
	t.pass()
	return nil
}

// again has the prompt wait once more: the answer that came was of no use.
func (t *transaction) again() {
	t.prompt.mirror.again()
	t.mirror(t.prompt)
	t.s.notify()
}

func (t *transaction) withdrawn(w *worker.Withdrawn) error {
	q := t.prompt
	if q == nil || t.question.GetIndex() != w.GetIndex() {
		return errors.New("it withdrew a question that was not open")
	}
	switch w.GetOutcome() {
	case worker.Outcome_OUTCOME_CANCELLED:
		q.end(api.OutcomeCancelled)
	case worker.Outcome_OUTCOME_EXPIRED:
		q.end(api.OutcomeExpired)
	case worker.Outcome_OUTCOME_ANSWERED:
		t.s.b.auditPrompt(eventAnswer, origin{channel: channelUserAgent, uid: t.s.uid}, q)
		q.end(api.OutcomeAnswered)
	default:
		q.end(api.OutcomeSessionClosed)
	}
	return nil
}

// tell passes on a text that wants no answer.
func (t *transaction) tell(m *worker.Message) {
	t.notice(m)
	t.s.say(t, styleName(m.GetStyle()), clean(m.GetText()))
}

func (t *transaction) open(o *worker.Opened) error {
	if !t.mayProceed() {
		return errWithoutLeave
	}
	if t.s.opened || t.prompt != nil || t.phase > worker.Phase_PHASE_OPEN {
		return fmt.Errorf("it opened in phase %s", t.phase.Word())
	}
	if t.s.runs() != (o.GetPid() != 0) {
		return errors.New("it opened without the command that it was to run, or with one of its own")
	}
	t.s.pid = o.GetPid()
	t.phase = worker.Phase_PHASE_OPEN
	t.s.environment, t.s.openedAt = strs(o.GetEnvironment()), o.GetOpenedUsec()
	if t.s.state == api.StateOpening { // not when it is being closed already
		t.s.enter(api.StateOpen)
	}
	return nil
}

func (t *transaction) closed(c *worker.Closed) {
	text := clean(c.GetText())
	if t.s.why != "" {
		text = strings.TrimSuffix(t.s.why+"; "+text, "; ")
	}
	t.finish(api.StateClosed, c.GetPamResult(), text)
}

func (t *transaction) failed(f *worker.Failed) {
	t.finish(api.StateFailed, f.GetPamResult(), failure(f).Error())
}

// failure is what a worker says of it, in the words of the contract.
func failure(f *worker.Failed) *api.Error {
	code := api.Code(f.GetError())
	if !code.Known() {
		code = api.WorkerFailed // of a later version
	}
	return &api.Error{Code: code, Text: clean(f.GetText())}
}

func strs(entries [][]byte) []string {
	out := make([]string, len(entries))
	for i, entry := range entries {
		out[i] = clean(entry)
	}
	return out
}
