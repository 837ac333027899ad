// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"pgregory.net/rapid"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// patience bounds what must happen; nothing waits for it to pass.
const patience = 30 * time.Second

// bench is what all runs have in common.
type bench struct {
	*system.OnBus
	t       testing.TB
	numbers map[uint64]string // every number that there was, and what has it
	opened  map[uint64]bool   // every session that there was
	left    map[uint64]bool   // sessions of earlier runs that have ended and may be listed yet
	notes   string            // where modules write what they were given
	texts   map[string]*text  // every answer that there was
	steps   int
	kills   int  // of brokers
	unclean bool // the last run has failed half-way
	down    bool // the broker was killed
}

// world is one run.
type world struct {
	*bench
	rt       *rapid.T
	agent    *api.Client
	watch    *api.Watcher
	second   *api.Client // answers too
	caller   *dbus.Conn  // of those who wait
	openers  []*api.Client
	sessions []*session
	waiters  []*waiter
	heard
}

func (b *bench) world(rt *rapid.T) *world {
	if b.down {
		b.Restart(b.t)
		b.down = false
	}
	w := &world{bench: b, rt: rt, heard: newHeard()}
	w.agent, w.second = w.dial(), w.dial()
	var err error
	if w.caller, err = dbus.Connect(b.Address); err != nil {
		rt.Fatal(err)
	}
	rt.Cleanup(func() { _ = w.caller.Close() })
	if b.unclean {
		w.clear()
	}
	if w.watch, err = w.agent.Watch(context.Background(), api.WatchOptions{Agent: true}); err != nil {
		rt.Fatal(err)
	}
	b.unclean = true
	return w
}

func (w *world) dial() *api.Client {
	c, err := api.Dial(w.within(), w.Address)
	if err != nil {
		w.rt.Fatal(err)
	}
	w.rt.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *world) within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.rt.Cleanup(cancel)
	return ctx
}

// clear ends what a run has left that failed.
func (w *world) clear() {
	list, err := w.agent.Sessions(w.within())
	if err != nil {
		w.rt.Fatal(err)
	}
	for _, one := range list {
		if s := w.agent.Session(one.ID); s.Close(w.within()) == nil {
			_ = s.Wait(w.within(), api.StateClosed)
		}
		w.left[one.ID] = true
	}
}

// check is called before and after each step: the broker comes to what the model
// says, and says the same wherever it is asked.
func (w *world) check(rt *rapid.T) {
	w.rt = rt
	w.steps++
	w.settle()
	for _, s := range w.sessions {
		if s.listed {
			w.compare(s)
		}
	}
	w.checkCounts()
	w.checkWaiters()
	w.checkNotes()
}

// settle waits until the lists are as the model has them. Each change comes with a
// signal, so that nothing is asked before there is something new.
func (w *world) settle() {
	late := time.After(patience)
	for {
		before := w.events
		why := w.differs()
		if why == "" {
			return
		}
		if w.hearAll(); w.events != before {
			continue
		}
		select {
		case e, more := <-w.watch.Events():
			w.hear(e, more)
		case <-late:
			w.rt.Fatalf("after %v %s", patience, why)
		}
	}
}

// differs is what is not as in the model; empty for nothing.
func (w *world) differs() string {
	listed, err := w.agent.Sessions(w.within())
	if err != nil {
		w.rt.Fatal(err)
	}
	prompts, err := w.agent.Prompts(w.within())
	if err != nil {
		w.rt.Fatal(err)
	}
	if w.hearAll(); len(w.told) != len(prompts) {
		return fmt.Sprintf("the agent was told of %d prompts and %d are listed", len(w.told), len(prompts))
	}
	states := make(map[uint64]string)
	for _, one := range listed {
		states[one.ID] = one.State
	}
	for _, s := range w.sessions {
		state, is := states[s.id]
		delete(states, s.id)
		switch {
		case is != s.listed:
			return fmt.Sprintf("session %d is listed: %t (%s), and should be: %t", s.id, is, state, s.listed)
		case !is:
		case s.may != nil && !slices.ContainsFunc(s.may, func(e ending) bool { return e.state == state }),
			s.may == nil && state != s.state:
			return fmt.Sprintf("session %d is %s, and should be %s %v", s.id, state, s.state, s.may)
		case s.isHalf() && w.failed[s.id] != s.lost():
			// Until then its worker unwinds, and leads the session if it is the main one.
			return fmt.Sprintf("nobody was told that %s of session %d has failed", s.lost(), s.id)
		}
		if why := w.promptsDiffer(s, prompts); why != "" {
			return why
		}
	}
	for id := range states {
		if !w.left[id] {
			return fmt.Sprintf("session %d is listed, which nobody has opened", id)
		}
	}
	return ""
}

// promptsDiffer compares the prompts of one session, and learns their numbers.
func (w *world) promptsDiffer(s *session, all []api.Prompt) string {
	var found []api.Prompt
	for _, p := range all {
		if p.Session != s.id {
			continue
		}
		if outcome, closed := w.closed[p.ID]; closed {
			w.rt.Fatalf("prompt %d is listed after PromptClosed said %s", p.ID, outcome)
		}
		found = append(found, p)
	}
	if len(found) != len(s.pending) {
		return fmt.Sprintf("session %d has %d prompts, and should have %d", s.id, len(found), len(s.pending))
	}
	for i, q := range s.pending { // of a conversation in the order of their numbers
		if hasWorker(s) { // alternatives ask in any order, and each asks something else
			i = max(0, slices.IndexFunc(found, func(p api.Prompt) bool { return p.Message == q.message }))
		}
		p := found[i]
		if p.Message != q.message || int(p.Attempt) != q.attempt || int(p.Index) != q.index || q.number != 0 && q.number != p.ID {
			return fmt.Sprintf("session %d asks %d %q, attempt %d, question %d; it should ask %+v", s.id, p.ID, p.Message, p.Attempt, p.Index, *q)
		}
		q.number = p.ID
	}
	return ""
}

// compare looks at the properties of a session.
func (w *world) compare(s *session) {
	p, err := w.agent.Session(s.id).Properties(w.within())
	if err != nil {
		w.rt.Fatal(err)
	}
	var code api.Code
	if failed := new(api.Error); errors.As(p.Err(), &failed) {
		code = failed.Code
	}
	if s.may != nil {
		if !slices.Contains(s.may, ending{p.State, code}) {
			w.rt.Fatalf("session %d ended as %s %s (%s), not as one of %v", s.id, p.State, code, p.ResultText, s.may)
		}
		s.state, s.code, s.may = p.State, code, nil
	}
	if p.State != s.state || code != s.code || (p.Leader == 0) != (s.over() || s.conversation != nil) || p.Conversation != (s.conversation != nil) {
		w.rt.Fatalf("session %d is %+v, and the model has %+v", s.id, p, *s)
	}
	if hasWorker(s) && !s.over() && p.UsedService != s.used {
		w.rt.Fatalf("session %d is one of service %s, not of %s", s.id, p.UsedService, s.used)
	}
	if s.state != api.StateOpen {
		return
	}
	for name, value := range s.given {
		if !slices.Contains(p.Environment, name+"="+value) {
			w.rt.Fatalf("session %d was given %s=%s, and its module has %q", s.id, name, value, p.Environment)
		}
	}
}

// checkCounts compares the properties of the manager.
func (w *world) checkCounts() {
	sessions, prompts := 0, 0
	for _, s := range w.sessions {
		if s.listed && !s.over() {
			sessions++
			prompts += len(s.pending)
		}
	}
	for name, want := range map[string]int{"Sessions": sessions, "Prompts": prompts} {
		v, err := w.caller.Object(api.BusName, api.RootPath).GetProperty(api.ManagerInterface + "." + name)
		if got, _ := v.Value().(uint32); err != nil || int(got) != want {
			w.rt.Fatalf("the property %s is %v (%v), and should be %d", name, v, err, want)
		}
	}
}

// finish ends the run, and nothing is left of it but objects of sessions that linger.
func (w *world) finish() {
	for _, s := range w.sessions {
		if s.listed && !s.over() {
			w.end(s)
		}
	}
	for len(w.openers) > 0 {
		w.goes(w.openers[0])
	}
	w.check(w.rt)
	if len(w.waiters) > 0 {
		w.rt.Fatalf("%d calls wait for sessions that have ended", len(w.waiters))
	}
	for _, s := range w.sessions {
		if s.listed {
			w.left[s.id] = true
		}
	}
	w.watch.Close()
	w.unclean = false
}
