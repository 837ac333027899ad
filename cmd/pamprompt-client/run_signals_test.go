// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// watched is a command with a process of its group that is watched by another one
// from outside: whoever is stopped cannot say so.
const watched = `
import os, signal
leader = os.getpid()
signal.signal(signal.SIGINT, signal.SIG_DFL)
if os.fork() == 0:
    signal.signal(signal.SIGHUP, signal.SIG_IGN) # of the session that is closed when the leader has ended
    os.setpgid(0, 0)
    member = os.fork()
    if member == 0:
        os.setpgid(0, leader)
        print("ready", flush=True)
        while True: signal.pause()
    while True:
        _, status = os.waitpid(member, os.WUNTRACED | os.WCONTINUED)
        if os.WIFSTOPPED(status): print("stopped", flush=True)
        elif os.WIFCONTINUED(status): print("continued", flush=True)
        else:
            print("ended", os.WTERMSIG(status), flush=True)
            os._exit(0)
signal.signal(signal.SIGUSR1, lambda *_: print("told", flush=True))
while True: signal.pause()
`

// watch runs it, and returns when it gets every signal that we get.
func watch(t *testing.T, s *system.System) *person {
	t.Helper()
	p := withPipes(t, s, "/usr/bin/python3", "-c", watched)
	p.says("ready")
	p.opened(s)
	p.signal(unix.SIGUSR1)
	p.says("told")
	return p
}

func TestSignalsOfRunWithPipes(t *testing.T) {
	s := system.Start(t, options(t))
	t.Run("Ctrl-Z stops the command and us, Ctrl-C ends its group", func(t *testing.T) {
		p := watch(t, s)
		p.press(ctrlZ)
		p.says("stopped")
		p.stops()
		p.signal(unix.SIGCONT)
		p.says("continued")
		p.press(ctrlC)
		p.says("ended 2")
		p.exits(128 + 2)
	})
	t.Run("so does SIGTSTP that is sent to us", func(t *testing.T) {
		p := watch(t, s)
		for range 3 {
			p.signal(unix.SIGTSTP)
			p.says("stopped")
			p.stops()
			p.signal(unix.SIGCONT)
			p.says("continued")
		}
		p.signal(unix.SIGQUIT)
		p.says("ended 3")
		p.exits(128 + 3)
	})
	for _, test := range []struct {
		name   string
		signal syscall.Signal
	}{{"TERM", unix.SIGTERM}, {"USR1", unix.SIGUSR1}, {"USR2", unix.SIGUSR2}, {"ALRM", unix.SIGALRM}} {
		t.Run("SIG"+test.name+" is the command's", func(t *testing.T) {
			p := withPipes(t, s, "sh", "-c", traps("trap 'echo got; exit 9' "+test.name))
			p.says("ready")
			p.opened(s)
			p.signal(test.signal)
			p.says("got")
			p.exits(9)
		})
	}
	for _, signal := range []syscall.Signal{unix.SIGHUP, unix.SIGKILL} {
		t.Run(fmt.Sprintf("signal %d ends us, and the command", signal), func(t *testing.T) {
			fifo := pipe(t)
			p := withPipes(t, s, "sh", "-c", traps(hangup(fifo)))
			p.says("ready")
			p.opened(s)
			p.signal(signal)
			wantLine(t, fifo, "hangup")
		})
	}
	t.Run("what is left is hung up on", func(t *testing.T) {
		fifo := pipe(t)
		left := traps(hangup(fifo))
		p := withPipes(t, s, "--setenv", "LEFT="+left, "sh", "-c", "sh -c \"$LEFT\" & read -r line; exit 4")
		p.says("ready")
		p.opened(s)
		p.press(enter)
		wantLine(t, fifo, "hangup")
		p.exits(4)
	})
}

func TestRunThroughARestartOfTheBroker(t *testing.T) {
	s := system.StartOnBus(t, options(t))
	for _, mode := range []struct {
		name string
		run  func(*testing.T, *system.System, ...string) *person
		says func(*person, string)
	}{{"a terminal", onTerminal, (*person).see}, {"pipes", withPipes, (*person).says}} {
		t.Run("with "+mode.name, func(t *testing.T) {
			p := mode.run(t, s.System, "sh", "-c", traps("trap 'echo one' USR1", "trap 'exit 9' TERM"))
			mode.says(p, "ready")
			p.opened(s.System)
			p.signal(unix.SIGUSR1)
			mode.says(p, "one") // so that we know that the session is open
			s.Kill(t)
			p.signal(unix.SIGTERM) // which waits for the next broker
			s.Restart(t)
			p.exits(9)
		})
	}
}

func TestRunIgnoresWhatItWasStartedToIgnore(t *testing.T) {
	s := system.Start(t, options(t))
	p := arrive(t, s, exec.Command("sh", "-c", `trap "" HUP; exec pamprompt-client run sh -c "$0"`, traps("trap 'echo one' USR1", "trap 'exit 9' TERM")))
	p.cmd.Stdout, p.cmd.Stderr = p.tty, p.tty
	p.sit(nil)
	p.see("ready")
	p.signal(unix.SIGHUP)
	p.signal(unix.SIGTERM)
	p.exits(9)
}

// What ignores the hangup is killed in the end, and PAM waits for that. Whoever does
// not want to wait has the exit status already.
func TestASignalGivesUpWaitingForTheEndOfTheSession(t *testing.T) {
	o := options(t)
	o.BrokerArgs = []string{"--close-timeout", "5s"}
	s := system.Start(t, o)
	p := onTerminal(t, s, "sh", "-c", "trap '' HUP; setsid sleep 1000 & echo rea''dy; read -r line; exit 4")
	p.see("ready")
	session := p.session(s)
	p.press(enter)
	if err := session.Wait(bounded(t), api.StateClosing); err != nil {
		t.Fatal(err)
	}
	p.signal(unix.SIGTERM)
	p.see("is still being closed")
	p.exits(4)
}

// Nobody is left to wait for it.
func TestAHangupDoesNotWaitForTheEndOfTheSession(t *testing.T) {
	o := options(t)
	o.BrokerArgs = []string{"--close-timeout", "5s"}
	s := system.Start(t, o)
	p := onTerminal(t, s, "sh", "-c", "trap '' HUP; "+ready)
	p.see("ready")
	session := p.session(s)
	p.signal(unix.SIGHUP)
	p.exits(exitCancelled)
	if properties, err := session.Properties(bounded(t)); err != nil || properties.Ended() {
		t.Errorf("the session is %s (%v)", properties.State, err)
	}
}

func TestHoldKeepsWhatModulesSay(t *testing.T) {
	var r running
	for _, e := range []api.Event{api.SessionAdded{}, api.Message{}, api.SessionChanged{}, api.Prompt{}, api.PromptClosed{}, api.BrokerGone{}, api.BrokerBack{}} {
		r.hold(e)
	}
	if len(r.held) != 4 {
		t.Errorf("it holds %v", r.held)
	}
}
