// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

const (
	away = "connecting again as soon as there is a bus"
	back = "connected to the bus again"
)

// seated starts the client on a terminal, which shows all that it writes.
func seated(t *testing.T, s *system.System, args ...string) *person {
	t.Helper()
	p := arrive(t, s, exec.Command("pamprompt-client", args...))
	p.cmd.Stdout, p.cmd.Stderr = p.tty, p.tty
	p.sit(args)
	return p
}

// endBus ends the bus, and with it the broker.
func endBus(t *testing.T, s *system.OnBus) {
	t.Helper()
	s.EndBus(t, unix.SIGTERM)
	s.Ended(t)
}

// renewBus starts both again.
func renewBus(t *testing.T, s *system.OnBus) {
	t.Helper()
	s.RestartBus(t)
	s.Restart(t)
}

func TestAgentThroughARestartOfTheBus(t *testing.T) {
	s := system.StartOnBus(t, options(t))
	p := seated(t, s.System, "agent")
	p.see(idle)
	lingers := begin(t, s.System, "password", "anna", api.Options{Linger: true})
	p.see("asks for user \"anna\"")
	p.see("Password: ")
	begin(t, s.System, "password", "bert", api.Options{}) // behind it, and closed with the bus
	p.press("half an ans")
	endBus(t, s)
	p.see("is gone: the ") // connection to the bus was lost, or the broker went, of which a bus that ends may tell
	p.see(away)
	p.press("typed meanwhile" + enter)
	renewBus(t, s)
	p.see(back)
	p.see("asks for user \"anna\"")
	p.see("Password: ")
	p.press("secret" + enter)
	here := s.Client(t)
	wantOpen(t, here.Session(lingers.ID()))
	if got := environment(t, here.Session(lingers.ID())); got != "ANSWER=secret" {
		t.Errorf("the environment is %q", got)
	}
	next := begin(t, s.System, "password", "carl", api.Options{})
	p.see("asks for user \"carl\"")
	p.see("Password: ")
	p.press("secret" + enter)
	wantOpen(t, next)
	p.press(ctrlD)
	p.exits(exitOK)
	for _, typed := range []string{"half", "typed", "secret"} {
		p.never(typed)
	}
	for user, asked := range map[string]int{"anna": 2, "bert": 0, "carl": 1} {
		if n := strings.Count(p.screen.Shown(), "asks for user \""+user+"\""); n != asked {
			t.Errorf("%s was asked for %d times, not %d: %q", user, n, asked, p.screen.Shown())
		}
	}
	if n := strings.Count(p.screen.Shown(), "pamprompt-client: "); n != 2 {
		t.Errorf("it says %d lines of its own: %q", n, p.screen.Shown())
	}
}

// While there is no bus every way to leave works, at once; and who stays is there again.
func TestAgentIsLeftWhileThereIsNoBus(t *testing.T) {
	s := system.StartOnBus(t, options(t))
	leave := map[string]func(*person){
		"Ctrl-C":  func(p *person) { p.press(ctrlC) },
		"Ctrl-D":  func(p *person) { p.press(ctrlD) },
		"SIGTERM": func(p *person) { _ = p.cmd.Process.Signal(unix.SIGTERM) },
		"SIGHUP":  func(p *person) { _ = p.cmd.Process.Signal(unix.SIGHUP) },
		"SIGQUIT": func(p *person) { _ = p.cmd.Process.Signal(unix.SIGQUIT) },
	}
	people := map[string]*person{}
	for how := range leave {
		people[how] = seated(t, s.System, "agent")
		people[how].see(idle)
	}
	stays := seated(t, s.System, "agent")
	stays.see(idle)
	session := begin(t, s.System, "password", "anna", api.Options{})
	watching := seated(t, s.System, "watch", "--prompts")
	watching.see("Password:")
	stays.see("Password: ")
	stays.press("secret" + enter)
	for _, p := range people {
		p.see("is gone: answered")
	}
	wantOpen(t, session)
	endBus(t, s)
	for how, p := range people {
		p.see(away)
		leave[how](p)
		p.exits(exitOK)
	}
	watching.see(away)
	watching.press(ctrlC)
	watching.exits(exitOK)
	renewBus(t, s)
	stays.see(back)
	session = begin(t, s.System, "password", "anna", api.Options{})
	stays.see("Password: ")
	stays.press("secret" + enter)
	wantOpen(t, session)
	stays.press(ctrlD)
	stays.exits(exitOK)
	stays.never("secret")
}

// A script that reads what the agent saw is told, too.
func TestEventsOfAnAgentThroughARestartOfTheBus(t *testing.T) {
	s := system.StartOnBus(t, options(t))
	p := at(t, s.System, "agent", "--json")
	p.see(idle)
	told := func(event string) {
		t.Helper()
		defer p.within()()
		for line := ""; line != event+"\n"; {
			var err error
			if line, err = p.stdout.ReadString('\n'); err != nil {
				t.Fatalf("%s has not come: %v", event, err)
			}
		}
	}
	endBus(t, s)
	told(`{"event":"bus-gone"}`)
	renewBus(t, s)
	told(`{"event":"bus-back"}`)
	p.press(ctrlD)
	p.exits(exitOK)
}

// Who cancels a prompt when nobody takes that any more is asked again, and is not left
// without an agent.
func TestAPromptThatCannotBeCancelledIsAskedAgain(t *testing.T) {
	s := system.StartOnBus(t, options(t))
	p := seated(t, s.System, "agent")
	p.see(idle)
	session := begin(t, s.System, "password", "anna", api.Options{})
	p.see("Password: ")
	s.Signal(t, unix.SIGSTOP)
	p.press(ctrlC)
	p.see(eraseLine)
	s.Kill(t)
	p.see("is gone: ")
	s.Restart(t)
	p.see("Password: ")
	p.press("secret" + enter)
	wantOpen(t, session)
	p.press(ctrlD)
	p.exits(exitOK)
}

func TestThereIsNoBusAtTheStart(t *testing.T) {
	for _, args := range []string{"agent", "watch", "list", "open permit anna", "run true"} {
		t.Run(args, func(t *testing.T) {
			cmd := exec.Command("pamprompt-client", strings.Fields(args)...)
			cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent/bus")
			if code, text := ran(t, cmd); code != exitUnreachable || !strings.Contains(text, "is there a system bus?") {
				t.Errorf("exit code %d, %s", code, text)
			}
		})
	}
}

// Nobody is asked any more for an answer that could not be given.
func TestTheBusEndsWhileSomebodyIsToAnswer(t *testing.T) {
	s := system.StartOnBus(t, options(t))
	w, err := s.Client(t).Watch(bounded(t), api.WatchOptions{Agent: true})
	if err != nil {
		t.Fatal(err)
	}
	session := begin(t, s.System, "password", "anna", api.Options{Linger: true})
	prompt := pending(t, w, "anna")
	p := seated(t, s.System, "answer", prompt)
	p.see("Password: ")
	p.press("half an ans")

	cmd, stderr := exec.Command("pamprompt-client", "answer", prompt), strings.Builder{}
	cmd.Env, cmd.Stderr = s.Environment(), &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	if _, err := unix.FcntlInt(stdin.(*os.File).Fd(), unix.F_SETPIPE_SZ, page); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write(make([]byte, page+1)); err != nil { // returns when it reads
		t.Fatal(err)
	}
	endBus(t, s)
	p.see("the connection to the bus was lost: prompt " + prompt + " was not answered")
	p.exits(exitUnreachable)
	p.never("half")
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitUnreachable || !strings.Contains(stderr.String(), "prompt "+prompt+" was not answered") {
		t.Errorf("exit code %d, %s", code, &stderr)
	}
	renewBus(t, s)
	if w, err = s.Client(t).Watch(bounded(t), api.WatchOptions{Agent: true}); err != nil {
		t.Fatal(err)
	}
	if again := pending(t, w, "anna"); again != prompt {
		t.Errorf("the prompt was %s and is %s", prompt, again)
	}
	answered := exec.Command("pamprompt-client", "answer", prompt)
	answered.Env, answered.Stdin = s.Environment(), strings.NewReader("secret")
	if code, text := ran(t, answered); code != exitOK {
		t.Errorf("exit code %d, %s", code, text)
	}
	wantOpen(t, s.Client(t).Session(session.ID()))
}

func TestWhatTheEndOfTheBusMeans(t *testing.T) {
	lost := fmt.Errorf("%w: it was lost", api.ErrNoBus)
	opened := &opening{session: new(api.Client).Session(7)}
	for _, test := range []struct {
		name, want string
		err        error
	}{
		{"a list", "it has not answered", unheard(lost)},
		{"an answer that was not read", "prompt 7 was not answered", unsure(lostBus{lost, "prompt 7 was not answered", ""}, "prompt", 7)},
		{"a call", "what was wanted of prompt 7 may have been done, or not", unsure(lost, "prompt", 7)},
		{"open, which has no number yet", "if the session was begun it is closed", new(opening).parted(lost, api.Options{})},
		{"open --linger, which has none", "whether the session was begun is not known", new(opening).parted(lost, api.Options{Linger: true})},
		{"open", "session 7 is closed as soon as", opened.parted(lost, api.Options{})},
		{"open --linger", "session 7 lingers and goes on", opened.parted(lost, api.Options{Linger: true})},
		{"run", "session 7 is closed, and its command ended, as soon as", opened.parted(lost, api.Options{Command: []string{"true"}})},
		{"run of a shell", "session 7 is closed, and its command ended, as soon as", opened.parted(lost, api.Options{LoginShell: true})},
	} {
		t.Run(test.name, func(t *testing.T) {
			if text := test.err.Error(); !strings.HasPrefix(text, "the connection to the bus was lost: "+test.want) {
				t.Errorf("it says %q", text)
			}
			if code := exitCode(test.err); code != exitUnreachable {
				t.Errorf("exit code %d", code)
			}
			if strings.Contains(advice(test.err), "is there a system bus?") {
				t.Errorf("advice: %s", advice(test.err))
			}
		})
	}
	for _, other := range []error{nil, errInterrupted, api.ErrNoBroker} {
		if unheard(other) != other || unsure(other, "prompt", 7) != other || new(opening).parted(other, api.Options{}) != other {
			t.Errorf("%v becomes another error", other)
		}
	}
}
