// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestOpenOnATerminal(t *testing.T) {
	s := system.Start(t, options(t))
	t.Run("a secret is not echoed, a visible answer is, and Ctrl-C ends the session", func(t *testing.T) {
		p := at(t, s, "open", "factors", "anna")
		p.see("Password: ")
		p.press("wrong" + ctrlU + "secrex" + rubout + "t" + enter)
		p.see("look at your token")
		p.see("Code: ")
		p.press("12345\x1b[D7" + rubout + "6")
		p.see("12345")
		p.press(enter)
		p.see("\r\n")
		p.number()
		p.press(ctrlC)
		p.exits(exitOK)
		p.never("secre")
		p.never("Code: \r\n")
	})
	t.Run("nothing is echoed after a stop in which a shell has had the terminal", func(t *testing.T) {
		p := at(t, s, "open", "factors", "anna")
		p.see("Password: ")
		p.signal(unix.SIGSTOP)
		p.stops()
		mode, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		mode.Lflag |= unix.ECHO | unix.ICANON
		mode.Cc[unix.VSUSP] = 0x1a
		if err := unix.IoctlSetTermios(int(p.tty.Fd()), unix.TCSETS, mode); err != nil {
			t.Fatal(err)
		}
		p.signal(unix.SIGCONT)
		p.see("Password: ") // again
		p.press("secret" + enter)
		p.see("Code: ")
		p.press("123456" + enter)
		p.number()
		p.press(ctrlC)
		p.exits(exitOK)
		p.never("secret")
	})
	t.Run("Ctrl-D ends the session too", func(t *testing.T) {
		p := at(t, s, "open", "permit", "anna")
		p.number()
		p.press("x" + enter + ctrlD)
		p.exits(exitOK)
	})
	t.Run("SIGTERM ends the session too", func(t *testing.T) {
		p := at(t, s, "open", "permit", "anna")
		p.number()
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		p.exits(exitOK)
	})
	t.Run("a hangup ends the session too", func(t *testing.T) {
		p := at(t, s, "open", "permit", "anna")
		p.number()
		_ = p.cmd.Process.Signal(syscall.SIGHUP)
		p.exits(exitOK)
	})
	for _, test := range []struct {
		name string
		do   func(*person)
		want int
	}{
		{"Ctrl-C at the prompt cancels it", func(p *person) { p.press("abc" + ctrlC) }, exitCancelled},
		{"Ctrl-D at the prompt cancels it", func(p *person) { p.press(ctrlD) }, exitCancelled},
		{"SIGTERM at the prompt closes the session", func(p *person) { _ = p.cmd.Process.Signal(syscall.SIGTERM) }, exitCancelled},
		{"SIGQUIT at the prompt closes the session", func(p *person) { _ = p.cmd.Process.Signal(syscall.SIGQUIT) }, exitCancelled},
		{"a wrong answer", func(p *person) { p.press("wrong" + enter) }, exitSession},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := at(t, s, "open", "password", "anna")
			p.see("Password: ")
			test.do(p)
			p.exits(test.want)
			p.never("abc")
		})
	}
	t.Run("of several services the first that succeeds opens the session", func(t *testing.T) {
		p := at(t, s, "open", "--alternative", "permit", "password", "anna")
		got, err := s.Client(t).Session(p.number()).Properties(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"service:       password", "alternatives:  permit", "opened by:     permit"} {
			if shown := describe(got); !strings.Contains(shown, want+"\n") {
				t.Errorf("it is shown without %q:\n%s", want, shown)
			}
		}
		p.press(ctrlC)
		p.exits(exitOK)
	})
	t.Run("a prompt that somebody else answers vanishes", func(t *testing.T) {
		p := at(t, s, "open", "password", "elsewhere")
		p.see("Password: ")
		p.press("half")
		other := s.Client(t)
		w, err := other.Watch(bounded(t), api.WatchOptions{Agent: true})
		if err != nil {
			t.Fatal(err)
		}
		answerOf(t, other, w, "elsewhere", "secret")
		p.see(eraseLine)
		p.see("is gone: answered")
		p.number()
		p.press(ctrlC)
		p.exits(exitOK)
	})
	t.Run("a terminal cannot answer binary data", func(t *testing.T) {
		p := at(t, s, "open", "binary", "anna")
		p.see("wants binary data")
		p.press(ctrlC)
		p.exits(exitCancelled)
	})
}

// The answer may have opened the session before its own call has returned.
func TestInterruptAfterTheAnswer(t *testing.T) {
	s := system.Start(t, options(t))
	c := s.Client(t)
	w, err := c.Watch(bounded(t), api.WatchOptions{Agent: true})
	if err != nil {
		t.Fatal(err)
	}
	session := begin(t, s, "password", "anna", api.Options{})
	prompt := answerOf(t, c, w, "anna", "secret")
	wantOpen(t, session)
	a := newAsker(c, nil)
	withdrawn := false
	a.now = &question{prompt: &api.Prompt{ID: prompt}, withdraw: func() { withdrawn = true }}
	o := &opening{client: c, asker: a}
	if err := o.interrupt(bounded(t)); !errors.Is(err, errInterrupted) || !withdrawn {
		t.Errorf("Ctrl-C at a prompt that was answered: %v, the terminal is read no more: %t; want %v, true", err, withdrawn, errInterrupted)
	}
}

func TestAnswerOnATerminal(t *testing.T) {
	s := system.Start(t, options(t))
	c := s.Client(t)
	w, err := c.Watch(bounded(t), api.WatchOptions{Agent: true})
	if err != nil {
		t.Fatal(err)
	}
	session := begin(t, s, "echo", "anna", api.Options{})
	p := at(t, s, "answer", pending(t, w, "anna"))
	p.see("Name: ")
	p.press("J\xc3\xb6" + rubout + "\xc3\xb6rg" + enter)
	p.exits(exitOK)
	p.never("\ufffd")
	wantOpen(t, session)
	if got := environment(t, session); got != "NAME=J\u00f6rg" {
		t.Errorf("the environment is %q", got)
	}
}
