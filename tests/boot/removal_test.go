// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"strings"
	"testing"
)

func removalLeavesNothing(t *testing.T, m *Machine) {
	m.Shell(t, call+"ListSessions") // starts everything
	session, prompt := m.open(t)
	m.answer(t, session, prompt)
	m.open(t)
	m.Run(t, "dpkg", "--purge", "pamprompt")
	if said, err := m.Try(t, "pgrep", "--list-full", "pamprompt-"); err == nil {
		t.Errorf("processes are left: %s", said)
	}
	if said := m.Run(t, "find", "/etc", "/run", "/usr", "/var", "-xdev", "-name", "*pamprompt*",
		"-not", "-path", "/var/log/journal/*"); said != "" {
		t.Errorf("files are left: %s", said)
	}
	// Names that are only mentioned are in state not-found for a while.
	if said := m.Run(t, "systemctl", "list-units", "--all", "--state=loaded", "--plain", "--no-legend", "pamprompt*"); said != "" {
		t.Errorf("units are left: %s", said)
	}
	if said, err := m.Try(t, "/bin/sh", "-c", call+"ListSessions"); err == nil {
		t.Errorf("somebody still answers: %s", said)
	}
	// The group goes when it is as it was made.
	if said := m.Run(t, "getent", "group", "pamprompt"); !strings.HasSuffix(said, ":dora") {
		t.Errorf("the group that has a member is now %q", said)
	}
	m.Run(t, "userdel", "dora")
	m.Run(t, "dpkg", "--install", "/root/first.deb")
	m.Run(t, "getent", "group", "pamprompt")
	m.Run(t, "dpkg", "--purge", "pamprompt")
	if said, err := m.Try(t, "getent", "group", "pamprompt"); err == nil {
		t.Errorf("the group is left: %s", said)
	}
}
