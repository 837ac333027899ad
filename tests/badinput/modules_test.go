// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
)

// logged makes every phase write itself down, so that the order of the end can
// be seen.
const logged = " auth:log=LOG account:log=LOG setcred:log=LOG open:log=LOG close:log=LOG delcred:log=LOG "

// A module that fails in a phase: what came before is undone in the reverse
// order, and nothing else. The number at the end is what pam_end was given.
func TestAFailureInEachPhaseUndoesWhatWasReached(t *testing.T) {
	for _, c := range []struct {
		name, stack string
		code        string
		phases      string
	}{
		{"authenticate", logged + "auth:result=PAM_AUTH_ERR", "AuthenticationFailed", "auth end 7"},
		{"account", logged + "account:result=PAM_ACCT_EXPIRED", "AccountUnavailable", "auth account end 13"},
		{"credentials", logged + "setcred:result=PAM_CRED_ERR", "PAMFailed", "auth account setcred end 17"},
		{"session", logged + "open:result=PAM_SESSION_ERR", "PAMFailed", "auth account setcred open delcred end 0"},
		{"authenticate, without information", logged + "auth:result=PAM_AUTHINFO_UNAVAIL", "Unavailable", "auth end 9"},
		{"authenticate, no more tries", logged + "auth:result=PAM_MAXTRIES", "MaxTries", "auth end 11"},
		{"a style that is none", logged + "auth:ask=99,hello", "PAMFailed", "auth end 19"},
		{"the user changed in authenticate", logged + "auth:setuser=nobody", "PAMFailed", "auth end 0"},
		{"the user changed in account", logged + "account:setuser=nobody", "PAMFailed", "auth account end 0"},
		{"the user changed in credentials", logged + "setcred:setuser=nobody", "PAMFailed", "auth account setcred delcred end 0"},
		{"the user changed in session", logged + "open:setuser=nobody", "PAMFailed", "auth account setcred open close delcred end 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, map[string]string{"bad": c.stack})
			path := b.open(t, b.conn, "bad", nil)
			state, _, text := b.wait(t, path, "open")
			if state != api.StateFailed || !strings.HasPrefix(text, c.code+": ") {
				t.Errorf("the session is %s: %q, want failed with %s", state, text, c.code)
			}
			if strings.Contains(c.name, "user changed") && !strings.Contains(text, `"nobody"`) {
				t.Errorf("%q does not say who", text)
			}
			if got := b.phases(t); got != c.phases {
				t.Errorf("phases %q, want %q", got, c.phases)
			}
		})
	}
}

// Close in the middle of a question, in every phase that can ask.
func TestClosingInEachPhaseUndoesWhatWasReached(t *testing.T) {
	for _, c := range []struct{ name, stack, phases string }{
		{"authenticate", logged + "auth:ask=secret,?", "auth end"},
		{"account", logged + "account:ask=secret,?", "auth account end"},
		{"credentials", logged + "setcred:ask=secret,?", "auth account setcred end"},
		{"session", logged + "open:ask=secret,?", "auth account setcred open delcred end"},
		{"open", logged, "auth account setcred open close delcred end"},
	} {
		for _, how := range []string{"Close", "the opener leaves"} {
			t.Run(c.name+", "+how, func(t *testing.T) {
				b := start(t, map[string]string{"ask": c.stack})
				opener := b.Conn(t)
				path := b.open(t, opener, "ask", nil)
				if c.name == "open" {
					b.wait(t, path, "open")
				} else {
					b.prompt(t, path, 0)
				}
				removed := b.removal(t, path)
				if how == "Close" {
					if err := session(b.conn, path, "Close").Err; err != nil {
						t.Fatal(err)
					}
					if state, _, text := b.wait(t, path, "closed"); state != api.StateClosed {
						t.Errorf("the session is %s: %s", state, text)
					}
				} else {
					_ = opener.Close()
					<-removed // nobody is left to look at it
				}
				if got := b.phases(t); !strings.HasPrefix(got, c.phases+" ") { // the status of pam_end comes last
					t.Errorf("phases %q, want %q", got, c.phases)
				}
			})
		}
	}
}

// removal returns a channel that is closed when the object of a session goes.
func (b *bench) removal(t *testing.T, path dbus.ObjectPath) <-chan struct{} {
	t.Helper()
	conn := b.Conn(t)
	signals, gone := make(chan *dbus.Signal, 64), make(chan struct{})
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchSender(api.BusName), dbus.WithMatchMember("SessionRemoved")); err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := range signals {
			if s.Name == api.ManagerInterface+".SessionRemoved" && len(s.Body) == 2 && s.Body[1] == path {
				close(gone)
				return
			}
		}
	}()
	return gone
}

// The opener leaves the bus before it has the reply to OpenSession.
func TestTheOpenerLeavesWhileItOpens(t *testing.T) {
	b := start(t, asks)
	for range 20 {
		opener := b.Conn(t)
		opener.Object(api.BusName, api.RootPath).Go(api.ManagerInterface+".OpenSession", dbus.FlagNoReplyExpected, nil, "ask", "root", options{})
		_ = opener.Close()
	}
	// Whatever was opened is closed again: the last list has the witness alone.
	changed := make(chan *dbus.Signal, 1024)
	b.conn.Signal(changed)
	if err := b.conn.AddMatchSignal(dbus.WithMatchSender(api.BusName)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(patience); ; {
		var list [][]any
		if err := manager(b.conn, "ListSessions").Store(&list); err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%d sessions are left", len(list)-1)
		}
	}
}

// A module that never returns: Close ends the session nevertheless, and says
// so.
func TestAModuleThatNeverReturns(t *testing.T) {
	for _, phase := range []string{"auth", "account", "setcred", "open", "close"} {
		t.Run(phase, func(t *testing.T) {
			b := start(t, map[string]string{"hang": phase + ":info=here " + phase + ":hang"}, "--close-timeout", "1s")
			said := b.messages(t)
			path := b.open(t, b.conn, "hang", linger)
			if phase == "close" {
				b.wait(t, path, "open")
			} else {
				for (<-said).Name != api.ManagerInterface+".Message" {
				}
			}
			if err := session(b.conn, path, "Close").Err; err != nil {
				t.Fatal(err)
			}
			state, _, text := b.wait(t, path, "closed")
			if state != api.StateFailed || !strings.HasPrefix(text, "WorkerFailed: ") || !strings.Contains(text, "1s") {
				t.Errorf("the session is %s: %q", state, text)
			}
		})
	}
}

// messages makes the test an agent, and returns what modules say.
func (b *bench) messages(t *testing.T) <-chan *dbus.Signal {
	t.Helper()
	signals := make(chan *dbus.Signal, 64)
	b.conn.Signal(signals) // it comes by unicast, without a match rule
	if err := manager(b.conn, "RegisterAgent", options{}).Err; err != nil {
		t.Fatal(err)
	}
	return signals
}

// The worker dies in each phase, of itself or killed.
func TestTheWorkerDiesInEachPhase(t *testing.T) {
	names := map[string]string{"auth": "authenticate", "account": "account", "setcred": "credentials", "open": "session", "close": "close-session", "delcred": "delete-credentials"}
	for phase, name := range names {
		for _, how := range []string{"SEGV", "KILL"} {
			t.Run(phase+", "+how, func(t *testing.T) {
				b := start(t, map[string]string{"crash": phase + ":crash=" + how})
				path := b.open(t, b.conn, "crash", linger)
				if phase == "close" || phase == "delcred" {
					b.wait(t, path, "open")
					if err := session(b.conn, path, "Close").Err; err != nil {
						t.Fatal(err)
					}
				}
				state, _, text := b.wait(t, path, "closed")
				if state != api.StateFailed || !strings.HasPrefix(text, "WorkerFailed: ") || !strings.Contains(text, "phase "+name) {
					t.Errorf("the session is %s: %q, want one lost in phase %s", state, text, name)
				}
			})
		}
	}
}

// The worker is killed while its prompt waits: the prompt goes too.
func TestTheWorkerIsKilledWhileItsPromptWaits(t *testing.T) {
	b := start(t, asks)
	path := b.open(t, b.conn, "ask", nil)
	number := b.prompt(t, path, 0)
	v, err := b.conn.Object(api.BusName, path).GetProperty(api.SessionInterface + ".Leader")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(int(v.Value().(uint32)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if state, _, text := b.wait(t, path, "open"); state != api.StateFailed || !strings.HasPrefix(text, "WorkerFailed: ") {
		t.Errorf("the session is %s: %q", state, text)
	}
	want(t, manager(b.conn, "AnswerPrompt", number, "right").Err, "NoSuchPrompt", "has ended")
}

// Texts that are not UTF-8 or far too long become something that is, in
// prompts, messages and the environment.
func TestTextsThatAreNotUTF8OrTooLong(t *testing.T) {
	b := start(t, map[string]string{
		"latin1": "auth:error=hex:66616cff63680a [auth:ask=secret,hex:50617373776fff7274] open:putenv=NAME=\xff\xfe",
		"long":   "auth:info=repeat:300000 auth:ask=visible,repeat:1000000",
	})
	for _, service := range []string{"latin1", "long"} {
		path := b.open(t, b.conn, service, nil)
		var number uint64
		var style, message string
		var details map[string]dbus.Variant
		if err := session(b.conn, path, "NextPrompt", uint64(0)).Store(&number, &style, &message, &details); err != nil {
			t.Fatal(err)
		}
		if !utf8.ValidString(message) || len(message) == 0 || len(message) > 200000 {
			t.Errorf("%s: the message has %d bytes", service, len(message))
		}
		if service == "latin1" && (message != "Passwo\uFFFDrt" || details["messages"].String() == "") {
			t.Errorf("the message is %q after %v", message, details["messages"])
		}
		if err := manager(b.conn, "AnswerPrompt", number, "x").Err; err != nil {
			t.Fatal(err)
		}
		if state, _, text := b.wait(t, path, "open"); state != api.StateOpen {
			t.Errorf("%s: the session is %s: %s", service, state, text)
		}
		if _, err := b.conn.Object(api.BusName, path).GetProperty(api.SessionInterface + ".Environment"); err != nil {
			t.Errorf("%s: the environment: %v", service, err)
		}
	}
}

// A module that talks faster than the bus can carry has to wait, and loses
// nothing: five thousand lines of a command, which pam_exec passes on one by one.
func TestAModuleThatTalksWithoutEnd(t *testing.T) {
	const lines = 5000
	b := start(t, nil)
	stack := "auth required " + modules.System(t, "pam_exec") + " stdout /usr/bin/seq 1 5000\nauth required pam_permit.so\n" + "account required pam_permit.so\nsession required pam_permit.so\n"
	if err := os.WriteFile(filepath.Join(b.PAMDir, "talk"), []byte(stack), 0o644); err != nil {
		t.Fatal(err)
	}
	agent := b.Conn(t)
	signals := make(chan *dbus.Signal, 2*lines) // a reader that is never behind
	agent.Signal(signals)
	if err := manager(agent, "RegisterAgent", options{}).Err; err != nil {
		t.Fatal(err)
	}
	path := b.open(t, b.conn, "talk", nil)
	if state, _, text := b.wait(t, path, "open"); state != api.StateOpen {
		t.Fatalf("the session is %s: %s", state, text)
	}
	for heard := 0; heard < lines; {
		select {
		case s := <-signals:
			if s.Name != api.ManagerInterface+".Message" {
				continue
			}
			if heard++; s.Body[2] != strconv.Itoa(heard) {
				t.Fatalf("line %d is %q", heard, s.Body[2])
			}
		case <-time.After(patience):
			t.Fatalf("%d of %d lines were heard", heard, lines)
		}
	}
}
