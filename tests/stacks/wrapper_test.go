// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// authenticate is for modules that do nothing else.
var authenticate = []string{"authenticate"}

// pam_chatty says everything three times.
func TestWhatModulesSayIsHeardAndStandsAboveTheNextQuestion(t *testing.T) {
	const info, failed = "info Authentication succeeded", "error Authentication generated an error"
	chatty := "auth required " + modules.System(t, "pam_chatty")
	matrix := system.Matrix(t, "test", map[string]string{"anna": password})
	for _, test := range []struct {
		name, options string
		said          []string
	}{
		{"a text", " info", []string{info, info, info}},
		{"an error", " error", []string{failed, failed, failed}},
		{"texts and errors", " error info", []string{info, info, info, failed, failed, failed}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := system.StartOnBus(t, system.Options{Stacks: map[string]string{"test": chatty + test.options + "\n" + matrix}})
			a := newAgent(t, s.System)
			e := a.run("test", "anna", api.Options{Phases: authenticate}, turn{asksPassword, password, test.said})
			a.wantSaid(e, test.said...)
			a.want(e, result{})
		})
	}
}

// Nothing is asked after these, so that nothing but the signal tells of them.
func TestWhatModulesSayLastIsHeard(t *testing.T) {
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{
		"test": system.Matrix(t, "test", map[string]string{"anna": password}) + "auth required " + modules.System(t, "pam_chatty") + " info\n",
	}})
	a := newAgent(t, s.System)
	e := a.run("test", "anna", api.Options{Phases: authenticate}, question(asksPassword, password))
	const info = "info Authentication succeeded"
	a.wantSaid(e, info, info, info)
	a.want(e, result{})
}

func TestMatrix(t *testing.T) {
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{
		"matrix": system.Matrix(t, "matrix", map[string]string{"anna": password}),
	}})
	for _, test := range []struct {
		name, user, answer string
		result             result
	}{
		{"the right password", "anna", password, result{}},
		{"a wrong one", "anna", "wrong", wrong},
		{"a user who is not in its list", "berta", password, wrong},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAgent(t, s.System)
			a.want(a.run("matrix", test.user, api.Options{}, question(asksPassword, test.answer)), test.result)
		})
	}
	t.Run("nobody answers in time", func(t *testing.T) {
		a := newAgent(t, s.System)
		session := a.open("matrix", "anna", api.Options{Timeout: 10 * time.Millisecond})
		p := a.promptOf(session)
		if closed := next(a, func(e api.PromptClosed) bool { return e.ID == p.ID }); closed.Outcome != api.OutcomeExpired || p.Expires == 0 {
			t.Errorf("it expires at %d and ended as %s", p.Expires, closed.Outcome)
		}
		e := a.follow(session)
		a.want(e, result{api.TimedOut, e.PAMResult, "pam_authenticate"})
	})
	t.Run("nobody answers but one who cancels", func(t *testing.T) {
		a := newAgent(t, s.System)
		session := a.open("matrix", "anna", api.Options{})
		p := a.promptOf(session)
		if err := a.Cancel(within(t), p.ID); err != nil {
			t.Fatal(err)
		}
		if err := a.give(p.ID, password); !errors.Is(err, api.Cancelled) {
			t.Errorf("an answer after that: %v", err)
		}
		e := a.follow(session)
		a.want(e, result{api.Cancelled, e.PAMResult, "pam_authenticate"})
	})
}

// pam_get_items puts the items into the PAM environment.
func TestItems(t *testing.T) {
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{
		"items": system.Every(modules.System(t, "pam_get_items")),
	}})
	a := newAgent(t, s.System)
	e := a.run("items", "anna", api.Options{TTY: "/dev/tty9", Rhost: "host.example", Ruser: "mällory", XDisplay: ":7"})
	for name, value := range map[string]string{
		"PAM_SERVICE": "items", "PAM_USER": "anna", "PAM_TTY": "/dev/tty9",
		"PAM_RHOST": "host.example", "PAM_RUSER": "mällory", "PAM_XDISPLAY": ":7",
	} {
		a.wantVariable(e, name, value)
	}
	if slices.Contains(e.Environment, "PAM_AUTHTOK=") {
		t.Error("there is an answer though nobody asked")
	}
	a.want(e, result{})
}
