// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/workers"
	"github.com/pamprompt/pamprompt/policy"
)

// session is a view of the session that a worker holds.
type session struct {
	b      *Broker
	id     uint64
	start  *worker.Start
	worker *workers.Worker
	owner  *client // nil when it has left the bus, or was never looked up

	state       string
	opened      bool // it was open once
	phase       worker.Phase
	attempt     uint32
	resolved    bool // uid is known
	uid         uint32
	prompt      *prompt
	question    *worker.Prompt // of the prompt, or of the last one
	environment []string
	openedAt    uint64 // CLOCK_REALTIME, microseconds
	pid         uint32 // of the command; 0 before it runs, and without one
	exited      *worker.Exited
	result      int32  // of PAM
	text        string // what it ended with
	why         string // it is being closed
	asked       bool   // to close

	announced bool          // the bus was told of it
	started   chan error    // told once, when the worker took it or did not; nil then
	changed   chan struct{} // closed at every change, and replaced
	late      *time.Timer   // to kill, or to forget

	noticed  worker.Style // of what the splash shows
	userFile bool         // the worker was told to put the prompt into the user's own directory
}

func (b *Broker) newSession(start *worker.Start, w *workers.Worker) *session {
	return &session{
		b: b, id: start.GetSession(), start: start, worker: w,
		state: api.StateOpening, phase: worker.Phase_PHASE_START, changed: make(chan struct{}),
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

// add puts a session where it is found. The worker has it now.
func (b *Broker) add(s *session, owner *client) {
	b.sessions[s.id] = s
	b.charge(s.start.GetOwner().GetUid()).sessions++
	if s.owner = owner; owner != nil {
		owner.sessions[s] = struct{}{}
	}
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
		s.hideNotice()
	}
	s.opened = s.opened || state == api.StateOpen
	s.b.bus.Send(bus.Signal{Path: s.path(), Name: properties + ".PropertiesChanged", Values: []any{
		api.SessionInterface, s.publicProperties(), []string{"UID", "ResultText", "Environment"},
	}})
	s.notify()
}

// adopt takes over a worker that comes with a session. It runs in the
// worker's reader.
func (b *Broker) adopt(w *workers.Worker, d *worker.Session) {
	start := d.GetStart()
	b.numbers.seen(start.GetSession())
	b.numbers.seen(d.GetPrompt().GetNumber())
	owner := b.presentOwner(start.GetOwner())
	b.do(func() {
		if _, known := b.sessions[start.GetSession()]; known {
			// We gave it up when its connection broke.
			b.log.Warn("a lost session came back and is closed", "session", start.GetSession(), "worker", w.PID())
			w.Refuse()
			return
		}
		s := b.newSession(start, w)
		if !w.Bind(s) {
			return
		}
		var c *client
		if owner != nil {
			c = b.client(owner)
		}
		b.add(s, c)
		s.rebuild(d)
	})
}

// presentOwner finds the connection that opened a session, if it is still on
// the bus: unique names mean nothing on another bus.
func (b *Broker) presentOwner(o *worker.Owner) *bus.Peer {
	if o.GetBusId() != b.bus.ID() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	p, err := b.bus.Peer(ctx, o.GetName())
	if err != nil || p.UID != o.GetUid() {
		return nil
	}
	return p
}

// rebuild fills a session in from what its worker knows of it, and goes on
// where the last broker stopped.
func (s *session) rebuild(d *worker.Session) {
	s.phase = d.GetPhase()
	if r := d.GetResolved(); r != nil {
		s.resolved, s.uid = true, r.GetUid()
	}
	switch {
	case s.phase == worker.Phase_PHASE_OPEN:
		s.state = api.StateOpen
	case s.phase > worker.Phase_PHASE_OPEN:
		s.state = api.StateClosing
	}
	if o := d.GetOpened(); o != nil {
		s.opened, s.pid, s.exited = true, o.GetPid(), d.GetExited()
		s.environment, s.openedAt = strs(o.GetEnvironment()), o.GetOpenedUsec()
	}
	s.announce()
	s.b.log.Info("session taken over", "session", s.id, "state", s.state, "worker", s.worker.PID())
	if p := d.GetPrompt(); p != nil {
		number := p.GetNumber()
		if number == 0 { // the last broker died before it could number it
			number, _ = s.b.numbers.try()
			if number == 0 {
				s.lost(fmt.Errorf("no number could be given to its prompt"))
				return
			}
			s.numbered(p.GetIndex(), number)
		}
		s.ask(p, number)
		if !s.userFile { // what the last broker wanted nobody knows
			s.mirrorTo(false)
		}
	}
	switch {
	case d.GetClosed() != nil:
		s.closed(d.GetClosed())
	case d.GetFailed() != nil:
		s.failed(d.GetFailed())
	case s.owner == nil && !s.start.GetOptions().GetLinger():
		s.close("its owner left the bus")
	}
}
