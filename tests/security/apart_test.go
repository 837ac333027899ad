// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// To see a session, to answer for it and to end it are three things: who may do
// one of them may not do the others, and hears no more than it needs.
func TestOnePermissionIsNotAnother(t *testing.T) {
	const properties = "org.freedesktop.DBus.Properties."
	for _, test := range []struct{ action, may string }{
		{"see", "GetAll Wait Introspect"},
		{"answer", "NextPrompt told CancelPrompt"},
		{"manage", "Close"},
	} {
		t.Run(test.action, func(t *testing.T) {
			b := start(t, system.MachineOptions{Policy: fmt.Sprintf(
				"[[rule]]\naction = %q\ncaller = \"group:operators\"\nverdict = \"allow\"\n", test.action)})
			agent := b.join(t, system.Agent).agent()
			session, prompt := b.vault(t)
			agent.settle()
			check := func(what string, err error) {
				t.Helper()
				if strings.Contains(" "+test.may+" ", " "+what+" ") {
					if err != nil {
						t.Errorf("%s: %v", what, err)
					}
					return
				}
				wantDenied(t, what, err)
			}
			var all map[string]dbus.Variant
			err := agent.call(session, properties+"GetAll", api.SessionInterface).Store(&all)
			check("GetAll", err)
			if err == nil && (all["User"].Value() != user || fmt.Sprint(all["Environment"].Value()) != "[]" || all["UID"].Value() != ^uint32(0)) {
				t.Errorf("it sees %v", all)
			}
			check("Wait", agent.call(session, api.SessionInterface+".Wait", "opening").Err)
			check("Introspect", agent.call(session, "org.freedesktop.DBus.Introspectable.Introspect").Err)
			check("NextPrompt", agent.call(session, api.SessionInterface+".NextPrompt", uint64(0)).Err)
			if told := len(agent.signals("Prompt")) + len(agent.signals("Message")); (told > 0) != strings.Contains(test.may, "told") {
				t.Errorf("it was told %d things", told)
			}
			if test.action == "see" {
				for _, m := range agent.heard() {
					if text := fmt.Sprint(m.Body); strings.Contains(text, strings.TrimSpace(question)) || strings.Contains(text, notice) {
						t.Errorf("it was told what the module says: %s", text)
					}
				}
			}
			check("CancelPrompt", agent.manager("CancelPrompt", prompt).Err)
			check("Close", agent.call(session, api.SessionInterface+".Close").Err)
		})
	}
}
