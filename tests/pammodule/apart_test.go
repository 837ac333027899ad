// SPDX-License-Identifier: Apache-2.0

package pammodule

import (
	"os"
	"path/filepath"
	"testing"
)

// TestTheHelperGetsNothingOfTheProgram but the socket: no variable of its environment,
// no descriptor, no signal that it ignores or blocks.
func TestTheHelperGetsNothingOfTheProgram(t *testing.T) {
	s := on(t, plain())
	seen := filepath.Join(t.TempDir(), "seen")
	leaked := filepath.Join(t.TempDir(), "leaked")
	if err := os.WriteFile(leaked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.fake("looks:" + seen)
	s.env = append(s.env, "LD_PRELOAD=", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/evil", "GODEBUG=x=1")
	s.stack("", asks)
	want(t, s.run("anna", "leak="+leaked, "ignore", "authenticate", "env=GOT", "end"),
		"authenticate PAM_SUCCESS", "GOT secret", "end PAM_SUCCESS")
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	want(t, string(text), "0 /dev/null", "1 /dev/null", "2 /dev/null", "3 socket:",
		"SigBlk 0", "SigIgn 0", "a session of its own")
}

// TestWhatTheModuleFreesHoldsNoAnswer has the program search its own memory. What
// pam_probe had it wipes; it is found where it is put into the environment.
func TestWhatTheModuleFreesHoldsNoAnswer(t *testing.T) {
	const backwards = "search=rewsna-1174-detnalp"
	s := on(t, plain())
	s.fake("plants")
	for probe, found := range map[string]string{"auth:ask=secret,P:": "not found", asks: "found"} {
		s.stack("", probe)
		want(t, s.run("anna", "authenticate", backwards, "end"), "authenticate PAM_SUCCESS", found, "end PAM_SUCCESS")
	}
}
