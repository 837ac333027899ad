// SPDX-License-Identifier: Apache-2.0

package workers

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pamprompt/pamprompt/api/worker"
)

// dialAs is set in the environment of a child that only dials.
const dialAs = "PAMPROMPT_TEST_DIAL"

func TestMain(m *testing.M) {
	if path := os.Getenv(dialAs); path != "" {
		dialAndTell(path)
		return
	}
	goleak.VerifyTestMain(m)
}

// dialAndTell says hello as an idle worker and exits with 3 when it is
// refused.
func dialAndTell(path string) {
	c, err := worker.Dial(path)
	if err != nil {
		os.Exit(4)
	}
	_ = c.Send(hello())
	if _, err := c.Receive(new(worker.ToWorker)); err != nil {
		os.Exit(3)
	}
}

func hello() *worker.ToBroker {
	return &worker.ToBroker{Message: &worker.ToBroker_Hello{Hello: &worker.Hello{Version: worker.Version}}}
}

func closing() *worker.ToWorker {
	return &worker.ToWorker{Message: &worker.ToWorker_Close{Close: &worker.Close{}}}
}

func serve(t *testing.T) (*Pool, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w", "broker.sock")
	p, err := Listen(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- p.Serve(func(w *Worker, _ *worker.Session) { w.Refuse() }) }()
	t.Cleanup(func() {
		p.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p, path
}

func dial(t *testing.T, path string) *worker.Conn {
	t.Helper()
	c, err := worker.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// events collects what a worker says.
type events struct {
	packets chan *worker.ToBroker
	lost    chan error
}

func newEvents() *events {
	return &events{make(chan *worker.ToBroker, 8), make(chan error, 1)}
}

func (e *events) Packet(m *worker.ToBroker) { e.packets <- m }
func (e *events) Lost(err error)            { e.lost <- err }

func acquire(t *testing.T, p *Pool) *Worker {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w, err := p.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestThatNoWorkerIsIdleIsSaidOnce, when the last one of them ends, though they come and end again.
func TestThatNoWorkerIsIdleIsSaidOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w", "broker.sock")
	said := &strings.Builder{} // under the lock of the pool
	p, err := Listen(path, slog.New(slog.NewTextHandler(said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- p.Serve(func(w *Worker, _ *worker.Session) { w.Refuse() }) }()
	for range 3 {
		c := dial(t, path)
		if err := c.Send(hello()); err != nil {
			t.Fatal(err)
		}
		w := acquire(t, p)
		p.Return(w)
		w.Close() // as its reader does
	}
	p.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := strings.Count(said.String(), "no worker is idle"); n != 1 {
		t.Errorf("it was said %d times:\n%s", n, said)
	}
}

func TestTheSocketIsForItsOwnerAlone(t *testing.T) {
	_, path := serve(t)
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, st.Mode().Perm(), want)
		}
	}
}

func TestAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	p, path := serve(t)
	// As if somebody had opened the door: the check must hold without it.
	for _, name := range []string{path, filepath.Dir(path), filepath.Dir(filepath.Dir(path)), filepath.Dir(filepath.Dir(filepath.Dir(path)))} {
		if err := os.Chmod(name, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(filepath.Dir(path), "test")
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, own, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = []string{dialAs + "=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	err = cmd.Run()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("the child of another user ended with %v, want 3 (refused)", err)
	}
	if p.Idle() != 0 {
		t.Error("it counts as an idle worker")
	}
}

func TestIdleWorkersAreHandedOutInTheirOrderAndOnce(t *testing.T) {
	p, path := serve(t)
	first, second := dial(t, path), dial(t, path)
	for _, c := range []*worker.Conn{first, second} {
		if err := c.Send(hello()); err != nil {
			t.Fatal(err)
		}
		w := acquire(t, p)
		if err := w.Send(closing()); err != nil {
			t.Fatal(err)
		}
		if m := new(worker.ToWorker); mustReceive(t, c, m) && m.GetClose() == nil {
			t.Error("another worker was handed out")
		}
	}
	if p.Idle() != 0 {
		t.Errorf("%d are idle still", p.Idle())
	}
}

func mustReceive(t *testing.T, c *worker.Conn, m *worker.ToWorker) bool {
	t.Helper()
	if _, err := c.Receive(m); err != nil {
		t.Fatal(err)
	}
	return true
}

func TestWhoWaitsForAWorkerGetsTheNextInTurn(t *testing.T) {
	p, path := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := p.Acquire(ctx)
		gaveUp <- err
	}()
	cancel()
	if err := <-gaveUp; !errors.Is(err, ErrNoWorker) {
		t.Errorf("who gave up hears %v, want ErrNoWorker", err)
	}
	got := make(chan *Worker)
	go func() { got <- acquire(t, p) }()
	if err := dial(t, path).Send(hello()); err != nil {
		t.Fatal(err)
	}
	if <-got == nil {
		t.Error("who waited has no worker")
	}
}

func TestAWorkerThatEndsWhileIdleIsNotHandedOut(t *testing.T) {
	p, path := serve(t)
	dead, alive := dial(t, path), dial(t, path)
	if err := dead.Send(hello()); err != nil {
		t.Fatal(err)
	}
	w := acquire(t, p) // it is filed now,
	p.Return(w)        // and idle again
	_ = dead.Close()
	if err := alive.Send(hello()); err != nil {
		t.Fatal(err)
	}
	for {
		w := acquire(t, p)
		if e := newEvents(); w.Bind(e) && w.Send(closing()) == nil {
			break
		}
		w.Close() // the broker does so and takes the next
	}
	mustReceive(t, alive, new(worker.ToWorker))
}

func TestBindingALostWorkerSaysSo(t *testing.T) {
	p, path := serve(t)
	c := dial(t, path)
	if err := c.Send(hello()); err != nil {
		t.Fatal(err)
	}
	w := acquire(t, p)
	e := newEvents()
	if !w.Bind(e) {
		t.Fatal("a worker that lives cannot be bound")
	}
	_ = c.Close()
	if err := <-e.lost; !errors.Is(err, io.EOF) {
		t.Errorf("Lost(%v), want io.EOF", err)
	}
	if w.Bind(newEvents()) {
		t.Error("a worker that is lost can be bound")
	}
	if err := w.Send(closing()); err == nil {
		t.Error("a packet to a lost worker is no error")
	}
}

func TestTheSocketOfADeadBrokerIsReplacedAndOfALivingOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.sock")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if _, err := Listen(path, log); err == nil || !strings.Contains(err.Error(), "another broker") {
		t.Errorf("beside a living broker: %v", err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	p, err := Listen(path, log)
	if err != nil {
		t.Fatalf("after a dead broker: %v", err)
	}
	p.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, log); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("over a file: %v", err)
	}
}
