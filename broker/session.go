// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// session is an object on the bus: who owns it, what state it is in, who waits
// for it. What PAM does for it is its transactions' affair; one that has none is
// ended by close alone.
type session struct {
	b     *Broker
	id    uint64
	start *worker.Start // as what it was opened
	owner *client       // nil when it has left the bus, or was never looked up

	transactions []*transaction     // that have not ended
	prompts      map[uint64]*prompt // that wait, by number
	conversation *conversation      // nil unless it is one
	alternatives alternatives
	charged      int // to its owner, in sessions: as many as it has transactions, and one at least

	state    string
	opened   bool // it was open once
	resolved bool // uid is known
	uid      uint32
	result   int32  // of PAM
	text     string // what it ended with
	why      string // it is being closed
	asked    bool   // to close

	// Of the transaction that opened.
	environment []string
	openedAt    uint64 // CLOCK_REALTIME, microseconds
	pid         uint32 // of the command; 0 before it runs, and without one
	exited      *worker.Exited

	announced bool               // the bus was told of it
	started   chan error         // told once, when the workers took it or did not; nil then
	again     chan *worker.Start // what another worker is to be given, while OpenSession waits
	refusal   *api.Error         // what OpenSession is to hear, before it began
	changed   chan struct{}      // closed at every change, and replaced
	late      *time.Timer        // to forget
}

// newSession makes a session of what somebody asked for, with no transaction yet.
func (b *Broker) newSession(start *worker.Start) *session {
	return &session{
		b: b, id: start.GetSession(), start: start, prompts: make(map[uint64]*prompt),
		state: api.StateOpening, changed: make(chan struct{}),
	}
}

func (s *session) path() dbus.ObjectPath {
	return dbus.ObjectPath(api.SessionPrefix + strconv.FormatUint(s.id, 10))
}

// object is what policy is told of a session, also of none.
func (s *session) object() policy.Object {
	if s == nil {
		return policy.Object{}
	}
	return policy.Object{
		Exists: true, OwnerUID: s.start.GetOwner().GetUid(),
		Service: s.start.GetService(), User: s.start.GetUser(), UserKnown: s.resolved, UserUID: s.uid,
	}
}

func (s *session) over() bool { return s.state == api.StateClosed || s.state == api.StateFailed }

// reached reports whether the session has been in a state, or will never be.
func (s *session) reached(state string) bool {
	switch state {
	case api.StateOpening:
		return true
	case api.StateOpen:
		return s.opened || s.over()
	case api.StateClosing:
		return s.state == api.StateClosing || s.over()
	}
	return s.over()
}

// notify wakes everybody who waits for a change.
func (s *session) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// add puts a session where it is found.
func (b *Broker) add(s *session, owner *client) {
	b.sessions[s.id] = s
	s.recharge()
	if s.owner = owner; owner != nil {
		owner.sessions[s] = struct{}{}
	}
}

// recharge brings what the owner is charged in line with the transactions.
func (s *session) recharge() {
	want := max(1, len(s.transactions)+s.alternatives.missing)
	if s.over() {
		want = 0
	}
	owner := s.start.GetOwner().GetUid()
	s.b.charge(owner).sessions += want - s.charged
	s.charged = want
	s.b.settle(owner)
}

// announce tells the bus that there is a session: numbers and a state, nothing
// private.
func (s *session) announce() {
	s.announced = true
	s.b.live++
	s.b.bus.Send(bus.Signal{Path: api.RootPath, Name: api.ManagerInterface + ".SessionAdded", Values: []any{s.id, s.path()}})
	s.b.bus.Send(bus.Signal{Path: api.RootPath, Name: objectManager + ".InterfacesAdded", Values: []any{
		s.path(), map[string]map[string]dbus.Variant{api.SessionInterface: variants(map[string]any{"Id": s.id, "State": s.state})},
	}})
}

// enter changes the state, and tells.
func (s *session) enter(state string) {
	if s.state == state {
		return
	}
	s.state = state
	if state == api.StateOpen || state == api.StateClosing {
		for _, t := range s.transactions {
			t.hideNotice()
		}
	}
	s.opened = s.opened || state == api.StateOpen
	if s.announced {
		s.b.bus.Send(bus.Signal{Path: s.path(), Name: properties + ".PropertiesChanged", Values: []any{
			api.SessionInterface, s.publicProperties(), []string{"UID", "ResultText", "Environment", "UsedService"},
		}})
	}
	s.notify()
}

// put adds a prompt to those that wait, and charges it to the owner. It reports
// whether the owner may have that many.
func (s *session) put(q *prompt) bool {
	s.prompts[q.number] = q
	owner := s.start.GetOwner().GetUid()
	u := s.b.charge(owner)
	u.prompts++
	return u.prompts <= s.b.limits(owner).prompts
}

// abandoned says whether the session is closed, or about to be, for want of its owner:
// nobody is asked anything for it any more.
func (s *session) abandoned() bool { return s.owner == nil && !s.start.GetOptions().GetLinger() }

// drop undoes put.
func (s *session) drop(q *prompt) {
	delete(s.prompts, q.number)
	owner := s.start.GetOwner().GetUid()
	s.b.charge(owner).prompts--
	s.b.settle(owner)
	s.notify()
}

// say passes on a text that wants no answer, to those who may know what a asks.
func (s *session) say(a asker, style, words string) {
	text := bus.Signal{Path: api.RootPath, Name: api.ManagerInterface + ".Message", Values: []any{s.path(), style, words}}
	for _, c := range a.hearers() {
		text.Dest = c.peer.Name
		s.b.bus.Send(text)
	}
	for c := range s.b.agents {
		text.Dest = c.peer.Name
		switch {
		case s.b.hears(c, a):
			s.b.bus.Send(text)
		case s.b.ruling(c, a).Verdict == policy.Polkit:
			s.b.owe(c, a, text, len(words))
		}
	}
}

// hearersOf are whom a question in the session is told to besides agents: the
// opener, if it asked for it and hears nothing as an agent.
func (s *session) hearersOf(a asker) []*client {
	if s.hasOwnEar(a) {
		return []*client{s.owner}
	}
	return nil
}

// wantsAgents is what the option ask-password says at present of what a asks.
func (s *session) wantsAgents(a asker) bool {
	switch s.start.GetOptions().GetAskPassword() {
	case api.AskPasswordNo:
		return false
	case api.AskPasswordFallback:
		return !s.isHeard(a)
	}
	return true
}
