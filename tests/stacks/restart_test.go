// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// gone and back wait until the agent knows of the broker.
func (a *agent) gone() {
	a.t.Helper()
	next(a, func(api.BrokerGone) bool { return true })
	// What this broker asked, the next one has to ask again before it can be
	// answered.
	a.held = slices.DeleteFunc(a.held, func(e api.Event) bool { _, is := e.(api.Prompt); return is })
}
func (a *agent) back() { a.t.Helper(); next(a, func(api.BrokerBack) bool { return true }) }

// restart kills the broker and starts it again.
func (a *agent) restart(s *system.OnBus) {
	a.t.Helper()
	s.Kill(a.t)
	a.gone()
	s.Restart(a.t)
	a.back()
}

// same wants the next prompt of a session to be one that was there before.
func (a *agent) same(s *api.Session, old api.Prompt) {
	a.t.Helper()
	p := a.promptOf(s)
	if p.ID != old.ID || p.Index != old.Index || p.Message != old.Message || len(p.Messages) != len(old.Messages) || p.Reason != old.Reason {
		a.t.Errorf("the prompt was %+v\nand is %+v", old, p)
	}
}

func TestTheBrokerIsKilledWhileAQuestionWaits(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "users.oath"), "HOTP anna - "+key+"\n")
	s, _ := namespace(t, map[string]string{"two": unixThen(
		"auth required " + modules.System(t, "pam_oath") + " usersfile=" + dir + "/users.oath window=5 digits=6\n")})
	a := newAgent(t, s.System)
	session := a.open("two", "anna", api.Options{Attempts: 2, Reason: "a test"})
	a.reply(a.promptOf(session).ID, "wrong")
	first := a.promptOf(session) // with an error above it
	a.restart(s)
	a.same(session, first)
	a.reply(first.ID, password)
	second := a.promptOf(session)
	a.restart(s)
	a.restart(s) // twice, before anybody looked
	a.same(session, second)
	if err := a.give(first.ID, password); err == nil {
		t.Error("a question that was answered before the broker was killed could be answered again")
	}
	a.reply(second.ID, code(t, "--hotp", "-c", "0"))
	a.wait(session, api.StateOpen)
	a.close(session)
}

func TestTheBrokerIsKilledWhileASessionIsOpen(t *testing.T) {
	s := system.StartOnBus(t, matrixSystem(t))
	a := newAgent(t, s.System)
	e := a.run("matrix", "anna", api.Options{Reason: "a test"}, question(asksPassword, password))
	a.restart(s)
	a.wait(e.session, api.StateOpen)
	after := a.properties(e.session)
	if after.ID != e.ID || after.User != e.User || !after.OpenedAt.Equal(e.OpenedAt) || len(after.Environment) != len(e.Environment) || after.OwnerPID != e.OwnerPID {
		t.Errorf("it was %+v\nand is %+v", e.Properties, after)
	}
	other := a.run("matrix", "anna", api.Options{}, question(asksPassword, password))
	if other.ID == e.ID {
		t.Errorf("two sessions have number %d", e.ID)
	}
	a.close(other.session)
	a.close(e.session)
}

func TestTheOpenerLeavesWhileTheBrokerIsAway(t *testing.T) {
	s := system.StartOnBus(t, matrixSystem(t))
	a, opener := newAgent(t, s.System), leaver(t, s.System)
	bound, err := opener.Open(within(t), "matrix", "anna", api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	lingering, err := opener.Open(within(t), "matrix", "anna", api.Options{Linger: true})
	if err != nil {
		t.Fatal(err)
	}
	a.promptOf(bound)
	p := a.promptOf(lingering)
	s.Kill(t)
	a.gone()
	if err := opener.Close(); err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
	a.back()
	next(a, func(e api.SessionRemoved) bool { return e.ID == bound.ID() })
	a.same(lingering, p)
	goesOn(a, a.Session(lingering.ID()), p, false)
}

// gate is a named pipe that holds a module up.
type gate struct {
	t    *testing.T
	file *os.File
}

func newGate(t *testing.T, path string) gate {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	// Open for both, so that neither end waits for the other.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return gate{t, f}
}

// arrived waits until a module is here.
func (g gate) arrived() {
	g.t.Helper()
	if err := g.file.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		g.t.Fatal(err)
	}
	if _, err := g.file.Read(make([]byte, 64)); err != nil {
		g.t.Fatalf("no module has come: %v", err)
	}
}

// release lets a module go on.
func (g gate) release() {
	g.t.Helper()
	if _, err := g.file.WriteString("go\n"); err != nil {
		g.t.Fatal(err)
	}
}

func TestTheBrokerIsKilledWhileASessionCloses(t *testing.T) {
	dir := t.TempDir()
	at, goOn := newGate(t, filepath.Join(dir, "at")), newGate(t, filepath.Join(dir, "go"))
	hold := script(t, "hold", "echo here >"+dir+"/at\nread -r _ <"+dir+"/go\n")
	exec := modules.System(t, "pam_exec")
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{
		"slow": rest("auth", "account", "password") + "session required " + exec + " type=close_session" + hold + "\n" + rest("session"),
	}})
	for _, test := range []struct {
		name string
		away bool // the module returns while there is no broker
	}{
		{"and PAM has unwound before it is back", true},
		{"and is back before PAM has unwound", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAgent(t, s.System)
			session := a.open("slow", "anna", api.Options{})
			a.wait(session, api.StateOpen)
			if err := session.Close(within(t)); err != nil {
				t.Fatal(err)
			}
			at.arrived()
			s.Kill(t)
			a.gone()
			if test.away {
				goOn.release()
			}
			s.Restart(t)
			a.back()
			if !test.away {
				a.wait(session, api.StateClosing)
				goOn.release()
			}
			a.closed(session)
		})
	}
}

// An opener that is no agent has nobody to register with again: the broker
// knows by the worker that it wants to be told.
func TestAnOpenerIsToldAgainWhatItAsked(t *testing.T) {
	s := system.StartOnBus(t, matrixSystem(t))
	c := s.Client(t)
	w, err := c.Watch(within(t), api.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	a := &agent{Client: c, t: t, events: w.Events()}
	session := a.open("matrix", "anna", api.Options{Agent: true, Reason: "a test"})
	p := a.promptOf(session)
	a.restart(s)
	a.same(session, p)
	a.reply(p.ID, password)
	a.wait(session, api.StateOpen)
	a.close(session)
}
