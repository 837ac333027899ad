// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

const ttyAgent = "systemd-tty-ask-password-agent"

// hint follows a question of which nothing has been typed yet.
const hint = " (press TAB for no echo) "

// A password and then a one-time code, of real modules.
func TestAnAgentOnATerminalOpensASession(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users.oath")
	// The key of RFC 4226, whose first code is 755224.
	if err := os.WriteFile(users, []byte("HOTP anna - 3132333435363738393031323334353637383930\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	oath := "auth required " + modules.System(t, "pam_oath") + " usersfile=" + users + " window=5 digits=6\n"
	matrix := system.Matrix(t, "one", map[string]string{"anna": answer})
	b := one(t, strings.Replace(strings.Replace(matrix, "account ", oath+"account ", 1), "auth required", "auth requisite", 1))
	s := b.open(api.Options{Attempts: 2, Reason: "nightly backup"})
	first := b.bus.promptOf(s)
	b.request()

	a := b.at(ttyAgent, "--query")
	if before := a.see(line("nightly backup", "", "Password:") + hint); before != "" {
		t.Errorf("before the question it shows %q", before)
	}
	a.press("wrong\n")
	b.bus.closed(first, api.OutcomeAnswered)
	a.ended()
	second := b.bus.promptOf(s)
	b.request()

	a = b.at(ttyAgent, "--query")
	a.see(line("nightly backup", "Authentication failure", "Password:") + hint)
	a.press(answer + "\n")
	a.see(strings.Repeat("*", len(answer)))
	b.bus.closed(second, api.OutcomeAnswered)
	a.ended()
	a.never(answer)
	third := b.bus.promptOf(s)
	b.request()

	a = b.at(ttyAgent, "--query")
	a.see(line("nightly backup", "", "One-time password (OATH) for `anna':") + hint)
	a.press("755224\n")
	b.bus.closed(third, api.OutcomeAnswered)
	a.ended()
	b.bus.opened(s)
}

func TestAVisibleQuestionShowsWhatIsTyped(t *testing.T) {
	b := one(t, asks(t, "ask=visible,Name: ; export=ANSWER"))
	s, p, r := b.ask(api.Options{})
	if !r.Echo {
		t.Error("the request does not say that the answer may be seen")
	}
	a := b.at(ttyAgent, "--query")
	a.see(line("", "", "Name:") + " ")
	a.press("jürgen\n")
	a.see("jürgen")
	b.bus.closed(p, api.OutcomeAnswered)
	a.ended()
	if got := b.bus.opened(s); got != "jürgen" {
		t.Errorf("the module got %q", got)
	}
}

func TestWhatIsAskedIsListed(t *testing.T) {
	b := one(t, password(t))
	if out := b.output(ttyAgent, "--list"); out != "" {
		t.Errorf("before anything is asked it lists %q", out)
	}
	s, p, r := b.ask(api.Options{Reason: "a test"})
	if out, want := b.output(ttyAgent, "--list"), fmt.Sprintf("'%s' (PID %d)\n", line("a test", "", "Password:"), r.PID); out != want {
		t.Errorf("it lists %q, not %q", out, want)
	}
	b.bus.answer(p, answer)
	if out := b.output(ttyAgent, "--list"); out != "" {
		t.Errorf("after the answer it lists %q", out)
	}
	b.bus.opened(s)
}

// An agent that was there before, and stays.
func TestAnAgentThatWatchesAnswersOneSessionAfterAnother(t *testing.T) {
	b := one(t, asks(t, "ask=secret,Password: ; export=ANSWER"))
	a := b.at(ttyAgent, "--watch")
	for i := range 3 {
		text := fmt.Sprint("answer ", i)
		s, p, _ := b.ask(api.Options{Reason: text})
		a.see(line(text, "", "Password:") + hint)
		a.press(text + "\n")
		b.bus.closed(p, api.OutcomeAnswered)
		if got := b.bus.opened(s); got != text {
			t.Errorf("the module got %q, not %q", got, text)
		}
	}
	a.stop()
}

// Whoever is at the terminal sees that the question is over: the line ends, and
// what is typed then is for the next one.
func TestTheDialogGoesWhenSomebodyElseAnswers(t *testing.T) {
	b := one(t, asks(t, "ask=secret,Password: ; export=ANSWER"))
	a := b.at(ttyAgent, "--watch")
	for _, test := range []struct {
		name    string
		end     func(s *api.Session, p api.Prompt)
		outcome string
	}{
		{"answered over D-Bus", func(s *api.Session, p api.Prompt) { b.bus.answer(p, answer); b.bus.opened(s) }, api.OutcomeAnswered},
		{"cancelled over D-Bus", func(_ *api.Session, p api.Prompt) { b.bus.cancel(p) }, api.OutcomeCancelled},
		{"the session is closed", func(s *api.Session, _ api.Prompt) { b.bus.end(s) }, api.OutcomeSessionClosed},
	} {
		s, p, r := b.ask(api.Options{Reason: test.name})
		a.see(line(test.name, "", "Password:") + hint)
		a.press("half of a pass")
		a.see("**************")
		test.end(s, p)
		if more := a.see("\r\n"); more != "" {
			t.Errorf("%s: before the line ends it shows %q", test.name, more)
		}
		b.bus.closed(p, test.outcome)
		r.wantGone(t)
	}
	s, p, _ := b.ask(api.Options{})
	a.see(line("", "", "Password:") + hint)
	a.press("whole\n")
	b.bus.closed(p, api.OutcomeAnswered)
	if got := b.bus.opened(s); got != "whole" {
		t.Errorf("the module got %q", got)
	}
	a.stop()
}

func TestAQuestionThatIsSkippedWaitsOn(t *testing.T) {
	b := one(t, password(t))
	s, p, r := b.ask(api.Options{})
	a := b.at(ttyAgent, "--query")
	a.see(line("", "", "Password:") + hint)
	a.press("\x04") // Ctrl-D
	a.see("(skipped)")
	a.ended()
	if r.gone() {
		t.Fatal("the request has gone")
	}
	b.bus.answer(p, answer)
	b.bus.opened(s)
}

// There is nobody here whose terminal it could write to.
func TestAnAgentThatTellsEverybody(t *testing.T) {
	b := one(t, password(t))
	a := b.at(ttyAgent, "--wall")
	var s *api.Session
	var p api.Prompt
	untilRead(t, b.dir, ours, func() {
		s = b.open(api.Options{})
		p = b.bus.promptOf(s)
	})
	b.bus.answer(p, answer)
	b.bus.opened(s)
	if out := a.stop(); out != "" {
		t.Errorf("it complains: %q", out)
	}
}
