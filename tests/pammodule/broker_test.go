// SPDX-License-Identifier: Apache-2.0

package pammodule

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/system"
)

// helperProgram builds pamprompt-conv, once.
var helperProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pamprompt-conv-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pamprompt-conv")
	cmd := exec.Command("go", "build", "-o", path, "github.com/pamprompt/pamprompt/cmd/pamprompt-conv")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pamprompt-conv: %w\n%s", err, out)
	}
	return path, nil
})

// real has the helper that is shipped talk to a broker.
func (s *stage) real(address string) {
	s.t.Helper()
	path, err := helperProgram()
	if err != nil {
		s.t.Fatal(err)
	}
	s.helper(fmt.Sprintf("DBUS_SYSTEM_BUS_ADDRESS='%s' exec %s \"$@\"", address, path))
}

// agent is told of everything.
type agent struct {
	*api.Client
	t      *testing.T
	events <-chan api.Event
}

func newAgent(t *testing.T, s *system.System) *agent {
	t.Helper()
	c := s.Client(t)
	w, err := c.Watch(t.Context(), api.WatchOptions{Agent: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return &agent{c, t, w.Events()}
}

// in is the agent for another test.
func (a *agent) in(t *testing.T) *agent { return &agent{a.Client, t, a.events} }

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), tooLong)
	t.Cleanup(cancel)
	return ctx
}

// next is the next event of a kind; others are dropped.
func next[E api.Event](a *agent) E {
	a.t.Helper()
	late := time.After(tooLong)
	for {
		select {
		case event, ok := <-a.events:
			if !ok {
				a.t.Fatal("the watcher has ended")
			}
			if e, ok := event.(E); ok {
				return e
			}
		case <-late:
			var e E
			a.t.Fatalf("no %T has come", e)
		}
	}
}

func (a *agent) reply(p api.Prompt, text string) {
	a.t.Helper()
	answer, err := secret.Read(strings.NewReader(text))
	if err != nil {
		a.t.Fatal(err)
	}
	defer answer.Wipe()
	if err := a.Answer(within(a.t), p.ID, answer); err != nil {
		a.t.Errorf("answer prompt %d: %v", p.ID, err)
	}
}

// running is the program while it runs.
type running struct {
	s    *stage
	cmd  *exec.Cmd
	keys io.WriteCloser
	out  *bufio.Reader
	err  bytes.Buffer
}

func (s *stage) start(user string, words ...string) *running {
	s.t.Helper()
	r := &running{s: s, cmd: s.command(user, words...)}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	r.out, r.cmd.Stderr = bufio.NewReader(stdout), &r.err
	if r.keys, err = r.cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// says waits for the end and checks all that it said.
func (r *running) says(lines ...string) {
	r.s.t.Helper()
	late := time.AfterFunc(tooLong, func() { _ = r.cmd.Process.Kill() })
	defer late.Stop()
	out, _ := io.ReadAll(r.out)
	if err := r.cmd.Wait(); err != nil || r.err.Len() > 0 && len(r.s.runner) == 0 {
		r.s.t.Errorf("%v\n%s", err, &r.err)
	}
	if len(lines) > 0 || len(out) > 0 {
		want(r.s.t, string(out), lines...)
	}
}

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

// in is the stage for another test.
func (s *stage) in(t *testing.T) *stage {
	t.Helper()
	return &stage{t: t, b: s.b, stacks: t.TempDir(), runner: s.runner, env: s.env}
}

func (a *agent) sessions() map[uint64]bool {
	a.t.Helper()
	list, err := a.Sessions(within(a.t))
	if err != nil {
		a.t.Fatal(err)
	}
	there := map[uint64]bool{}
	for _, s := range list {
		there[s.ID] = true
	}
	return there
}

// monotonic is the clock that Expires is of.
func monotonic(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// await reads until the program says a line.
func (r *running) await(line string) {
	r.s.t.Helper()
	for {
		said, err := r.out.ReadString('\n')
		if strings.TrimSpace(said) == line {
			return
		}
		if err != nil {
			r.s.t.Fatalf("it does not say %q: %v\n%s", line, err, &r.err)
		}
	}
}

// goOn ends a pause.
func (r *running) goOn() { _, _ = r.keys.Write([]byte("\n")) }

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
