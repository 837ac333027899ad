// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// trap says which signal it got, and ends at the second kind.
const trap = `trap 'echo usr1' USR1; trap 'echo term; kill -KILL $!; exit 9' TERM; sleep 1000 >/dev/null & echo ready; while :; do wait; done`

func TestKill(t *testing.T) {
	for _, bus := range buses {
		t.Run(bus.name, func(t *testing.T) {
			s := bus.start(t, permitSystem())
			a := newAgent(t, s.System)
			r := a.shell(a.Client, "permit", me(t), trap, api.Options{})
			r.line()
			a.kill(r.Session, api.KillLeader, syscall.SIGUSR1)
			if got := r.line(); got != "usr1" {
				t.Errorf("it said %q", got)
			}
			a.restart(s) // the new broker knows that there is a command
			a.wait(r.Session, api.StateOpen)
			a.kill(r.Session, api.KillLeader, syscall.SIGUSR1)
			if got := r.line(); got != "usr1" {
				t.Errorf("after a restart of the broker it said %q", got)
			}
			a.kill(r.Session, api.KillLeader, syscall.SIGTERM)
			if got := r.line(); got != "term" {
				t.Errorf("it said %q", got)
			}
			r.ended(9, 0, "the command ended with status 9")
			a.kill(r.Session, api.KillAll, syscall.SIGKILL) // nobody is there, and that is no error
		})
	}
}

// Three processes: the leader, which heeds the signal, one of its group, and one of
// another.
const three = `exec 2>/dev/null; trap : USR2
sleep 1000 >/dev/null & a=$!
setsid sh -c 'echo ready; exec sleep 1000 >/dev/null' & b=$!
while kill -0 $a 2>/dev/null; do wait $a; done; echo group
while kill -0 $b 2>/dev/null; do wait $b; done; echo all`

func TestKillMany(t *testing.T) {
	s := system.StartOnBus(t, permitSystem())
	a := newAgent(t, s.System)
	r := a.shell(a.Client, "permit", me(t), three, api.Options{})
	r.line()
	for _, target := range []string{api.KillGroup, api.KillAll} {
		a.kill(r.Session, target, syscall.SIGUSR2)
		if got := r.line(); got != target {
			t.Errorf("a signal to %s has reached %s", target, got)
		}
	}
	r.ended(0, 0, "the command ended with status 0")
}

func (a *agent) kill(s *api.Session, target string, signal syscall.Signal) {
	a.t.Helper()
	if err := s.Kill(within(a.t), target, signal); err != nil {
		a.t.Fatalf("signal %d to %s: %v", signal, target, err)
	}
}

func TestSignalsThatAreNone(t *testing.T) {
	s := system.StartOnBus(t, permitSystem())
	a := newAgent(t, s.System)
	bare := a.open("permit", me(t), api.Options{})
	r := a.shell(a.Client, "permit", me(t), trap, api.Options{})
	r.line()
	for _, test := range []struct {
		name    string
		session *api.Session
		target  string
		signal  syscall.Signal
		code    api.Code
		says    string
	}{
		{"0", r.Session, api.KillAll, 0, api.InvalidArgument, "0 is no signal: it is a number from 1 to 64"},
		{"a negative one", r.Session, api.KillAll, -9, api.InvalidArgument, "-9 is no signal"},
		{"65", r.Session, api.KillAll, 65, api.InvalidArgument, "65 is no signal"},
		{"to nobody", r.Session, "", 9, api.InvalidArgument, `"" is no target of a signal: it is one of all, group, leader`},
		{"to a session without a command", bare, api.KillAll, 9, api.InvalidArgument, "has no command: Close ends it"},
		{"to a session that is not there", a.Session(1), api.KillAll, 9, api.NoSuchSession, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.session.Kill(within(t), test.target, test.signal)
			if !errors.Is(err, test.code) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want %s with %q", err, test.code, test.says)
			}
		})
	}
	a.kill(r.Session, api.KillLeader, syscall.SIGTERM)
	r.line()
	r.ended(9, 0, "the command ended with status 9")
}

func TestWaitExit(t *testing.T) {
	s := system.StartOnBus(t, permitSystem())
	a := newAgent(t, s.System)
	r := a.shell(a.Client, "permit", me(t), "exec 3<&0; (read -r line <&3) & exit 6", api.Options{})
	p, err := r.WaitExit(within(t))
	if err != nil || p.ExitStatus != 6 || p.State != api.StateOpen {
		t.Errorf("while others of the session go on it is %+v (%v)", p, err)
	}
	_ = r.in.Close()
	r.ended(6, 0, "the command ended with status 6")
	if p, err := r.WaitExit(within(t)); err != nil || p.ExitStatus != 6 {
		t.Errorf("after its end it is %+v (%v)", p, err)
	}
	killed := a.shell(a.Client, "permit", me(t), "kill -KILL $$", api.Options{})
	if p, err := killed.WaitExit(within(t)); err != nil || p.ExitStatus != 128+9 || p.ExitSignal != 9 {
		t.Errorf("one that was killed is %+v (%v)", p, err)
	}
	failed, err := a.Client.Open(within(t), "permit", me(t), api.Options{Command: []string{"/nosuch"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := failed.WaitExit(within(t)); !errors.Is(err, api.CommandFailed) {
		t.Errorf("one that could not start: %v", err)
	}
	bare := a.open("permit", me(t), api.Options{})
	a.wait(bare, api.StateOpen)
	if err := bare.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := bare.WaitExit(within(t)); !errors.Is(err, api.Cancelled) {
		t.Errorf("without a command: %v", err)
	}
}

// Root need not authenticate as the user, if it says that it does not want to.
func TestAuthenticateUnlessPermitted(t *testing.T) {
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{
		"strict": "auth required " + modules.Probe(t) + " auth:result=PAM_AUTH_ERR\n" + rest("account", "password", "session"),
	}})
	a := newAgent(t, s.System)
	for word, want := range map[string]api.Code{"": api.AuthenticationFailed, api.AuthenticateAlways: api.AuthenticationFailed, api.AuthenticateUnlessPermitted: ""} {
		session, err := a.Client.Open(within(t), "strict", me(t), api.Options{LoginShell: true, Authenticate: word})
		if err != nil {
			t.Fatal(err)
		}
		p, err := session.WaitExit(within(t))
		if want == "" && (err != nil || p.ExitStatus != 0) || want != "" && !errors.Is(err, want) {
			t.Errorf("%q: %+v, %v", word, p, err)
		}
	}
}

// Whoever answers sees what the answer lets run.
func TestAPromptShowsTheCommand(t *testing.T) {
	probe := modules.Probe(t)
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{
		"asks": "auth required " + probe + " [auth:ask=secret,Password: ]\n" + rest("account", "password", "session"),
	}})
	a := newAgent(t, s.System)
	session, err := a.Client.Open(within(t), "asks", me(t), api.Options{Command: []string{"sh", "-c", "exit 3"}, CommandEnvironment: []string{"X=1"}})
	if err != nil {
		t.Fatal(err)
	}
	prompt := a.promptOf(session)
	if want := []string{"sh", "-c", "exit 3"}; !slices.Equal(prompt.Command, want) {
		t.Errorf("the command is %q", prompt.Command)
	}
	a.reply(prompt.ID, "x")
	if p, err := session.WaitExit(within(t)); err != nil || p.ExitStatus != 3 {
		t.Errorf("it ended with %+v (%v)", p, err)
	}
	if prompt := a.promptOf(a.open("asks", me(t), api.Options{})); prompt.Command != nil {
		t.Errorf("without one it is %q", prompt.Command)
	}
}
