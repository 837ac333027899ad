// SPDX-License-Identifier: Apache-2.0

package pammodule

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// TestWithABroker has people answer what modules ask.
func TestWithABroker(t *testing.T) {
	sys := system.Start(t, system.Options{})
	a := newAgent(t, sys)
	s := on(t, sanitized())
	s.real(sys.Address)
	t.Run("the question, and what stands around it", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		s.stack("[reason=the nightly backup] timeout=100", "auth:info=hello [auth:error=Sorry, try again] [auth:ask=secret,PIN: ] auth:export=GOT")
		r := s.start("anna", "authenticate", "env=GOT", "children", "end", "descriptors")
		if m := next[api.Message](a); m.Text.Text != "hello" {
			t.Errorf("the first text is %+v", m)
		}
		p := next[api.Prompt](a)
		if left := time.Duration(p.Expires)*time.Microsecond - monotonic(t); left < 50*time.Second || left > 100*time.Second {
			t.Errorf("it waits for %v", left)
		}
		uid := uint32(os.Geteuid())
		got := api.Prompt{Style: p.Style, Message: p.Message, Service: p.Service, User: p.User, OwnerUID: p.OwnerUID,
			OwnerPID: p.OwnerPID, OwnerComm: p.OwnerComm, Reason: p.Reason, Messages: p.Messages, Source: p.Source}
		if diff := cmp.Diff(api.Prompt{
			Style: api.StyleSecret, Message: "PIN: ", Service: "test", User: "anna", OwnerUID: &uid,
			OwnerPID: uint32(r.cmd.Process.Pid), OwnerComm: "program", Reason: "the nightly backup", Source: api.SourcePAM,
			Messages: []api.Text{{Style: api.StyleInfo, Text: "hello"}, {Style: api.StyleError, Text: "Sorry, try again"}},
		}, got); diff != "" {
			t.Errorf("the prompt (-want +got):\n%s", diff)
		}
		a.reply(p, "1234")
		r.says("authenticate PAM_SUCCESS", "GOT 1234", "children none", "end PAM_SUCCESS", "descriptors 0")
	})
	t.Run("texts that the program has taken, and a question that it refuses", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		var probe strings.Builder
		for i := range 10 { // of which the last eight are kept
			fmt.Fprintf(&probe, "auth:info=text%d ", i)
		}
		s.stack("", probe.String()+"auth:ask=secret,P: auth:ask=secret,Q:")
		r := s.start("anna", "conv=texts", "authenticate", "end")
		p := next[api.Prompt](a)
		var got, told []string
		for _, m := range p.Messages {
			got = append(got, m.Text)
		}
		if want := "text2 text3 text4 text5 text6 text7 text8 text9"; strings.Join(got, " ") != want {
			t.Errorf("above the question stand %q", got)
		}
		a.reply(p, "x")
		if p = next[api.Prompt](a); len(p.Messages) != 0 {
			t.Errorf("above the second one stand %v", p.Messages)
		}
		a.reply(p, "y")
		for i := range 10 {
			told = append(told, fmt.Sprintf("told text%d", i))
		}
		r.says(append(told, "authenticate PAM_SUCCESS", "end PAM_SUCCESS")...)
	})
	t.Run("every style, and more than one question", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		s.stack("", "[auth:batch=visible,Name: |choice,Sure? |secret,P: ] auth:export=GOT account:ask=binary,hex:000000060261 account:export=PACKET")
		r := s.start("anna", "authenticate", "env=GOT", "account", "env=PACKET", "end")
		for i, answer := range []string{"J\u00f6rg", "yes", "pass"} {
			p := next[api.Prompt](a)
			if want := []string{api.StyleVisible, api.StyleChoice, api.StyleSecret}[i]; p.Style != want || p.Index != uint32(i) {
				t.Errorf("question %d is of style %s, with the index %d", i, p.Style, p.Index)
			}
			if p.Style == api.StyleChoice && len(p.Choices) != 3 {
				t.Errorf("the choices are %q", p.Choices)
			}
			a.reply(p, answer)
		}
		p := next[api.Prompt](a)
		if string(p.Binary) != "\x00\x00\x00\x06\x02a" {
			t.Errorf("the packet is %q", p.Binary)
		}
		a.reply(p, "AAAACAJhYmM=")
		r.says("authenticate PAM_SUCCESS", "GOT pass", "account PAM_SUCCESS", "PACKET 0000000802616263", "end PAM_SUCCESS")
	})
	t.Run("a long answer", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		s.stack("", asks)
		long := strings.Repeat("0123456789abcdef", 4<<10)
		r := s.start("anna", "authenticate", "env=GOT", "end")
		a.reply(next[api.Prompt](a), long)
		r.says("authenticate PAM_SUCCESS", "GOT "+long, "end PAM_SUCCESS")
	})
	t.Run("nobody knows yet who it is", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		s.stack("", "auth:ask=visible,login:")
		r := s.start("-", "authenticate", "end")
		p := next[api.Prompt](a)
		if p.User != "" || p.Message != "login:" {
			t.Errorf("the prompt is %+v", p)
		}
		a.reply(p, "anna")
		r.says("authenticate PAM_SUCCESS", "end PAM_SUCCESS")
	})
	t.Run("a user whom NSS knows", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		s.stack("", asks)
		r := s.start("daemon", "authenticate", "env=GOT", "end")
		p := next[api.Prompt](a)
		if p.UID == nil || *p.UID != 1 {
			t.Errorf("the uid of daemon is %v", p.UID)
		}
		a.reply(p, "yes")
		r.says("authenticate PAM_SUCCESS", "GOT yes", "end PAM_SUCCESS")
	})
	t.Run("another service, and another user meanwhile", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		s.stack("service=vault", "auth:ask=secret,P: auth:setuser=bob account:ask=secret,Q:")
		r := s.start("anna", "authenticate", "account", "end")
		for _, user := range []string{"anna", "bob"} {
			p := next[api.Prompt](a)
			if p.Service != "vault" || p.User != user {
				t.Errorf("it asks for %s in %s, not for %s in vault", p.User, p.Service, user)
			}
			a.reply(p, "x")
		}
		r.says("authenticate PAM_SUCCESS", "account PAM_SUCCESS", "end PAM_SUCCESS")
	})
	t.Run("a service that is none", func(t *testing.T) {
		s := s.in(t)
		s.stack("service=../x", asks)
		r := s.start("anna", "authenticate", "end")
		out, _ := io.ReadAll(r.out)
		_ = r.cmd.Wait()
		if !strings.Contains(string(out), `the service "../x" is not the name of a file of /etc/pam.d`) || !strings.Contains(string(out), refusal) {
			t.Errorf("the program says\n%s", out)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		s.stack("", asks)
		r := s.start("anna", "authenticate", "end")
		if err := a.Cancel(within(t), next[api.Prompt](a).ID); err != nil {
			t.Error(err)
		}
		r.says(refusal, "end PAM_SUCCESS")
	})
	t.Run("nobody answers in time", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		s.stack("timeout=1", asks)
		r := s.start("anna", "authenticate", "end")
		p := next[api.Prompt](a)
		if gone := next[api.PromptClosed](a); gone.ID != p.ID || gone.Outcome != api.OutcomeExpired {
			t.Errorf("prompt %d ended as %+v", p.ID, gone)
		}
		r.says(refusal, "end PAM_SUCCESS")
	})
	t.Run("the program is killed", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		s.stack("", asks)
		r := s.start("anna", "authenticate", "end")
		p := next[api.Prompt](a)
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		if gone := next[api.PromptClosed](a); gone.ID != p.ID || gone.Outcome != api.OutcomeSessionClosed {
			t.Errorf("prompt %d ended as %+v", p.ID, gone)
		}
	})
	t.Run("a text without a question stays while the program waits, and goes with the transaction", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		s.stack("", "auth:info=touch")
		r := s.start("anna", "authenticate", "pause", "end", "pause")
		m := next[api.Message](a)
		r.await("pausing")
		if open := a.sessions(); !open[m.Session] {
			t.Errorf("there is no session %d of the text any more: %v", m.Session, open)
		}
		r.goOn()
		r.await("pausing")
		if gone := next[api.SessionRemoved](a); gone.ID != m.Session {
			t.Errorf("session %d is gone, not %d", gone.ID, m.Session)
		}
		r.goOn()
		r.says()
	})
	t.Run("many programs at once", func(t *testing.T) {
		s, a := s.in(t), a.in(t)
		s.stack("", asks)
		const many = 20
		programs := map[string]*running{}
		for i := range many {
			user := "user" + strconv.Itoa(i)
			programs[user] = s.start(user, "authenticate", "env=GOT", "end")
		}
		for range many {
			p := next[api.Prompt](a)
			a.reply(p, "of "+p.User)
		}
		for user, r := range programs {
			r.says("authenticate PAM_SUCCESS", "GOT of "+user, "end PAM_SUCCESS")
		}
	})
	t.Run("under valgrind", func(t *testing.T) {
		s := on(t, plain())
		a := a.in(t)
		s.valgrind()
		s.real(sys.Address)
		s.stack("", "auth:batch=info,hello|secret,Password: auth:export=GOT")
		r := s.start("anna", "authenticate", "env=GOT", "end")
		a.reply(next[api.Prompt](a), "seen")
		r.says("authenticate PAM_SUCCESS", "GOT seen", "end PAM_SUCCESS")
	})
}

// TestABrokerThatIsRestarted asks again what the last one was asked.
func TestABrokerThatIsRestarted(t *testing.T) {
	sys := system.StartOnBus(t, system.Options{})
	a := newAgent(t, sys.System)
	s := on(t, sanitized())
	s.real(sys.Address)
	s.stack("", asks)
	r := s.start("anna", "authenticate", "env=GOT", "pause", "authenticate", "env=GOT", "end")
	next[api.Prompt](a)
	sys.Kill(t)
	sys.Restart(t)
	a.reply(next[api.Prompt](a), "one")
	r.await("pausing")
	sys.Kill(t)
	sys.Restart(t)
	r.goOn()
	a.reply(next[api.Prompt](a), "two")
	r.says("authenticate PAM_SUCCESS", "GOT two", "end PAM_SUCCESS")
}

// TestABusThatIsRestarted does the same: while a question waits, and between two.
func TestABusThatIsRestarted(t *testing.T) {
	sys := system.StartOnBus(t, system.Options{})
	s := on(t, sanitized())
	s.real(sys.Address)
	s.stack("", asks)
	ends := func(signal unix.Signal) {
		t.Helper()
		sys.EndBus(t, signal)
		sys.Ended(t)
	}
	begins := func() *agent {
		t.Helper()
		sys.RestartBus(t)
		sys.Restart(t)
		return newAgent(t, sys.System)
	}
	r := s.start("anna", "authenticate", "env=GOT", "pause", "authenticate", "env=GOT", "end")
	next[api.Prompt](newAgent(t, sys.System))
	ends(unix.SIGKILL)
	a := begins()
	a.reply(next[api.Prompt](a), "one")
	r.await("pausing")
	ends(unix.SIGTERM)
	r.goOn() // and asks while there is no bus
	a = begins()
	a.reply(next[api.Prompt](a), "two")
	r.says("authenticate PAM_SUCCESS", "GOT two", "end PAM_SUCCESS")
}

// TestABusThatDoesNotComeBack leaves the program to itself, as soon as it has waited once.
func TestABusThatDoesNotComeBack(t *testing.T) {
	sys := system.StartOnBus(t, system.Options{})
	s := on(t, hasty())
	s.real(sys.Address)
	s.stack("", asks)
	r := s.start("anna", "authenticate", "authenticate", "end")
	next[api.Prompt](newAgent(t, sys.System))
	sys.EndBus(t, unix.SIGKILL)
	r.says(complain+filepath.Join(s.b.dir, "helper")+" does not reply", refusal, refusal, "end PAM_SUCCESS")
	sys.Ended(t)
}

// TestABrokerThatHangs leaves the program to itself, when it has waited long enough.
func TestABrokerThatHangs(t *testing.T) {
	sys := system.StartOnBus(t, system.Options{})
	s := on(t, hasty())
	s.real(sys.Address)
	s.stack("", asks)
	sys.Signal(t, unix.SIGSTOP)
	defer sys.Signal(t, unix.SIGCONT)
	want(t, s.run("anna", "authenticate", "end"),
		complain+filepath.Join(s.b.dir, "helper")+" does not reply", refusal, "end PAM_SUCCESS")
}

// TestABusThatIsAway is the same as a broker that is.
func TestABusThatIsAway(t *testing.T) {
	s := on(t, sanitized())
	s.real("unix:path=/nonexistent/bus")
	s.stack("", asks)
	out := s.run("anna", "authenticate", "end")
	if !strings.HasPrefix(out, complain) || !strings.HasSuffix(out, refusal+"\nend PAM_SUCCESS\n") || strings.Count(out, "\n") != 3 {
		t.Errorf("the program says\n%s", out)
	}
}
