// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/system"
)

const idle = "waiting for prompts"

// pending waits for the prompt of a user and returns its number.
func pending(t *testing.T, w *api.Watcher, user string) string {
	t.Helper()
	for e := range w.Events() {
		if p, ok := e.(api.Prompt); ok && p.User == user {
			return strconv.FormatUint(p.ID, 10)
		}
	}
	t.Fatalf("no prompt for %s: %v", user, w.Err())
	return ""
}

// answerOf answers the prompt of a user, whose number it returns.
func answerOf(t *testing.T, c *api.Client, w *api.Watcher, user, text string) uint64 {
	t.Helper()
	id, err := strconv.ParseUint(pending(t, w, user), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := secret.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Wipe()
	if err := c.Answer(bounded(t), id, answer); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAgent(t *testing.T) {
	s := system.Start(t, options(t))
	t.Run("says who asks and answers one prompt after another", func(t *testing.T) {
		p := at(t, s, "agent")
		p.see(idle)
		one := begin(t, s, "factors", "anna", api.Options{Reason: "the backup", Attempts: 2})
		p.see("asks for user \"anna\" in service \"factors\"")
		p.see("reason, in the caller's words: the backup")
		p.see("Password: ")
		w, err := s.Client(t).Watch(bounded(t), api.WatchOptions{Agent: true})
		if err != nil {
			t.Fatal(err)
		}
		two := begin(t, s, "password", "bert", api.Options{})
		pending(t, w, "bert") // and so it comes before anna's next
		p.press("secret" + enter)
		p.see("asks for user \"bert\"")
		p.see("Password: ")
		p.press("secret" + enter)
		p.see("Code: ")
		p.press("123456" + enter)
		wantOpen(t, one)
		wantOpen(t, two)
		p.press(ctrlD)
		p.exits(exitOK)
		p.never("secret")
	})
	t.Run("shows what the module said above the next attempt", func(t *testing.T) {
		p := at(t, s, "agent")
		p.see(idle)
		session := begin(t, s, "password", "anna", api.Options{Attempts: 2})
		p.see("Password: ")
		p.press("wrong" + enter)
		p.see("attempt 2")
		p.see("Authentication failure")
		p.see("Password: ")
		p.press("secret" + enter)
		wantOpen(t, session)
		p.press(ctrlD)
		p.exits(exitOK)
	})
	t.Run("says what the answer lets run", func(t *testing.T) {
		p := at(t, s, "agent")
		p.see(idle)
		session := begin(t, s, "password", "nobody", api.Options{Command: []string{"echo", "two words", "\x1b[31m"}})
		p.see("to run: echo 'two words' '?[31m'\r\n")
		p.see("Password: ")
		p.press("secret" + enter)
		wantOpen(t, session)
		p.press(ctrlD)
		p.exits(exitOK)
	})
	t.Run("a withdrawn prompt vanishes", func(t *testing.T) {
		p := at(t, s, "agent")
		p.see(idle)
		session := begin(t, s, "password", "anna", api.Options{})
		p.see("Password: ")
		p.press("sec")
		if err := session.Close(bounded(t)); err != nil {
			t.Fatal(err)
		}
		p.see(eraseLine)
		p.see("is gone: session-closed")
		// What is typed between prompts is nobody's answer.
		p.press("ret" + enter)
		again := begin(t, s, "password", "anna", api.Options{})
		p.see("Password: ")
		p.press("secret" + enter)
		wantOpen(t, again)
		p.press(ctrlD)
		p.exits(exitOK)
		p.never("secret")
	})
	t.Run("Ctrl-C cancels a prompt and a second one leaves", func(t *testing.T) {
		p := at(t, s, "agent")
		p.see(idle)
		session := begin(t, s, "password", "anna", api.Options{})
		p.see("Password: ")
		p.press(ctrlC)
		p.see("is gone: cancelled")
		if err := session.Wait(bounded(t), api.StateOpen); err == nil {
			t.Error("the session opened")
		}
		p.press(ctrlC)
		p.exits(exitOK)
	})
	t.Run("a second Ctrl-C does not cancel the next prompt", func(t *testing.T) {
		p := at(t, s, "agent")
		p.see(idle)
		one := begin(t, s, "password", "anna", api.Options{})
		p.see("Password: ")
		two := begin(t, s, "password", "bert", api.Options{})
		p.press(ctrlC)
		p.see("asks for user \"bert\"")
		p.see("Password: ")
		p.press(ctrlC)
		p.exits(exitOK)
		if err := one.Wait(bounded(t), api.StateOpen); err == nil {
			t.Error("the first session opened")
		}
		properties, err := two.Properties(bounded(t))
		if err != nil || properties.State != api.StateOpening {
			t.Errorf("the second session is %s, %v", properties.State, err)
		}
	})
	t.Run("Ctrl-D on the empty line of a prompt leaves it to others", func(t *testing.T) {
		p := at(t, s, "agent")
		p.see(idle)
		session := begin(t, s, "password", "anna", api.Options{})
		p.see("Password: ")
		p.press(ctrlD)
		p.exits(exitOK)
		properties, err := session.Properties(bounded(t))
		if err != nil || properties.State != api.StateOpening {
			t.Errorf("the session is %s, %v", properties.State, err)
		}
	})
	t.Run("a message moves the line that is typed below it", func(t *testing.T) {
		p := at(t, s, "agent")
		p.see(idle)
		session := begin(t, s, "echo", "anna", api.Options{})
		p.see("Name: ")
		p.press("an")
		p.see("an")
		other := begin(t, s, "greet", "bert", api.Options{})
		p.see("session " + strconv.FormatUint(other.ID(), 10) + ": info: hello\r\nName: an")
		p.press("na" + enter)
		wantOpen(t, session)
		if got := environment(t, session); got != "NAME=anna" {
			t.Errorf("the environment is %q", got)
		}
		p.press(ctrlD)
		p.exits(exitOK)
	})
	t.Run("a terminal does not obey what a module says", func(t *testing.T) {
		p := at(t, s, "agent")
		p.see(idle)
		begin(t, s, "colours", "anna", api.Options{})
		p.see("?[31mred?[0m")
		p.see("?31mP??]0;title?IN: ")
		p.press(ctrlD)
		p.exits(exitOK)
		p.never("\x1b]")
		p.never("\x1b[31m")
		p.never("\u009b")
		p.never("\u202e")
	})
}

func TestAgentThroughARestartOfTheBroker(t *testing.T) {
	s := system.StartOnBus(t, options(t))
	p := at(t, s.System, "agent")
	p.see(idle)
	session := begin(t, s.System, "password", "anna", api.Options{})
	p.see("Password: ")
	p.press("half")
	s.Kill(t)
	p.see("is gone: the broker went away")
	s.Restart(t)
	p.see("Password: ")
	p.press("secret" + enter)
	wantOpen(t, session)
	p.press(ctrlD)
	p.exits(exitOK)
}
