// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// redialled is what Redial returns.
type redialled struct {
	client *api.Client
	err    error
}

func redial(ctx context.Context, address string) <-chan redialled {
	done := make(chan redialled, 1)
	go func() {
		c, err := api.Redial(ctx, address)
		done <- redialled{c, err}
	}()
	return done
}

func TestRedialWaitsForABusAndABroker(t *testing.T) {
	s := system.StartOnBus(t, stacks(t))
	old := s.Client(t)
	w := watch(t, old, api.WatchOptions{Agent: true})
	session := open(t, old, "matrix", api.Options{Linger: true})
	pending := promptOf(t, w, session)
	s.EndBus(t, unix.SIGKILL)
	s.Ended(t)
	for range w.Events() {
	}
	if err := w.Err(); !errors.Is(err, api.ErrNoBus) {
		t.Fatalf("got %v, want ErrNoBus", err)
	}
	if _, err := old.Watch(context.Background(), api.WatchOptions{}); !errors.Is(err, api.ErrNoBus) {
		t.Errorf("who watches when the bus has ended is told %v", err)
	}
	s.RestartBus(t)
	other, came := s.Client(t), comers(t, s.System)
	done := redial(within(t), s.Address)
	<-came
	for range 100 { // by then it would have returned
		if _, err := other.Sessions(within(t)); !errors.Is(err, api.ErrNoBroker) {
			t.Fatalf("got %v, want ErrNoBroker", err)
		}
	}
	select {
	case r := <-done:
		t.Fatalf("it does not wait for a broker: %v, %v", r.client, r.err)
	default:
	}
	s.Restart(t)
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { _ = r.client.Close() })
	if p := promptOf(t, watch(t, r.client, api.WatchOptions{Agent: true}), session); p.ID != pending.ID {
		t.Errorf("the prompt was %d and is %d", pending.ID, p.ID)
	}
	if err := give(t, r.client, pending.ID, "correct horse"); err != nil {
		t.Fatal(err)
	}
	if err := r.client.Session(session.ID()).Wait(within(t), api.StateOpen); err != nil {
		t.Error(err)
	}
}

// The broker may be as new as the bus, and the worker of a session not have dialled yet.
func TestWaitIsPatientAfterReconnect(t *testing.T) {
	wait := func(c *api.Client) error {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		return c.Session(1).Wait(ctx, api.StateOpen)
	}
	c, err := api.Reconnect(within(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := wait(c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait did not wait: %v", err)
	}
}

// nobody takes connections and ends them, as a bus that cannot start. It tells of each.
func nobody(t *testing.T) (address string, came <-chan struct{}) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	calls, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(calls)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
			select {
			case calls <- struct{}{}:
			case <-over:
			}
		}
	}()
	t.Cleanup(func() {
		close(over)
		_ = l.Close()
		for range calls {
		}
	})
	return "unix:path=" + path, calls
}

// comers tells of each connection to a bus.
func comers(t *testing.T, s *system.System) <-chan *dbus.Signal {
	t.Helper()
	conn, signals := s.Conn(t), make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged")); err != nil {
		t.Fatal(err)
	}
	return signals
}

func TestRedialEndsWithItsContext(t *testing.T) {
	ends := func(t *testing.T, address string, tried func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := redial(ctx, address)
		tried()
		cancel()
		if r := <-done; !errors.Is(r.err, context.Canceled) {
			t.Errorf("got %v, %v", r.client, r.err)
		}
	}
	t.Run("no bus", func(t *testing.T) {
		address, came := nobody(t)
		ends(t, address, func() {
			for range 3 { // it goes on trying
				<-came
			}
		})
	})
	t.Run("no broker", func(t *testing.T) {
		s := system.StartOnBus(t, system.Options{})
		s.Kill(t)
		came := comers(t, s.System)
		ends(t, s.Address, func() { <-came })
		s.Restart(t)
	})
}

func TestThePausesGrowAndDiffer(t *testing.T) {
	whole := 100 * time.Millisecond
	for i, got := range api.Pauses(12) {
		if got < whole/2 || got >= whole {
			t.Errorf("pause %d is %v, and should be between %v and %v", i, got, whole/2, whole)
		}
		whole = min(2*whole, 5*time.Second)
	}
	seen := map[time.Duration]bool{}
	for range 16 {
		seen[api.Pauses(1)[0]] = true
	}
	if len(seen) < 2 {
		t.Error("everybody waits as long as everybody else")
	}
}
