// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
)

// A session is forgotten as it ends when its owner has left: whoever waits for
// it hears how it ended nevertheless, and who comes later that there is none.
func TestWaitingForASessionThatIsForgotten(t *testing.T) {
	b := &Broker{admin: 0, wakeup: make(chan struct{}, 1), sessions: make(map[uint64]*session), clients: make(map[string]*client)}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		b.own(stop)
	}()
	defer func() {
		close(stop)
		<-stopped
	}()
	s := b.newSession(&worker.Start{Session: 7, Owner: &worker.Owner{}, Options: &worker.Options{}})
	b.do(func() { b.sessions[7] = s })
	call := target{call: &bus.Call{Caller: &bus.Peer{Name: ":1.1"}}, session: 7}
	looked, result := make(chan struct{}, 2), make(chan error, 1)
	var state string
	go func() {
		result <- b.await(t.Context(), call, func(s *session) (bool, error) {
			looked <- struct{}{}
			state = s.state
			return s.over(), nil
		})
	}()
	<-looked // it waits
	b.do(func() {
		delete(b.sessions, 7)
		s.state = api.StateClosed
		s.notify()
	})
	if err := <-result; err != nil || state != api.StateClosed {
		t.Errorf("who waited hears %v, and sees it %s", err, state)
	}
	err := b.await(t.Context(), call, func(*session) (bool, error) { return true, nil })
	if own, ok := err.(*api.Error); !ok || own.Code != api.NoSuchSession {
		t.Errorf("who comes later hears %v, want NoSuchSession", err)
	}
}
