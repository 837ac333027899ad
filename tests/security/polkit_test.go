// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/pty"
	"github.com/pamprompt/pamprompt/tests/system"
)

// polkitLimit is how long polkit may take where nobody is asked, and some more
// for a slow computer.
const polkitLimit = 5*time.Second + 15*time.Second

// opening has polkit decide whether one user may open one service.
const opening = `
[[rule]]
action = "open"
service = "permit"
caller = "uid:60001"
verdict = "polkit"
`

// Without polkit everything that is polkit's to decide is refused, at once, and
// what is not its to decide works.
func TestWithoutPolkitTheAnswerIsNo(t *testing.T) {
	const own = `
[[rule]]
action = "open"
service = "ask"
caller = "uid:60001"
verdict = "allow"
`
	onEitherBus(t, system.MachineOptions{Policy: opening + own, Polkit: `polkit.addRule(function() { return polkit.Result.YES; });`},
		func(t *testing.T, b *bench) {
			opener, agent := b.join(t, system.Opener), b.join(t, system.Agent)
			session, prompt := b.vault(t)
			if err := opener.call(opener.open("permit", "anna", nil), api.SessionInterface+".Close").Err; err != nil {
				t.Fatalf("while polkit says yes: %v", err)
			}
			if err := agent.call(session, api.SessionInterface+".Wait", api.StateOpening).Err; err != nil {
				t.Fatalf("while polkit says yes: %v", err)
			}
			b.StopPolkit(t)
			before := time.Now()
			wantDenied(t, "to open", opener.manager("OpenSession", "permit", "anna", options{}).Err)
			wantDenied(t, "to see", agent.call(session, api.SessionInterface+".Wait", api.StateOpening).Err)
			wantDenied(t, "to end", agent.call(session, api.SessionInterface+".Close").Err)
			wantDenied(t, "to answer", agent.manager("AnswerPrompt", prompt, answer).Err)
			if took := time.Since(before); took > polkitLimit {
				t.Errorf("four refusals took %v", took)
			}
			mine := opener.open("ask", "anna", options{"agent": dbus.MakeVariant(true)})
			number, _ := opener.prompt(mine)
			if err := opener.manager("AnswerPrompt", number, "right").Err; err != nil {
				t.Errorf("an answer to one's own session: %v", err)
			}
		})
}

// A polkit that hangs holds up whoever needs it, for a bounded time, and
// nobody else.
func TestAPolkitThatHangsHoldsUpNobodyElse(t *testing.T) {
	b := start(t, system.MachineOptions{Polkit: `polkit.addRule(function() { return polkit.Result.YES; });`})
	other, session, prompt := b.join(t, system.Other), dbus.ObjectPath(""), uint64(0)
	session, prompt = b.vault(t)
	b.FreezePolkit(t)
	before := time.Now()
	waiting := make(chan *dbus.Call, 64)
	for range 20 {
		other.Object(api.BusName, session).Go(api.SessionInterface+".Wait", 0, waiting, api.StateOpening)
	}
	agent := b.join(t, system.Agent).agent()
	for range 20 {
		began := time.Now()
		if err := call(b.root, api.RootPath, api.ManagerInterface+".ListPrompts").Err; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 4*time.Second { // less than polkit is waited for
			t.Errorf("root waited %v for a list", took)
		}
	}
	if err := call(b.root, api.RootPath, api.ManagerInterface+".AnswerPrompt", prompt, answer).Err; err != nil {
		t.Fatal(err)
	}
	b.wait(t, session, api.StateOpen)
	if took := time.Since(before); took > polkitLimit {
		t.Errorf("a session could be opened after %v only", took)
	}
	for range 20 {
		wantDenied(t, "what polkit does not answer", (<-waiting).Err)
	}
	if took := time.Since(before); took > polkitLimit {
		t.Errorf("the refusals took %v", took)
	}
	agent.Leave(t)
	b.ThawPolkit(t)
	if err := other.call(session, api.SessionInterface+".Wait", api.StateOpening).Err; err != nil {
		t.Errorf("when polkit answers again: %v", err)
	}
}

// polkit asks for a password only where the caller has said that it may, in the
// header of its message. The one who asks is pkttyagent, and its helper runs
// PAM, which lets anybody in here.
func TestPolkitAsksForAPasswordOnlyIfTheCallerLetsIt(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: opening}, func(t *testing.T, b *bench) {
		opener := b.join(t, system.Opener)
		screen := b.authenticator(t, opener)
		session, prompt := b.vault(t)
		before := time.Now()
		wantDenied(t, "to open without the flag", opener.manager("OpenSession", "permit", "anna", options{}).Err)
		wantDenied(t, "to see without the flag", opener.call(session, api.SessionInterface+".Wait", api.StateOpening).Err)
		wantDenied(t, "to end without the flag", opener.call(session, api.SessionInterface+".Close").Err)
		wantDenied(t, "to answer without the flag", opener.manager("AnswerPrompt", prompt, answer).Err)
		if paths := opener.sessions(t); len(paths) != 0 {
			t.Errorf("without the flag it sees %v", paths)
		}
		if took := time.Since(before); took > polkitLimit {
			t.Errorf("the refusal took %v", took)
		}
		if text := screen.text(); strings.Contains(text, "AUTHENTICATING") {
			t.Errorf("somebody was asked:\n%s", text)
		}
		opener.interactive.Store(true)
		var listed [][]any
		if err := opener.manager("ListPrompts").Store(&listed); err != nil || len(listed) != 0 {
			t.Errorf("somebody was asked for a list: %v, %v", listed, err)
		}
		if paths := opener.sessions(t); !slices.Equal(paths, []dbus.ObjectPath{session}) {
			t.Errorf("with the flag it sees %v", paths)
		}
		reply := opener.manager("OpenSession", "permit", "anna", options{})
		if reply.Err != nil {
			t.Fatalf("with the flag: %v\n%s", reply.Err, screen.text())
		}
		screen.await(t, "org.pamprompt.open-session", "“permit”") // what it is for
	})
}

// screen is what a program has written to a terminal.
type screen struct{ file *os.File }

func (s screen) text() string {
	raw, _ := os.ReadFile(s.file.Name())
	return string(raw)
}

// await waits until all of it is there: the terminal is copied beside the test.
func (s screen) await(t *testing.T, wants ...string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		text := s.text()
		missing := slices.DeleteFunc(slices.Clone(wants), func(want string) bool { return strings.Contains(text, want) })
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is no %q on the terminal:\n%s", missing, text)
		}
	}
}

// authenticator starts pkttyagent for somebody's process, on a terminal, and
// returns when polkit knows it.
func (b *bench) authenticator(t *testing.T, p *person) screen {
	t.Helper()
	keys, tty := pty.Open(t)
	written, err := os.CreateTemp(t.TempDir(), "screen")
	if err != nil {
		t.Fatal(err)
	}
	ready, notify, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ready.Close() }()
	if err := os.Chown(tty.Name(), int(p.UID), int(p.GID)); err != nil {
		t.Fatal(err)
	}
	cmd := b.Inside(t, p.Identity, "setsid", "--ctty", "pkttyagent", "--notify-fd", "3",
		"--process", fmt.Sprintf("%d,%d", p.PID, system.StartTime(t, p.PID)))
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = tty, tty, tty, []*os.File{notify}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = tty.Close(), notify.Close()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(written, keys) // until the program has ended
	}()
	t.Cleanup(func() {
		_, _ = cmd.Process.Kill(), cmd.Wait()
		<-copied
		_, _ = keys.Close(), written.Close()
	})
	if _, err := io.ReadAll(ready); err != nil { // closed when it is registered
		t.Fatal(err)
	}
	return screen{written}
}

// Who asks for the password may be an attacker: for its own process anybody may
// register. polkit 122 hands the details of a question to it where a message
// names one, and where a rule chooses by them whose password it takes, as here.
func TestPolkitTellsAnAttackersOwnAgentNothing(t *testing.T) {
	const script = `polkit.addAdminRule(function(action, subject) {
	if (action.lookup("service") == "` + service + `") return ["unix-user:` + user + `"];
});
polkit.addRule(function(action) {
	if (action.id == "org.pamprompt.answer-own") return polkit.Result.AUTH_ADMIN;
});`
	onEitherBus(t, system.MachineOptions{Polkit: script}, func(t *testing.T, b *bench) {
		other := b.join(t, system.Other)
		asked := make(chan []any, 256)
		agent := authenticationAgent{asked}
		const path = "/org/example/agent"
		if err := other.Export(agent, path, "org.freedesktop.PolicyKit1.AuthenticationAgent"); err != nil {
			t.Fatal(err)
		}
		subject := struct {
			Kind    string
			Details map[string]dbus.Variant
		}{"unix-process", map[string]dbus.Variant{
			"pid": dbus.MakeVariant(uint32(other.PID)), "start-time": dbus.MakeVariant(system.StartTime(t, other.PID)),
		}}
		if err := other.Object("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority").Call(
			"org.freedesktop.PolicyKit1.Authority.RegisterAuthenticationAgent", 0, subject, "C", path).Err; err != nil {
			t.Fatal(err)
		}
		session, prompt := b.vault(t)
		other.interactive.Store(true)
		interactive := func(path dbus.ObjectPath, member string, args ...any) string {
			err := other.call(path, member, args...).Err
			wantDenied(t, member, err)
			said := ""
			for {
				select {
				case question := <-asked:
					said += fmt.Sprintln(question...)
				default:
					return said
				}
			}
		}
		for _, member := range []struct {
			name string
			args []any
		}{{"Wait", []any{api.StateOpen}}, {"Close", nil}} {
			exists := interactive(session, api.SessionInterface+"."+member.name, member.args...)
			none := interactive(dbus.ObjectPath(fmt.Sprint(api.SessionPrefix, nobody)), api.SessionInterface+"."+member.name, member.args...)
			compareQuestions(t, member.name, exists, none)
		}
		exists := interactive(api.RootPath, api.ManagerInterface+".AnswerPrompt", prompt, "guess")
		none := interactive(api.RootPath, api.ManagerInterface+".AnswerPrompt", uint64(nobody), "guess")
		compareQuestions(t, "AnswerPrompt", exists, none)
		if n := strings.Count(exists, "org.pamprompt.answer-"); n != 1 || !strings.Contains(exists, "org.pamprompt.answer-any") {
			t.Errorf("for one answer somebody is asked\n%s", exists)
		}
	})
}

func compareQuestions(t *testing.T, member, exists, none string) {
	t.Helper()
	if exists == "" {
		t.Errorf("%s: the agent was asked nothing: this test does not hear what there is to hear", member)
	}
	if exists != none {
		t.Errorf("%s: the attacker's agent is told, of what exists,\n%s\nand of what does not,\n%s", member, exists, none)
	}
	for _, text := range private {
		if strings.Contains(exists, text) {
			t.Errorf("%s: the attacker's agent is told %q", member, text)
		}
	}
}

// authenticationAgent is an agent of polkit that only listens.
type authenticationAgent struct{ asked chan<- []any }

func (a authenticationAgent) BeginAuthentication(action, message, icon string, details map[string]string, cookie string, identities []struct {
	Kind    string
	Details map[string]dbus.Variant
}) *dbus.Error {
	delete(details, "polkit.caller-pid") // the broker's
	a.asked <- []any{action, message, details, identities}
	return dbus.NewError("org.freedesktop.PolicyKit1.Error.Failed", []any{"no"})
}

func (a authenticationAgent) CancelAuthentication(string) *dbus.Error { return nil }
