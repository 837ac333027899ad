// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
)

// joinTimeout is how long a broker that takes over one alternative of a session waits
// for the others: workers dial again every second. Until then none is let go on, since
// the last broker may have let one.
const joinTimeout = 5 * time.Second

// alternatives are what a session knows of transactions that are side by side, of
// which the first that is ready goes on. The zero value is that of a session with one
// transaction, or none.
type alternatives struct {
	services []string     // the first is what the session was opened with; nil for no alternatives
	seen     uint32       // a bit for each that there was
	missing  int          // are to come yet
	waiting  *time.Timer  // for those that a worker may bring along
	winner   *transaction // which goes on; the others are closed
	endings  []ending
}

// others are the services besides the one that the session was opened with.
func (a *alternatives) others() []string {
	if a.services == nil {
		return nil
	}
	return a.services[1:]
}

func (a *alternatives) stopTimer() {
	if a.waiting != nil {
		a.waiting.Stop()
		a.waiting = nil
	}
}

// stopWaiting has nobody wait for those that are missing.
func (a *alternatives) stopWaiting() {
	a.stopTimer()
	a.missing = 0
}

// startsOf is what each worker is told: the main service's first.
func startsOf(start *worker.Start, others []string) []*worker.Start {
	if len(others) == 0 {
		return []*worker.Start{start}
	}
	services := append([]string{start.GetService()}, others...)
	starts := make([]*worker.Start, len(services))
	for i, service := range services {
		starts[i] = proto.CloneOf(start)
		starts[i].Service = service
		starts[i].Alternative = &worker.Alternative{Index: uint32(i), Services: services}
	}
	return starts
}

// opened is as what the session was opened to which a Start belongs.
func openedAs(start *worker.Start) *worker.Start {
	if start.GetAlternative() == nil {
		return start
	}
	main := proto.CloneOf(start)
	main.Service, main.Alternative = start.GetAlternative().GetServices()[0], nil
	return main
}

// expect has the session wait for the transactions of its services.
func (s *session) expect(a *worker.Alternative) {
	s.alternatives.missing = 1
	if a != nil {
		s.alternatives.services = a.GetServices()
		s.alternatives.missing = len(a.GetServices())
	}
}

// takes reports whether a worker that comes with a session is one that this session
// waits for: another alternative of it, that has not been here before.
func (s *session) takes(start *worker.Start) bool {
	a := start.GetAlternative()
	return !s.over() && a != nil && slices.Equal(a.GetServices(), s.alternatives.services) &&
		s.alternatives.seen&(1<<a.GetIndex()) == 0 &&
		start.GetUser() == s.start.GetUser() && start.GetOwner().GetUid() == s.start.GetOwner().GetUid()
}

// awaitOthers gives the other alternatives of a session that is taken over their
// time to dial again.
func (s *session) awaitOthers() {
	if s.alternatives.missing == 0 {
		return
	}
	s.alternatives.waiting = s.b.after(joinTimeout, s.goOnWithout)
}

// goOnWithout goes on without those that did not come.
func (s *session) goOnWithout() {
	if s.over() || s.alternatives.missing == 0 {
		return
	}
	s.b.log.Warn("alternatives of a session did not come back", "session", s.id, "missing", s.alternatives.missing)
	s.alternatives.stopWaiting()
	s.recharge()
	s.reappear()
	s.choose()
	s.conclude()
}

// index is which alternative a transaction is.
func (t *transaction) index() uint32 { return t.start.GetAlternative().GetIndex() }

// mayProceed reports whether a transaction may go on to what a session is made of.
func (t *transaction) mayProceed() bool {
	return t.start.GetAlternative() == nil || t.s.alternatives.winner == t
}

var errWithoutLeave = errors.New("it went on without having been let")

// broke ends a transaction whose worker broke the protocol. An alternative that goes
// on by itself would open a session beside the one there is.
func (t *transaction) broke(err error) {
	if errors.Is(err, errWithoutLeave) {
		t.kill(err.Error())
		return
	}
	t.lost(err)
}

// ends reports whether a packet is of interest from a transaction that is being
// closed because another one goes on.
func ends(m *worker.ToBroker) bool {
	switch m.GetMessage().(type) {
	case *worker.ToBroker_Closed, *worker.ToBroker_Failed:
		return true
	}
	return false
}

// isReady is an alternative that waits for its turn.
func (t *transaction) isReady() error {
	if t.start.GetAlternative() == nil || t.ready || t.prompt != nil || t.phase > worker.Phase_PHASE_CHANGE_TOKEN {
		return fmt.Errorf("it was ready in phase %s", t.phase.Word())
	}
	t.ready = true
	t.s.choose()
	return nil
}

// choose lets the first alternative that is ready go on.
func (s *session) choose() {
	if s.asked || s.alternatives.winner != nil || s.alternatives.waiting != nil {
		return
	}
	for _, t := range s.transactions {
		if t.ready && !t.losing {
			t.win()
			t.send(&worker.ToWorker{Message: &worker.ToWorker_Proceed{Proceed: &worker.Proceed{}}})
			return
		}
	}
}

// win makes a transaction the one that goes on, and has all others closed.
func (t *transaction) win() {
	s := t.s
	s.alternatives.winner = t
	s.alternatives.stopWaiting()
	s.b.log.Info("one of the alternatives goes on", "session", s.id, "service", t.start.GetService(), "worker", t.worker.PID())
	for _, other := range s.transactions {
		if other != t {
			other.lose()
		}
	}
	s.recharge()
	s.tellLeader()
	s.haveBegun()
}

// lose has a transaction closed that nobody waits for any more. What it asks is
// withdrawn now, however long its module takes to return.
func (t *transaction) lose() {
	t.losing = true
	shown := t.userFile
	if t.prompt != nil {
		t.prompt.end(api.OutcomeSessionClosed)
	}
	t.userFile = shown // until the worker has ended in order, it may be left
	t.hideNotice()
	t.close()
}

// finish is the end of a transaction by itself.
func (t *transaction) finish(state string, result int32, text string) {
	s := t.s
	begun := t.begun
	t.stop(state)
	s.transactions = slices.DeleteFunc(s.transactions, func(other *transaction) bool { return other == t })
	e := ending{t, t.index(), t.start.GetService(), state, result, text, s.asked || t.losing}
	s.alternatives.endings = append(s.alternatives.endings, e)
	s.recharge()
	goesOn := !s.asked && s.alternatives.winner == nil && (len(s.transactions) > 0 || s.alternatives.missing > 0)
	switch {
	case goesOn && s.started != nil && !begun:
		// What is wrong with the service of one is wrong with the call.
		s.refuse(cmp.Or(api.ParseResult(text), &api.Error{Code: api.Cancelled, Text: text}))
	case goesOn:
		if !t.losing {
			s.tellOthers(e, nil) // first: who hears of it may kill us
			s.say(t, api.StyleError, t.start.GetService()+": "+text)
		}
		s.tellLeader()
		s.haveBegun()
		s.choose() // one that waited for this one to come back
	}
	s.conclude()
}

// refuse has OpenSession fail, when all that has begun is closed.
func (s *session) refuse(err *api.Error) {
	s.refusal = err
	s.close("not every service of it could begin")
}

// conclude ends the session when nothing of it is left. One that was decided waits
// for the workers that lost, which are closed or killed in bounded time: after its
// end, no process of it is there.
func (s *session) conclude() {
	if len(s.transactions) > 0 || s.over() {
		if w := s.alternatives.winner; w != nil && w.over {
			s.enter(api.StateClosing)
		}
		return
	}
	if s.alternatives.missing > 0 || len(s.alternatives.endings) == 0 {
		return
	}
	e := s.outcome()
	s.end(e.state, e.result, e.text)
}

// haveBegun tells OpenSession when every transaction has begun.
func (s *session) haveBegun() {
	if s.alternatives.missing > 0 || s.refusal != nil {
		return
	}
	for _, t := range s.transactions {
		if !t.begun && !t.losing {
			return
		}
	}
	s.take(nil)
}

// going are the transactions that may still run something.
func (s *session) going() []*transaction {
	if w := s.alternatives.winner; w != nil {
		return []*transaction{w}
	}
	return s.transactions
}

// leading is the transaction whose worker the session's Leader is: the one that goes
// on, before that the main service's while it runs; nil when there is none.
func (s *session) leading() *transaction {
	switch w := s.alternatives.winner; {
	case w != nil && w.over, w == nil && len(s.transactions) == 0:
		return nil
	case w != nil:
		return w
	}
	return slices.MinFunc(s.transactions, func(x, y *transaction) int { return cmp.Compare(x.index(), y.index()) })
}

// tellLeader tells the bus that the leading transaction may be another one.
func (s *session) tellLeader() {
	if !s.announced {
		return
	}
	s.b.bus.Send(bus.Signal{Path: s.path(), Name: properties + ".PropertiesChanged", Values: []any{
		api.SessionInterface, variants(s.commandProperties()), []string{"UsedService"},
	}})
}

// usedService is whose transaction goes on; empty while that is not decided.
func (s *session) usedService() string {
	switch {
	case s.alternatives.services == nil:
		return s.start.GetService()
	case s.alternatives.winner == nil:
		return ""
	}
	return s.alternatives.winner.start.GetService()
}
