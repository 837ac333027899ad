// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// example is the rule of docs/policy.md that names the group.
func example(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^    # /etc/pamprompt/policy.d/50-group.toml\n(    .*\n)+`).FindString(string(text))
	if lines == "" {
		t.Fatal("docs/policy.md has no 50-group.toml")
	}
	return lines
}

// What needs no package to have run: systemd makes it at each boot.
func theDirectoriesAreMade(t *testing.T, m *Machine) {
	m.Run(t, "systemctl", "stop", "pamprompt-broker.socket", "pamprompt-broker.service", "pamprompt-worker.service")
	m.Shell(t, "rm -r /run/pamprompt; mv /etc/pamprompt /root/pamprompt")
	m.Run(t, "systemd-tmpfiles", "--create", "--boot")
	modes := m.Run(t, "stat", "--format=%a %U %G", "/run/pamprompt", "/etc/pamprompt", "/etc/pamprompt/policy.d")
	if modes != "700 root root\n755 root root\n755 root root" {
		t.Errorf("the directories are %q", modes)
	}
	m.Shell(t, "mv /root/pamprompt/policy.d/* /etc/pamprompt/policy.d; rm -r /root/pamprompt")
}

// dora is logged in nowhere, and a member of the group; carol is not.
func aGroupAnswers(t *testing.T, m *Machine) {
	m.account(t, "dora", "hunter44")
	m.Run(t, "usermod", "--append", "--groups", "pamprompt", "dora")
	m.Shell(t, "echo 'root:hunter22' | chpasswd --crypt-method SHA512")
	session, prompt := m.openFor(t, "root")

	as := func(user, command string) (string, error) {
		return m.Try(t, "systemd-run", "--quiet", "--pipe", "--wait", "--uid="+user, "/bin/sh", "-c", command)
	}
	if said, err := as("dora", answerOf(prompt)); err == nil || !strings.Contains(said, "AccessDenied") {
		t.Errorf("without a rule a member of the group answers: %s", said)
	}
	m.Write(t, "/etc/pamprompt/policy.d/50-group.toml", example(t))
	m.Run(t, "systemctl", "reload", "pamprompt-broker.service")
	m.Await(t, "the new rule", "systemd-run", "--quiet", "--pipe", "--wait", "--uid=dora", "pamprompt-client", "show", session)
	listed, err := as("dora", call+"ListPrompts")
	if err != nil || !strings.HasPrefix(listed, "a(tossa{sv}) 1 "+prompt+" ") {
		t.Errorf("a member of the group sees %s", listed)
	}
	if said, err := as("carol", call+"ListPrompts"); err != nil || said != "a(tossa{sv}) 0" {
		t.Errorf("who is not in the group sees %s", said)
	}
	if said, err := as("carol", answerOf(prompt)); err == nil || !strings.Contains(said, "AccessDenied") {
		t.Errorf("who is not in the group answers: %s", said)
	}
	if said, err := as("dora", answerOf(prompt)); err != nil {
		t.Errorf("a member of the group cannot answer: %s", said)
	}
	m.Await(t, "the session", "/bin/sh", "-c", "pamprompt-client --json show "+session+` | grep '"state":"open"'`)
	m.closeSession(t, session)
	m.Run(t, "rm", "/etc/pamprompt/policy.d/50-group.toml")
	m.Run(t, "systemctl", "reload", "pamprompt-broker.service")
	saw(t, "a member of the group pamprompt, in no session, saw and answered root's prompt by the rule of docs/policy.md, and who is not in it did neither")
}
