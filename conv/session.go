// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/api/worker"
)

const (
	// farewell is how long a worker whose session has ended waits for a broker
	// that it can tell so.
	farewell = 10 * time.Second
	// closeTimeout is for a broker that names none.
	closeTimeout = 10 * time.Second
	// maxSignals is how many may wait to be sent to the session's processes.
	maxSignals = 64
)

// session is the state of the one session of this process, and the connection
// on which the broker follows it. Every change and the packet that tells of it
// are one step under the lock: the Hello of a new connection holds what was
// before, the packets after it what came later, nothing is missing and nothing
// comes twice. While there is no connection nothing is queued.
type session struct {
	log     *slog.Logger
	started chan struct{} // closed by a Start
	retired chan struct{} // closed when the worker is to end idle
	closing chan struct{} // closed when the session is to be closed
	proceed chan struct{} // closed when an alternative may go on
	told    chan struct{} // closed when the broker knows the result

	mu       sync.Mutex
	conn     *worker.Conn      // nil while the broker is away
	state    *worker.Session   // what Hello says; nil while idle
	gone     bool              // retired is closed: no Start may come any more
	closed   bool              // closing is closed
	refusing bool              // every question fails at once
	question *question         // the one that waits; its prompt is also in state
	mirrored *mirror           // the copy for the user's own agents; nil before there was one
	outcomes []worker.Outcome  // of every question there was; 0 is answered
	messages []*worker.Message // said since the last question that was put to people
	attempt  uint32            // of PHASE_AUTHENTICATE
	stdio    []int             // for the command; of the Start
	signals  chan *worker.Signal
	working  bool         // processes of the session run, which Close ends first
	asking   *worker.Conn // on which the broker waits for a Name; nil when it does not

	sweeping  bool       // a Sweep is at work
	lookups   sync.Mutex // held by the one Resolve that is in NSS
	complaint sync.Once  // about the user's own directory
	shortage  sync.Once  // about what answers need, and there is none of
}

// question is a slot that is taken once: whoever takes it, under the lock,
// puts the one reply that there will be.
type question struct {
	prompt *worker.Prompt
	reply  chan reply // holds one
}

// reply is an answer, or how the question ended without one; an answer that did
// not come from the broker has OUTCOME_ANSWERED.
type reply struct {
	answer  *secret.Secret
	outcome worker.Outcome
}

func newSession(log *slog.Logger) *session {
	return &session{
		log:     log,
		started: make(chan struct{}),
		retired: make(chan struct{}),
		closing: make(chan struct{}),
		proceed: make(chan struct{}),
		told:    make(chan struct{}),
		signals: make(chan *worker.Signal, maxSignals),
	}
}

// attach says Hello on a new connection and sends on it from now on.
func (s *session) attach(conn *worker.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		_ = conn.Close()
		return errors.New("this worker ends")
	}
	hello := &worker.Hello{Version: worker.Version, Session: s.state}
	s.conn = conn
	if !s.tell(&worker.ToBroker{Message: &worker.ToBroker_Hello{Hello: hello}}) {
		return errors.New("the broker does not take a Hello")
	}
	if s.over() {
		s.markTold()
	}
	return nil
}

// detach gives up a connection.
func (s *session) detach(conn *worker.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == conn {
		s.conn = nil
	}
	_ = conn.Close()
}

// tell sends one packet, if the broker is there, and waits until the broker takes
// it: a module that talks faster than the bus carries has to wait. The broker
// never waits for a worker, so it takes packets as long as it lives; when it
// does not live, the wait ends. The caller holds the lock.
func (s *session) tell(m *worker.ToBroker) bool {
	if s.conn == nil {
		return false
	}
	if err := s.conn.SendWait(m); err != nil {
		s.log.Debug("send to the broker", "error", err)
		_ = s.conn.Close()
		s.conn = nil
		return false
	}
	return true
}

// begin is Start. It comes once. The files stay the caller's.
func (s *session) begin(start *worker.Start, stdio ...*os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != nil || s.gone {
		return fmt.Errorf("%w: a second start", worker.ErrMalformed)
	}
	if err := s.keepStdio(stdio); err != nil {
		return err
	}
	s.state = &worker.Session{Start: start, Phase: worker.Phase_PHASE_START}
	close(s.started)
	return nil
}

// start is nil while the worker is idle; it never changes afterwards.
func (s *session) start() *worker.Start {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.GetStart()
}

// retire ends an idle worker. It returns false when there is a session, which
// goes on.
func (s *session) retire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != nil {
		return false
	}
	if !s.gone {
		s.gone = true
		close(s.retired)
	}
	if s.conn != nil {
		_ = s.conn.Close()
	}
	return true
}

// enter says that a phase begins.
func (s *session) enter(phase worker.Phase, attempt uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Phase, s.attempt = phase, attempt
	entering := &worker.Entering{Phase: phase, Attempt: attempt}
	s.tell(&worker.ToBroker{Message: &worker.ToBroker_Entering{Entering: entering}})
}

// resolve says that NSS knows the user.
func (s *session) resolve(uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Resolved = &worker.Resolved{Uid: uid}
	s.tell(&worker.ToBroker{Message: &worker.ToBroker_Resolved{Resolved: s.state.Resolved}})
}

// say passes on a text that wants no answer, and keeps it for the next question.
func (s *session) say(style worker.Style, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	message := &worker.Message{Style: style, Text: worker.Cut(text, worker.MaxText)}
	s.messages = worker.Keep(s.messages, message)
	s.tell(&worker.ToBroker{Message: &worker.ToBroker_Text{Text: message}})
}

// ask puts a question. It returns nil when there is to be no further one.
func (s *session) ask(p *worker.Prompt) *question {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusing || s.question != nil {
		return nil
	}
	p.Index = uint32(len(s.outcomes))
	p.Phase, p.Attempt, p.Messages = s.state.GetPhase(), s.attempt, s.messages
	s.messages = nil
	s.question = &question{prompt: p, reply: make(chan reply, 1)}
	s.state.Prompt = p
	s.tell(&worker.ToBroker{Message: &worker.ToBroker_Prompt{Prompt: p}})
	return s.question
}

// supplied counts a question that was answered before anybody heard of it. The
// messages are kept: nobody has seen them above a question yet. It returns false
// when no further question is to be answered.
func (s *session) supplied() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusing {
		return false
	}
	s.outcomes = append(s.outcomes, worker.Outcome_OUTCOME_UNSPECIFIED)
	return true
}

// questions is how many questions there have been.
func (s *session) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.outcomes)
}

// number notes which number the broker gave to the prompt that waits.
func (s *session) number(index uint32, number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits(index) {
		s.question.prompt.Number = number
	}
}

// waits tells whether the question with this index waits. The caller holds the
// lock.
func (s *session) waits(index uint32) bool {
	return s.question != nil && s.question.prompt.GetIndex() == index
}

// answer takes the answer to a question out of f, and says whether it did.
func (s *session) answer(index uint32, f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.waits(index) {
		s.taken(index, s.whyGone(index))
		return
	}
	answer, refusal := s.readAnswer(s.question.prompt.GetStyle(), f)
	if refusal == nil {
		s.unmirror()
	}
	s.taken(index, refusal)
	if refusal == nil {
		s.settle(reply{answer: answer})
	}
}

// missed is answer without the answer, for which there was no descriptor.
func (s *session) missed(index uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.waits(index) {
		s.taken(index, s.whyGone(index))
		return
	}
	s.taken(index, s.short(errNoRoom))
}

func (s *session) taken(index uint32, refusal *refusal) {
	taken := &worker.Taken{Index: index}
	if refusal != nil {
		taken.Error, taken.Text = refusal.code, refusal.text
	}
	s.tell(&worker.ToBroker{Message: &worker.ToBroker_Taken{Taken: taken}})
}

// settle empties the slot and lets the module go on. The copy for the user's
// own agents was taken back before, and then what the broker is to know of it
// was told, so that it comes before whatever the module does next.
func (s *session) settle(r reply) {
	s.outcomes = append(s.outcomes, r.outcome)
	s.question.reply <- r
	s.question, s.state.Prompt = nil, nil
}

// whyGone says why there is no question with this index any more.
func (s *session) whyGone(index uint32) *refusal {
	if index >= uint32(len(s.outcomes)) {
		return &refusal{noSuchPrompt, "there is no such prompt yet"}
	}
	switch s.outcomes[index] {
	case worker.Outcome_OUTCOME_CANCELLED:
		return &refusal{cancelled, "the prompt was cancelled"}
	case worker.Outcome_OUTCOME_EXPIRED:
		return &refusal{timedOut, "the prompt expired"}
	case worker.Outcome_OUTCOME_SESSION_CLOSED:
		return &refusal{noSuchPrompt, "the session was closed"}
	}
	return &refusal{alreadyAnswered, "another answer was first"}
}

// withdraw ends a question without an answer, if it still waits.
func (s *session) withdraw(index uint32, outcome worker.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits(index) {
		s.withdrawLocked(reply{outcome: outcome})
	}
}

// withdrawLocked ends the question that waits by something else than an answer
// of the broker. The caller holds the lock.
func (s *session) withdrawLocked(r reply) {
	s.unmirror()
	withdrawn := &worker.Withdrawn{Index: s.question.prompt.GetIndex(), Outcome: r.outcome}
	s.tell(&worker.ToBroker{Message: &worker.ToBroker_Withdrawn{Withdrawn: withdrawn}})
	s.settle(r)
}

// refuse makes every further question fail: nobody waits for what is torn down.
func (s *session) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = true
}

// pass has a signal sent to processes of the session. One too many is dropped, as
// the kernel does with the second of a kind that waits.
func (s *session) pass(signal *worker.Signal) error {
	if s.start().GetCommand() == nil {
		return fmt.Errorf("%w: a signal for a session without a command", worker.ErrMalformed)
	}
	select {
	case s.signals <- signal:
	default:
		s.log.Warn("too many signals wait for the processes of the session", "signal", signalName(unix.Signal(signal.GetSignal())))
	}
	return nil
}

// open says that every phase worked.
func (s *session) open(opened *worker.Opened) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Phase, s.state.Opened = worker.Phase_PHASE_OPEN, opened
	s.tell(&worker.ToBroker{Message: &worker.ToBroker_Opened{Opened: opened}})
}

// exited says how the command ended.
func (s *session) exited(e *worker.Exited) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Exited = e
	s.tell(&worker.ToBroker{Message: &worker.ToBroker_Exited{Exited: e}})
}
