// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) { os.Exit(system.MainWith(m, stacks)) }

// stacks are those of the system that the package's tests share.
func stacks(t testing.TB) system.Options {
	probe := modules.Probe(t)
	anna := map[string]string{"anna": "correct horse"}
	return system.Options{Stacks: map[string]string{
		"permit":  system.Permit(),
		"deny":    system.Deny(),
		"example": system.Matrix(t, "example", anna),
		"matrix":  system.Matrix(t, "matrix", anna),
		"talk": "auth required " + probe + " [auth:info=welcome] [auth:error=careful] [auth:ask=visible,Name: ]" +
			" auth:expect=anna auth:export=NAME\naccount required pam_permit.so\npassword required pam_permit.so\n" +
			"session required " + probe + "\n",
		"choice": "auth required " + probe + " [auth:ask=choice,Sure?] auth:export=SURE\naccount required pam_permit.so\n" +
			"password required pam_permit.so\nsession required pam_permit.so\n",
	}}
}

// within is a context that ends a test that hangs.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// connect connects to the shared system.
func connect(t *testing.T) *api.Client {
	t.Helper()
	c, err := api.Connect(within(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func watch(t *testing.T, c *api.Client, options api.WatchOptions) *api.Watcher {
	t.Helper()
	w, err := c.Watch(within(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func open(t *testing.T, c *api.Client, service string, options api.Options) *api.Session {
	t.Helper()
	s, err := c.Open(within(t), service, "anna", options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// next is the next event that wanted accepts.
func next[E api.Event](t *testing.T, w *api.Watcher, wanted func(E) bool) E {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case event, ok := <-w.Events():
			if !ok {
				t.Fatalf("the watcher has ended: %v", w.Err())
			}
			if e, ok := event.(E); ok && wanted(e) {
				return e
			}
		case <-timeout:
			var e E
			t.Fatalf("no %T has come", e)
		}
	}
}

// promptOf is the next prompt of a session.
func promptOf(t *testing.T, w *api.Watcher, s *api.Session) api.Prompt {
	t.Helper()
	return next(t, w, func(p api.Prompt) bool { return p.Session == s.ID() })
}

func give(t *testing.T, c *api.Client, prompt uint64, text string) error {
	t.Helper()
	answer, err := secret.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Wipe()
	return c.Answer(within(t), prompt, answer)
}

func wantCode(t *testing.T, err error, code api.Code) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Errorf("got error %v, want %s", err, code)
	}
}

func TestErrorsOfOpen(t *testing.T) {
	c := connect(t)
	for _, test := range []struct {
		name          string
		service, user string
		options       api.Options
		code          api.Code
	}{
		{"an unknown service", "nosuch", "anna", api.Options{}, api.InvalidArgument},
		{"a service that is a path", "../permit", "anna", api.Options{}, api.InvalidArgument},
		{"a service with a NUL", "per\x00mit", "anna", api.Options{}, api.InvalidArgument},
		{"a user that is not UTF-8", "permit", "ann\xe4", api.Options{}, api.InvalidArgument},
		{"an option with a NUL", "permit", "anna", api.Options{Reason: "a\x00b"}, api.InvalidArgument},
		{"an environment that is not UTF-8", "permit", "anna", api.Options{Environment: []string{"A=\xff"}}, api.InvalidArgument},
		{"a negative timeout", "permit", "anna", api.Options{Timeout: -1}, api.InvalidArgument},
		{"a phase that does not exist", "permit", "anna", api.Options{Phases: []string{"auth"}}, api.InvalidArgument},
		{"too many attempts", "permit", "anna", api.Options{Attempts: api.MaxAttempts + 1}, api.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := c.Open(within(t), test.service, test.user, test.options)
			wantCode(t, err, test.code)
		})
	}
	if err := open(t, c, "permit", api.Options{}).Wait(within(t), api.StateOpen); err != nil {
		t.Errorf("the connection did not stand it: %v", err)
	}
}

func TestOptionsReachPAM(t *testing.T) {
	c := connect(t)
	s := open(t, c, "permit", api.Options{Environment: []string{"LANG=C", "EDITOR=ed"}, Linger: true})
	t.Cleanup(func() { _ = s.Close(within(t)) })
	if err := s.Wait(within(t), api.StateOpen); err != nil {
		t.Fatal(err)
	}
	p, err := s.Properties(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Environment, " "); got != "EDITOR=ed LANG=C" {
		t.Errorf("the environment is %q", got)
	}
	if !p.Linger || p.ID != s.ID() || p.Service != "permit" || p.User != "anna" || p.OwnerUID != uint32(os.Getuid()) ||
		p.OwnerPID != uint32(os.Getpid()) || p.OpenedAt.IsZero() || time.Since(p.OpenedAt) > time.Minute {
		t.Errorf("the properties are %+v", p)
	}
}

func TestThereIsNoBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "bus"))
	if _, err := api.Connect(within(t)); !errors.Is(err, api.ErrNoBus) {
		t.Errorf("got %v, want ErrNoBus", err)
	}
}

func TestConnectGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := api.Connect(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestThereIsNoBroker(t *testing.T) {
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{"permit": system.Permit()}})
	c := s.Client(t)
	s.Kill(t)
	if _, err := c.Sessions(within(t)); !errors.Is(err, api.ErrNoBroker) {
		t.Errorf("Sessions: got %v, want ErrNoBroker", err)
	}
	late := s.Client(t)
	if err := late.Session(1).Wait(within(t), api.StateOpen); !errors.Is(err, api.ErrNoBroker) {
		t.Errorf("Wait of a client that never saw a broker: got %v, want ErrNoBroker", err)
	}
	s.Restart(t)
	if _, err := c.Sessions(within(t)); err != nil {
		t.Errorf("Sessions after the broker came back: %v", err)
	}
}

func TestASessionWhoseOpenerGaveUpIsClosed(t *testing.T) {
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{"permit": system.Permit()}})
	c := s.Client(t)
	w := watch(t, c, api.WatchOptions{})
	s.Signal(t, syscall.SIGSTOP) // the call reaches a broker that does not answer
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(ctx, func() { s.Signal(t, syscall.SIGCONT) })
	time.AfterFunc(50*time.Millisecond, cancel) // any moment is right: before, while or after it is sent
	if _, err := c.Open(ctx, "permit", "anna", api.Options{Linger: true}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the context's error", err)
	}
	next(t, w, func(e api.SessionChanged) bool { return e.State == api.StateClosed })
}

func TestCloseLeavesNothing(t *testing.T) {
	c := connect(t)
	w := watch(t, c, api.WatchOptions{Agent: true})
	session := open(t, c, "matrix", api.Options{})
	waited := make(chan error, 1)
	go func() { waited <- session.Wait(context.Background(), api.StateOpen) }()
	promptOf(t, w, session)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !errors.Is(err, api.ErrNoBus) {
		t.Errorf("Wait: got %v, want ErrNoBus", err)
	}
	for range w.Events() {
	}
	if err := w.Err(); err != nil {
		t.Errorf("the watcher ended with %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	if _, err := c.Watch(context.Background(), api.WatchOptions{}); !errors.Is(err, api.ErrNoBus) {
		t.Errorf("Watch: got %v, want ErrNoBus", err)
	}
	if _, err := c.Sessions(context.Background()); !errors.Is(err, api.ErrNoBus) {
		t.Errorf("Sessions: got %v, want ErrNoBus", err)
	}
}
