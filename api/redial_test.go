// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
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

func redial(ctx context.Context, connect func(context.Context) (*api.Client, error)) <-chan redialled {
	done := make(chan redialled, 1)
	go func() {
		c, err := connect(ctx)
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
	other, came := s.Client(t), comer(t, s.System)
	done := redial(within(t), old.Redial)
	came()
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
func TestWaitIsPatientOnANewConnection(t *testing.T) {
	wait := func(c *api.Client) error {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		return c.Session(1).Wait(ctx, api.StateOpen)
	}
	c, err := api.ConnectPatiently(within(t))
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

// comer returns a function that waits until somebody comes to a bus.
func comer(t *testing.T, s *system.System) (await func()) {
	t.Helper()
	conn, signals := s.Conn(t), make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged")); err != nil {
		t.Fatal(err)
	}
	return func() {
		for e := range signals {
			if len(e.Body) == 3 && e.Body[0] == e.Body[2] { // a unique name, whose owner it is
				return
			}
		}
	}
}

func TestRedialEndsWithItsContext(t *testing.T) {
	ends := func(t *testing.T, connect func(context.Context) (*api.Client, error), tried func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := redial(ctx, connect)
		tried()
		cancel()
		if r := <-done; !errors.Is(r.err, context.Canceled) {
			t.Errorf("got %v, %v", r.client, r.err)
		}
	}
	t.Run("no bus", func(t *testing.T) {
		address, came := nobody(t)
		t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
		ends(t, api.ConnectPatiently, func() {
			for range 3 { // it goes on trying
				<-came
			}
		})
	})
	t.Run("no broker", func(t *testing.T) {
		s := system.StartOnBus(t, system.Options{})
		s.Kill(t)
		old, came := s.Client(t), comer(t, s.System)
		ends(t, old.Redial, came)
		s.Restart(t)
	})
}

// as runs f on a thread that is somebody else's meanwhile, for the kernel.
func as(t *testing.T, uid int, f func()) {
	t.Helper()
	become := func(uid int) {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			t.Fatalf("become uid %d: %v", uid, errno)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer become(os.Geteuid())
	become(uid)
	f()
}

// Whoever can make a socket where a bus was would be told what people type.
func TestABusOfSomebodyElseIsNotTheOneThatWasThere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this needs root: to be somebody else")
	}
	s := system.StartOnBus(t, system.Options{})
	c := s.Client(t)
	s.EndBus(t, unix.SIGTERM)
	s.Ended(t)
	dir := filepath.Join(s.Dir, "bus")
	if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.Chmod(s.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	var err error
	as(t, 65534, func() { l, err = net.Listen("unix", dir) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	said := make(chan []byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			close(said)
			return
		}
		text, _ := io.ReadAll(conn)
		_ = conn.Close()
		said <- text
	}()
	if _, err := c.Redial(within(t)); err == nil || !strings.Contains(err.Error(), "is one of uid 65534 now, and was one of uid 0") {
		t.Errorf("got %v", err)
	}
	if text := <-said; len(text) > 0 {
		t.Errorf("whoever has taken the bus's place was told %q", text)
	}
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
