// SPDX-License-Identifier: Apache-2.0

package security

import (
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// The limits of a uid.
const (
	maxPrompts = 16
	maxAgents  = 16
	burst      = 20
)

// Limits are a uid's, over all of its connections, and nobody else's.
func TestAUIDHasSoManyAgents(t *testing.T) {
	b := start(t, system.MachineOptions{})
	first := b.join(t, system.Other).agent()
	for range maxAgents - 1 {
		b.join(t, system.Other).agent()
	}
	last := b.join(t, system.Other)
	wantCode(t, "one agent more", last.manager("RegisterAgent", options{}).Err, api.LimitExceeded)
	b.join(t, system.Agent).agent()
	if err := first.manager("UnregisterAgent").Err; err != nil {
		t.Fatal(err)
	}
	last.agent()
	wantCode(t, "the first one again", first.manager("RegisterAgent", options{}).Err, api.LimitExceeded)
}

func TestAUIDOpensSoManySessionsAtOnce(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens})
	first, second := b.join(t, system.Opener), b.join(t, system.Opener)
	for i := range burst {
		p := []*person{first, second}[i%2]
		if err := p.call(p.open("permit", "anna", nil), api.SessionInterface+".Close").Err; err != nil {
			t.Fatal(err)
		}
	}
	// One a second is added meanwhile; as many again are not.
	refused := 0
	for range burst {
		if err := second.manager("OpenSession", "permit", "anna", options{}).Err; err != nil {
			wantCode(t, "one session more", err, api.LimitExceeded)
			refused++
		}
	}
	if refused == 0 {
		t.Errorf("a user could open %d sessions at once", 2*burst)
	}
	open(t, b.root, "permit", "anna", nil)
}

func TestAUIDHasSoManyQuestionsAtOnce(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens})
	opener := b.join(t, system.Opener)
	var first uint64
	for range maxPrompts {
		first, _ = opener.prompt(opener.open("ask", "anna", asAgent()))
	}
	tooMany := func() {
		t.Helper()
		over := opener.open("ask", "anna", asAgent())
		var state, text string
		var result int32
		if err := opener.call(over, api.SessionInterface+".Wait", api.StateOpen).Store(&state, &result, &text); err != nil || state != api.StateFailed {
			t.Errorf("a session with a question too many is %s: %s, %v", state, text, err)
		}
	}
	tooMany()
	b.asked(t, open(t, b.root, "ask", "anna", nil))
	// One that has its answer is none any more.
	if err := opener.manager("AnswerPrompt", first, "right").Err; err != nil {
		t.Fatal(err)
	}
	opener.prompt(opener.open("ask", "anna", asAgent()))
	tooMany()
}
