// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/pids"
	"github.com/pamprompt/pamprompt/tests/pty"
)

// person is somebody at a terminal on which the client runs.
type person struct {
	t      testing.TB
	cmd    *exec.Cmd
	screen *pty.Screen
}

// at runs the client on a terminal of its own. It is killed at the end of the test.
func (b *bench) at(args ...string) *person {
	b.t.Helper()
	keys, tty := pty.Open(b.t)
	p := &person{t: b.t, cmd: exec.Command(b.Programs.Client, args...)}
	p.cmd.Env, p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = b.Environment(), tty, tty, tty
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := p.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	p.screen = pty.Watch(b.t, keys, patience)
	b.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		_, _ = tty.Close(), keys.Close()
		<-p.screen.Over()
	})
	return p
}

// see waits until a text is on the screen, behind what was seen before.
func (p *person) see(text string) { p.t.Helper(); p.screen.See(text) }

func (p *person) press(keys string) { p.t.Helper(); p.screen.Press(keys) }

// dies ends the program as kill -9 does, and waits until it has ended.
func (p *person) dies() {
	p.t.Helper()
	kill(p.t, p.cmd.Process.Pid, unix.SIGKILL)
	_ = p.cmd.Wait()
}

// dialog is an agent at a terminal that shows the question of the bystander.
func (b *bench) dialog() *person {
	b.t.Helper()
	p := b.at("agent")
	p.see("Password: ")
	return p
}

// waitAgain puts another bystander in the place of one that was answered.
func (b *bench) waitAgain() {
	b.t.Helper()
	b.somebody.close(b.waiting)
	b.past++
	b.waiting = b.somebody.open("ask", api.Options{Agent: true})
	b.somebody.prompt(b.waiting)
}

// An agent is killed with its dialog up: whoever has the question too answers it, and
// an agent that comes then is shown it.
func TestAnAgentIsKilledWithItsDialogUp(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{})
	first, second := b.dialog(), b.dialog() // of the bystander that waits
	first.press("half an ans")
	first.dies()
	third := b.dialog()
	second.press("whole\r")
	b.somebody.wait(b.waiting, api.StateOpen)
	if p := b.somebody.properties(b.waiting); len(p.Environment) != 1 || p.Environment[0] != "ANSWER=whole" {
		t.Errorf("the module got %q", p.Environment)
	}
	third.see("is gone: answered")
	if lines := b.complaints(""); len(lines) > 0 {
		t.Errorf("the log complains: %q", lines)
	}
	second.dies()
	third.dies()
	b.waitAgain()
	b.unharmed()
}

// An agent is stopped with its dialog up: others answer, a hundred further questions
// hold up nobody, and when it goes on it sees that its own is gone.
func TestAnAgentIsStoppedWithItsDialogUp(t *testing.T) {
	t.Parallel()
	const many = 100
	b := start(t, map[string]string{"asks": stack(t, "fault auth:ask=100")})
	stopped := b.dialog()
	pids.Stop(t, stopped.cmd.Process.Pid)
	other := b.agent(false)
	s := other.open("asks", api.Options{Agent: true})
	for i := 1; i <= many; i++ {
		other.reply(other.prompt(s).ID, strconv.Itoa(i))
	}
	other.wait(s, api.StateOpen)
	b.somebody.reply(b.somebody.held[b.waiting.ID()], "by another")
	b.somebody.wait(b.waiting, api.StateOpen)
	kill(t, stopped.cmd.Process.Pid, unix.SIGCONT)
	stopped.see("is gone: answered")
	if lines := b.complaints(""); len(lines) > 0 {
		t.Errorf("the log complains: %q", lines)
	}
	stopped.dies()
	other.leave()
	b.waitAgain()
	b.unharmed()
}
