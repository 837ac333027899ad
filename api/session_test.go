// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestWait(t *testing.T) {
	c := connect(t)
	t.Run("returns when the session is open, and again when it is closed", func(t *testing.T) {
		s := open(t, c, "permit", api.Options{})
		if err := s.Wait(within(t), api.StateOpen); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(within(t)); err != nil {
			t.Fatal(err)
		}
		for _, state := range []string{api.StateClosing, api.StateClosed, api.StateOpen} {
			if err := s.Wait(within(t), state); err != nil {
				t.Errorf("Wait for %s: %v", state, err)
			}
		}
	})
	t.Run("says what a session failed with", func(t *testing.T) {
		s := open(t, c, "deny", api.Options{})
		wantCode(t, s.Wait(within(t), api.StateOpen), api.AuthenticationFailed)
		wantCode(t, s.Wait(within(t), api.StateClosed), api.AuthenticationFailed)
	})
	t.Run("says that a session was closed before it opened", func(t *testing.T) {
		s := open(t, c, "matrix", api.Options{})
		if err := s.Close(within(t)); err != nil {
			t.Fatal(err)
		}
		wantCode(t, s.Wait(within(t), api.StateOpen), api.Cancelled)
	})
	t.Run("knows no session that never was", func(t *testing.T) {
		wantCode(t, c.Session(1).Wait(within(t), api.StateOpen), api.NoSuchSession)
		_, err := c.Session(1).Properties(within(t))
		wantCode(t, err, api.NoSuchSession)
		wantCode(t, c.Session(1).Close(within(t)), api.NoSuchSession)
	})
	t.Run("waits for no state that is none", func(t *testing.T) {
		wantCode(t, c.Session(1).Wait(within(t), "ajar"), api.InvalidArgument)
	})
	t.Run("ends with its context", func(t *testing.T) {
		s := open(t, c, "matrix", api.Options{})
		ctx, cancel := context.WithTimeout(within(t), 10*time.Millisecond)
		defer cancel()
		if err := s.Wait(ctx, api.StateOpen); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// dbus-daemon refuses the 129th unanswered call of a connection.
func TestManyWaitsOnOneConnection(t *testing.T) {
	c := connect(t)
	w := watch(t, c, api.WatchOptions{})
	s := open(t, c, "matrix", api.Options{Agent: true})
	var wait sync.WaitGroup
	for range 300 {
		wait.Go(func() {
			if err := s.Wait(within(t), api.StateOpen); err != nil {
				t.Error(err)
			}
		})
	}
	if err := give(t, c, promptOf(t, w, s).ID, "correct horse"); err != nil {
		t.Fatal(err)
	}
	wait.Wait()
}

func TestWaitGoesOnThroughARestartOfTheBroker(t *testing.T) {
	s := system.StartOnBus(t, stacks(t))
	c := s.Client(t)
	w := watch(t, c, api.WatchOptions{})
	session := open(t, c, "matrix", api.Options{Agent: true})
	before := promptOf(t, w, session)
	waited := make(chan error, 1)
	go func() { waited <- session.Wait(within(t), api.StateOpen) }()
	s.Kill(t)
	next(t, w, func(api.BrokerGone) bool { return true })
	s.Restart(t)
	next(t, w, func(api.BrokerBack) bool { return true })
	after := promptOf(t, w, session)
	if after.ID != before.ID {
		t.Errorf("the prompt was %d and is %d", before.ID, after.ID)
	}
	if err := give(t, c, after.ID, "correct horse"); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

func TestSessions(t *testing.T) {
	c := connect(t)
	s := open(t, c, "permit", api.Options{})
	if err := s.Wait(within(t), api.StateOpen); err != nil {
		t.Fatal(err)
	}
	list, err := c.Sessions(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range list {
		if info.ID == s.ID() {
			if info.Path != s.Path() || info.Service != "permit" || info.User != "anna" || info.State != api.StateOpen {
				t.Errorf("it is listed as %+v", info)
			}
			return
		}
	}
	t.Errorf("session %d is not in %+v", s.ID(), list)
}

func TestWaitForASessionThatIsForgotten(t *testing.T) {
	c, owner := connect(t), connect(t)
	s := open(t, owner, "permit", api.Options{})
	if err := s.Wait(within(t), api.StateOpen); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 2)
	for range cap(waited) {
		go func() { waited <- c.Session(s.ID()).Wait(within(t), api.StateClosed) }()
	}
	for c.Waiting() < cap(waited) {
		runtime.Gosched()
	}
	if err := owner.Close(); err != nil { // closes the session, and has it forgotten when it is closed
		t.Fatal(err)
	}
	for range cap(waited) {
		if err := <-waited; err != nil {
			t.Error(err)
		}
	}
}
