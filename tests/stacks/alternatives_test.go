// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// touch is what the module of a reader says before it waits for a finger.
const touch = "Place your finger on the reader"

// reader is a stack like that of pam_fprintd: it asks nothing, says what to do, and
// waits. The test lays the finger on.
type reader struct {
	gate
	stack string
}

func newReader(t *testing.T, dir, name string) reader {
	t.Helper()
	path := filepath.Join(dir, name)
	probe := modules.Probe(t)
	return reader{newGate(t, path), "auth required " + probe + " [auth:info=" + touch + "] [auth:run=read -r line <" + path + "; test $line = yes] auth:putenv=BY=" + name + "\n" +
		rest("account", "password", "session")}
}

func (r reader) say(word string) {
	r.t.Helper()
	if _, err := r.file.WriteString(word + "\n"); err != nil {
		r.t.Fatal(err)
	}
}

// byPassword is a stack that wants a password.
func byPassword(t *testing.T) string {
	return "auth required " + modules.Probe(t) + " [auth:ask=secret,Password: ] [auth:expect=" + password + "] auth:putenv=BY=word\n" + rest("account", "password", "session")
}

func sideBySide(t *testing.T) (*system.OnBus, *agent, reader) {
	t.Helper()
	finger := newReader(t, t.TempDir(), "finger")
	s := system.StartOnBus(t, system.Options{
		Stacks: map[string]string{
			"word": byPassword(t), "finger": finger.stack,
			"hangs": "auth required " + modules.Probe(t) + " [auth:info=" + touch + "] auth:hang\n" + rest("account", "password", "session"),
		},
		BrokerArgs: []string{"--close-timeout", "1s"},
	})
	return s, newAgent(t, s.System), finger
}

// touchOf waits until the reader of a session waits.
func (a *agent) touchOf(s *api.Session) {
	a.t.Helper()
	next(a, func(m api.Message) bool { return m.Session == s.ID() && m.Text.Text == touch })
}

func (a *agent) wantUsed(s *api.Session, service string) {
	a.t.Helper()
	p := a.properties(s)
	if p.UsedService != service || p.Service != "word" || !slices.Equal(p.Alternatives, []string{"finger"}) {
		a.t.Errorf("service %q with alternatives %q was opened by %q, want %q", p.Service, p.Alternatives, p.UsedService, service)
	}
	if !slices.Contains(p.Environment, "BY="+service) {
		a.t.Errorf("its environment is %q", p.Environment)
	}
}

var withFinger = api.Options{Alternatives: []string{"finger"}}

func TestTheFirstAlternativeThatSucceedsOpensTheSession(t *testing.T) {
	_, a, finger := sideBySide(t)
	t.Run("the password", func(t *testing.T) {
		session := a.open("word", "anna", withFinger)
		p := a.promptOf(session)
		a.touchOf(session)
		if p.Service != "word" {
			t.Errorf("the prompt is of service %q", p.Service)
		}
		a.wantUndecided(session)
		a.reply(p.ID, password)
		a.wait(session, api.StateOpen)
		a.wantUsed(session, "word")
		a.close(session)
	})
	t.Run("the finger", func(t *testing.T) {
		session := a.open("word", "anna", withFinger)
		p := a.promptOf(session)
		a.touchOf(session)
		finger.say("yes")
		if closed := next(a, func(e api.PromptClosed) bool { return e.ID == p.ID }); closed.Outcome != api.OutcomeSessionClosed {
			t.Errorf("the prompt ended as %s", closed.Outcome)
		}
		a.wait(session, api.StateOpen)
		a.wantUsed(session, "finger")
		if err := a.give(p.ID, password); !errors.Is(err, api.NoSuchPrompt) {
			t.Errorf("to answer the password's prompt then: %v", err)
		}
		a.close(session)
	})
	t.Run("the main service is the finger", func(t *testing.T) {
		session := a.open("finger", "anna", api.Options{Alternatives: []string{"word"}})
		p := a.promptOf(session)
		a.touchOf(session)
		if p.Service != "word" {
			t.Errorf("the prompt is of service %q", p.Service)
		}
		a.reply(p.ID, password)
		a.wait(session, api.StateOpen)
		a.close(session)
	})
}

func (a *agent) wantUndecided(s *api.Session) {
	a.t.Helper()
	if p := a.properties(s); p.UsedService != "" || p.State != api.StateOpening {
		a.t.Errorf("while both ask it is %s and used %q", p.State, p.UsedService)
	}
}

// What fails is told, and the other one goes on; the last one to fail ends it.
func TestAnAlternativeThatFailsDoesNotEndTheSession(t *testing.T) {
	_, a, finger := sideBySide(t)
	for _, c := range []struct {
		name  string
		first func(p api.Prompt)
		said  string
		then  func(p api.Prompt)
		want  result
		used  string
	}{
		{"the finger fails, the password is right", func(api.Prompt) { finger.say("no") }, "finger: PAMFailed",
			func(p api.Prompt) { a.reply(p.ID, password) }, result{}, "word"},
		{"the password is wrong, the finger is right", func(p api.Prompt) { a.reply(p.ID, "wrong") }, "word: AuthenticationFailed",
			func(api.Prompt) { finger.say("yes") }, result{}, "finger"},
		{"both fail, the finger last", func(p api.Prompt) { a.reply(p.ID, "wrong") }, "word: AuthenticationFailed",
			func(api.Prompt) { finger.say("no") }, result{api.AuthenticationFailed, 7, "; finger: PAMFailed"}, ""},
		{"both fail, the password last", func(api.Prompt) { finger.say("no") }, "finger: PAMFailed",
			func(p api.Prompt) { a.reply(p.ID, "wrong") }, result{api.AuthenticationFailed, 7, "; finger: PAMFailed"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			session := a.open("word", "anna", withFinger)
			p := a.promptOf(session)
			a.touchOf(session)
			c.first(p)
			next(a, func(m api.Message) bool {
				return m.Session == session.ID() && m.Style == api.StyleError && strings.HasPrefix(m.Text.Text, c.said)
			})
			a.wantUndecided(session)
			c.then(p)
			if c.want.code == "" {
				a.wait(session, api.StateOpen)
				a.wantUsed(session, c.used)
			} else if err := session.Wait(within(t), api.StateOpen); err == nil {
				t.Error("it opened")
			}
			a.want(ending{Properties: a.properties(session), session: session}, c.want)
		})
	}
}

func TestAlternativesAreClosedTogether(t *testing.T) {
	for _, service := range []string{"finger", "hangs"} {
		s, a, _ := sideBySide(t)
		both := api.Options{Alternatives: []string{service}}
		t.Run(service+" by Close", func(t *testing.T) {
			session := a.open("word", "anna", both)
			p := a.promptOf(session)
			a.touchOf(session)
			if err := session.Close(within(t)); err != nil {
				t.Fatal(err)
			}
			if closed := next(a, func(e api.PromptClosed) bool { return e.ID == p.ID }); closed.Outcome != api.OutcomeSessionClosed {
				t.Errorf("the prompt ended as %s", closed.Outcome)
			}
			a.closed(session)
		})
		t.Run(service+" by the owner who leaves", func(t *testing.T) {
			opener := leaver(t, s.System)
			session, err := opener.Open(within(t), "word", "anna", both)
			if err != nil {
				t.Fatal(err)
			}
			a.promptOf(session)
			a.touchOf(session)
			if err := opener.Close(); err != nil {
				t.Fatal(err)
			}
			next(a, func(e api.SessionRemoved) bool { return e.ID == session.ID() })
		})
		s.Stop(t) // which wants that no process is left
	}
}

// A module that never returns does not keep the session from opening, and is gone
// at the latest when that has ended.
func TestALoserThatHangsIsEnded(t *testing.T) {
	s, a, _ := sideBySide(t)
	session := a.open("word", "anna", api.Options{Alternatives: []string{"hangs"}})
	p := a.promptOf(session)
	a.touchOf(session)
	a.reply(p.ID, password)
	a.wait(session, api.StateOpen)
	a.close(session)
	s.Stop(t)
}

func TestAWorkerThatIsKilledIsAnAlternativeThatFailed(t *testing.T) {
	_, a, finger := sideBySide(t)
	session := a.open("word", "anna", withFinger)
	a.promptOf(session)
	a.touchOf(session)
	leader := int(a.properties(session).Leader) // the main service's
	if err := unix.Kill(leader, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	next(a, func(m api.Message) bool {
		return m.Session == session.ID() && strings.HasPrefix(m.Text.Text, "word: WorkerFailed")
	})
	if p := a.properties(session); p.Leader == 0 || int(p.Leader) == leader {
		t.Errorf("the leader is %d after %d was killed", p.Leader, leader)
	}
	finger.say("yes")
	a.wait(session, api.StateOpen)
	a.wantUsed(session, "finger")
	a.close(session)
}

func TestTheBrokerIsKilledWhileAlternativesAsk(t *testing.T) {
	for _, wins := range []string{"word", "finger"} {
		t.Run(wins+" is first after that", func(t *testing.T) {
			s, a, finger := sideBySide(t)
			session := a.open("word", "anna", withFinger)
			p := a.promptOf(session)
			a.touchOf(session)
			a.restart(s)
			a.same(session, p)
			if wins == "word" {
				a.reply(p.ID, password)
			} else {
				finger.say("yes")
			}
			a.wait(session, api.StateOpen)
			a.wantUsed(session, wins)
			a.restart(s)
			a.wait(session, api.StateOpen)
			a.wantUsed(session, wins)
			a.close(session)
			s.Stop(t)
		})
	}
	t.Run("and one is ready while it is away", func(t *testing.T) {
		s, a, finger := sideBySide(t)
		session := a.open("word", "anna", withFinger)
		a.promptOf(session)
		a.touchOf(session)
		s.Kill(t)
		a.gone()
		finger.say("yes")
		s.Restart(t)
		a.back()
		a.wait(session, api.StateOpen)
		a.wantUsed(session, "finger")
		a.close(session)
	})
}

// What failed under one broker has its part in how the session ends under the next, and
// nobody waits for it to come back.
func TestTheBrokerIsKilledAfterAnAlternativeHasFailed(t *testing.T) {
	s, a, finger := sideBySide(t)
	both := result{api.AuthenticationFailed, 7, "; finger: PAMFailed"}
	bystander, err := leaver(t, s.System).Open(within(t), "word", "anna", api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	waiting := a.promptOf(bystander)
	for _, c := range []struct {
		name  string
		first func(p api.Prompt)
		said  string
		then  func(p api.Prompt)
		want  result
		used  string
	}{
		{"the password, and then the finger", func(p api.Prompt) { a.reply(p.ID, "wrong") }, "word: AuthenticationFailed",
			func(api.Prompt) { finger.say("no") }, both, ""},
		{"the finger, and then the password", func(api.Prompt) { finger.say("no") }, "finger: PAMFailed",
			func(p api.Prompt) { a.reply(p.ID, "wrong") }, both, ""},
		{"the finger, and the password is right", func(api.Prompt) { finger.say("no") }, "finger: PAMFailed",
			func(p api.Prompt) { a.reply(p.ID, password) }, result{}, "word"},
	} {
		t.Run(c.name, func(t *testing.T) {
			session := a.open("word", "anna", withFinger)
			p := a.promptOf(session)
			a.touchOf(session)
			c.first(p)
			next(a, func(m api.Message) bool {
				return m.Session == session.ID() && m.Style == api.StyleError && strings.HasPrefix(m.Text.Text, c.said)
			})
			from := len(s.Log())
			for range 2 { // the second one has it from a worker that had it from the first
				a.restart(s)
				a.same(bystander, waiting)
				if !strings.HasPrefix(c.said, "word") {
					a.same(session, p)
				}
			}
			since := time.Now()
			c.then(p)
			if c.used != "" {
				a.wait(session, api.StateOpen)
				a.wantUsed(session, c.used)
			} else if err := session.Wait(within(t), api.StateOpen); err == nil {
				t.Error("it opened")
			}
			a.want(ending{Properties: a.properties(session), session: session}, c.want)
			t.Attr("saw", fmt.Sprintf("%s: %v after the answer, under the third broker", c.name, time.Since(since).Round(10*time.Millisecond)))
			if strings.Contains(s.Log()[from:], "did not come back") {
				t.Error("the broker has waited for what has ended")
			}
			if c.used != "" {
				a.close(session)
			}
		})
	}
	a.reply(waiting.ID, password)
	a.wait(bystander, api.StateOpen)
}

// The command runs once, with the descriptors, in the transaction that goes on; whoever
// reads them sees their end although the other module hangs.
func TestOnlyTheWinnerRunsTheCommand(t *testing.T) {
	_, a, _ := sideBySide(t)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	session := a.open("word", me(t), api.Options{Alternatives: []string{"hangs"}, Command: []string{"sh", "-c", "echo $BY"},
		WorkingDirectory: "/", Stdio: []*os.File{in, in, in}})
	_ = in.Close()
	p := a.promptOf(session)
	a.touchOf(session)
	a.reply(p.ID, password)
	if got, err := io.ReadAll(out); err != nil || string(got) != "word\n" {
		t.Errorf("the command said %q, %v", got, err)
	}
	a.closed(session)
}

func TestAlternativesThatCannotBeOpened(t *testing.T) {
	s, a, _ := sideBySide(t)
	for _, c := range []struct {
		name    string
		options api.Options
		text    string
	}{
		{"the service itself", api.Options{Alternatives: []string{"word"}}, `"word", which is the service of the session already`},
		{"one twice", api.Options{Alternatives: []string{"finger", "finger"}}, `"finger" twice`},
		{"no name", api.Options{Alternatives: []string{"../finger"}}, "is not the name of a file"},
		{"one that does not exist", api.Options{Alternatives: []string{"nosuch"}}, `there is no PAM service "nosuch"`},
		{"too many", api.Options{Alternatives: []string{"a", "b", "c", "d", "e", "f", "g", "h"}}, "has 8 services, not 1 to 7"},
		{"nobody authenticates", api.Options{Alternatives: []string{"finger"}, Phases: []string{"account", "session"}}, "leaves authenticate out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := a.Open(within(t), "word", "anna", c.options)
			if !errors.Is(err, api.InvalidArgument) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("it is %v", err)
			}
		})
	}
	if sessions, err := a.Sessions(within(t)); err != nil || len(sessions) > 0 {
		t.Errorf("there are the sessions %v, %v", sessions, err)
	}
	s.Stop(t)
}
