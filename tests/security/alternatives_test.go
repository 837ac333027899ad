// SPDX-License-Identifier: Apache-2.0

package security

import (
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"

	"github.com/pamprompt/pamprompt/tests/system"
)

// A rule for one service is none for what stands beside it, whichever is which.
func TestEveryAlternativeNeedsItsOwnYes(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: opens}, func(t *testing.T, b *bench) {
		opener := b.join(t, system.Opener)
		open := func(service string, beside ...string) error {
			return opener.manager("OpenSession", service, "anna", options{"alternatives": dbus.MakeVariant(beside)}).Err
		}
		wantDenied(t, "one that no rule names, beside one that a rule does", open("ask", "vault"))
		wantDenied(t, "the other way round", open("vault", "ask"))
		wantDenied(t, "one of several that no rule names", open("ask", "permit", "vault"))
		if paths := opener.sessions(t); len(paths) > 0 {
			t.Errorf("there are the sessions %v", paths)
		}
		if err := open("ask", "permit"); err != nil {
			t.Errorf("what rules name: %v", err)
		}
	})
}

// One alternative that was answered and waits for something else does not hold up the
// answer to another one for ever. Somebody else's session waits on.
func TestAnAlternativeThatWaitsDoesNotHoldUpAnother(t *testing.T) {
	c := startChecks(t)
	opener := c.join(t, system.Opener)
	both := opener.open("gate-first", user, options{"alternatives": dbus.MakeVariant([]string{"gate-second"})})
	prompts := make(map[string]uint64)
	for after := uint64(0); len(prompts) < 2; {
		var style, message string
		var details map[string]dbus.Variant
		if err := opener.call(both, api.SessionInterface+".NextPrompt", after).Store(&after, &style, &message, &details); err != nil {
			t.Fatal(err)
		}
		prompts[details["service"].Value().(string)] = after
	}
	_, third := c.open(opener, "third")
	c.wantVerdict("the first answer", c.answer(opener, prompts["gate-first"], "right"), "")
	c.wantBegun("first")
	waits := c.hold(opener, third, "right")
	c.wantVerdict("the answer to the other alternative", c.answer(opener, prompts["gate-second"], "right"), "")
	c.wantBegun("second")
	select {
	case err := <-waits:
		t.Errorf("the answer of another session did not wait: %v", err)
	default:
	}
	c.goOn("second")
	if state, text := c.wait(t, both, api.StateOpen); state != api.StateOpen {
		t.Errorf("the session is %s: %s", state, text)
	}
	c.wantVerdict("the third answer", waits, "")
	c.wantBegun("third")
	c.goOn("first")
	c.goOn("third")
}
