// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
)

func TestAPromptSaysWhoAsks(t *testing.T) {
	c := connect(t)
	w := watch(t, c, api.WatchOptions{})
	s := open(t, c, "matrix", api.Options{Agent: true, Reason: "a test", Timeout: time.Minute, Attempts: 2})
	p := promptOf(t, w, s)
	if p.Style != api.StyleSecret || p.Message != "Password: " || p.Service != "matrix" || p.User != "anna" ||
		p.Reason != "a test" || p.Attempt != 1 || p.Phase != "authenticate" || p.Source != "pam" || p.Path != s.Path() ||
		p.OwnerUID == nil || *p.OwnerUID != uint32(os.Getuid()) || p.OwnerPID != uint32(os.Getpid()) || p.OwnerComm == "" {
		t.Errorf("the prompt is %+v", p)
	}
	if left, ok := p.Remaining(); !ok || left <= 0 || left > time.Minute {
		t.Errorf("it waits for %v, %v", left, ok)
	}
	list, err := c.Prompts(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(list, func(q api.Prompt) bool { return q.ID == p.ID && q.Message == p.Message }) {
		t.Errorf("it is not in %+v", list)
	}
	if err := give(t, c, p.ID, "wrong"); err != nil {
		t.Fatal(err)
	}
	again := promptOf(t, w, s)
	if again.Attempt != 2 || len(again.Messages) == 0 || again.Messages[len(again.Messages)-1].Style != api.StyleError {
		t.Errorf("after a wrong answer the prompt is %+v", again)
	}
	if err := give(t, c, again.ID, "correct horse"); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(within(t), api.StateOpen); err != nil {
		t.Error(err)
	}
}

func TestMessagesComeBeforeTheirPrompt(t *testing.T) {
	c := connect(t)
	w := watch(t, c, api.WatchOptions{})
	s := open(t, c, "talk", api.Options{Agent: true})
	for _, want := range []api.Text{{Style: api.StyleInfo, Text: "welcome"}, {Style: api.StyleError, Text: "careful"}} {
		if got := next(t, w, func(m api.Message) bool { return m.Session == s.ID() }); got.Text != want {
			t.Errorf("got %+v, want %+v", got.Text, want)
		}
	}
	p := promptOf(t, w, s)
	if p.Style != api.StyleVisible || p.Message != "Name: " || len(p.Messages) != 2 {
		t.Errorf("the prompt is %+v", p)
	}
	if err := give(t, c, p.ID, "anna"); err != nil {
		t.Fatal(err)
	}
	next(t, w, func(e api.PromptClosed) bool { return e.ID == p.ID && e.Outcome == api.OutcomeAnswered })
	if err := s.Wait(within(t), api.StateOpen); err != nil {
		t.Fatal(err)
	}
	properties, err := s.Properties(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(properties.Environment, "NAME=anna") {
		t.Errorf("the environment is %q", properties.Environment)
	}
}

func TestAChoiceHasItsChoices(t *testing.T) {
	c := connect(t)
	w := watch(t, c, api.WatchOptions{})
	s := open(t, c, "choice", api.Options{Agent: true})
	p := promptOf(t, w, s)
	if p.Style != api.StyleChoice || !slices.Contains(p.Choices, "yes") {
		t.Errorf("the prompt is %+v", p)
	}
	if err := give(t, c, p.ID, "yes"); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(within(t), api.StateOpen); err != nil {
		t.Error(err)
	}
}

func TestAnswer(t *testing.T) {
	c := connect(t)
	w := watch(t, c, api.WatchOptions{})
	ask := func(t *testing.T, o api.Options) (*api.Session, api.Prompt) {
		o.Agent = true
		s := open(t, c, "matrix", o)
		return s, promptOf(t, w, s)
	}
	t.Run("a second answer comes too late", func(t *testing.T) {
		_, p := ask(t, api.Options{})
		if err := give(t, c, p.ID, "correct horse"); err != nil {
			t.Fatal(err)
		}
		wantCode(t, give(t, c, p.ID, "correct horse"), api.AlreadyAnswered)
	})
	t.Run("of two at the same instant one wins", func(t *testing.T) {
		s, p := ask(t, api.Options{})
		results := make(chan error, 2)
		var start sync.WaitGroup
		start.Add(1)
		for range 2 {
			go func() {
				start.Wait()
				results <- give(t, c, p.ID, "correct horse")
			}()
		}
		start.Done()
		first, second := <-results, <-results
		if first != nil {
			first, second = second, first
		}
		if first != nil {
			t.Errorf("nobody won: %v, %v", first, second)
		}
		wantCode(t, second, api.AlreadyAnswered)
		if err := s.Wait(within(t), api.StateOpen); err != nil {
			t.Error(err)
		}
	})
	t.Run("a NUL byte is refused and the prompt waits on", func(t *testing.T) {
		s, p := ask(t, api.Options{})
		wantCode(t, give(t, c, p.ID, "correct\x00horse"), api.InvalidArgument)
		if err := give(t, c, p.ID, "correct horse"); err != nil {
			t.Fatal(err)
		}
		if err := s.Wait(within(t), api.StateOpen); err != nil {
			t.Error(err)
		}
	})
	t.Run("a wrong answer fails the session", func(t *testing.T) {
		s, p := ask(t, api.Options{})
		if err := give(t, c, p.ID, "wrong"); err != nil {
			t.Fatal(err)
		}
		wantCode(t, s.Wait(within(t), api.StateOpen), api.AuthenticationFailed)
	})
	t.Run("the longest answer is taken", func(t *testing.T) {
		s, p := ask(t, api.Options{})
		if err := give(t, c, p.ID, strings.Repeat("x", api.MaxResponse)); err != nil {
			t.Fatal(err)
		}
		wantCode(t, s.Wait(within(t), api.StateOpen), api.AuthenticationFailed)
	})
	t.Run("a cancelled prompt fails the session and takes no answer", func(t *testing.T) {
		s, p := ask(t, api.Options{})
		if err := c.Cancel(within(t), p.ID); err != nil {
			t.Fatal(err)
		}
		wantCode(t, s.Wait(within(t), api.StateOpen), api.Cancelled)
		next(t, w, func(e api.PromptClosed) bool { return e.ID == p.ID && e.Outcome == api.OutcomeCancelled })
		if err := give(t, c, p.ID, "correct horse"); err == nil {
			t.Error("it was answered after all")
		}
	})
	t.Run("a prompt expires", func(t *testing.T) {
		s, p := ask(t, api.Options{Timeout: 20 * time.Millisecond})
		next(t, w, func(e api.PromptClosed) bool { return e.ID == p.ID && e.Outcome == api.OutcomeExpired })
		wantCode(t, s.Wait(within(t), api.StateOpen), api.TimedOut)
	})
	t.Run("closing the session withdraws the prompt", func(t *testing.T) {
		s, p := ask(t, api.Options{})
		if err := s.Close(within(t)); err != nil {
			t.Fatal(err)
		}
		next(t, w, func(e api.PromptClosed) bool { return e.ID == p.ID && e.Outcome == api.OutcomeSessionClosed })
	})
	t.Run("there is no prompt that never was", func(t *testing.T) {
		wantCode(t, give(t, c, 1, "correct horse"), api.NoSuchPrompt)
		wantCode(t, c.Cancel(within(t), 1), api.NoSuchPrompt)
	})
}
