// SPDX-License-Identifier: Apache-2.0

package security

import (
	"testing"

	"github.com/godbus/dbus/v5"

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
