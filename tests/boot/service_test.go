// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"strings"
	"testing"
)

// desk is a service that asks for the password of the account.
const desk = `auth     required pam_unix.so
account  required pam_permit.so
session  required pam_permit.so
`

// call is what busctl calls the manager with.
const call = "busctl call org.pamprompt.Broker1 /org/pamprompt/Broker1 org.pamprompt.Broker1.Manager "

const (
	mainPID = "systemctl show --property=MainPID --value pamprompt-broker.service"
	// another tells whether the broker is another than that of the number that follows.
	another = "pid=$(" + mainPID + `); test "$pid" != 0 && test "$pid" != `
)

// account makes a user with a password.
func (m *Machine) account(t *testing.T, user, password string) {
	t.Helper()
	// With a method of its own chpasswd does without PAM, where systemd-homed's
	// module would want an old password.
	m.Shell(t, fmt.Sprintf("useradd --create-home %s; echo '%s:%s' | chpasswd --crypt-method SHA512", user, user, password))
}

// open opens a session of bob's that stays, and returns its number and that of its
// first prompt.
func (m *Machine) open(t *testing.T) (session, prompt string) {
	t.Helper()
	return m.openFor(t, "bob")
}

func (m *Machine) openFor(t *testing.T, user string) (session, prompt string) {
	t.Helper()
	session = strings.Fields(m.Shell(t, call+"OpenSession 'ssa{sv}' desk "+user+" 1 linger b true"))[1]
	prompt = strings.Fields(m.Shell(t, "busctl call org.pamprompt.Broker1 /org/pamprompt/Broker1/session/"+session+
		" org.pamprompt.Broker1.Session NextPrompt t 0"))[1]
	return session, prompt
}

// answer answers a prompt of open, and waits until the session is open.
func (m *Machine) answer(t *testing.T, session, prompt string) {
	t.Helper()
	m.Shell(t, call+"AnswerPrompt ts "+prompt+" hunter22")
	said := m.Shell(t, "busctl call org.pamprompt.Broker1 /org/pamprompt/Broker1/session/"+session+" org.pamprompt.Broker1.Session Wait s open")
	if said != `sis "open" 0 ""` {
		t.Errorf("after the answer the session is %s", said)
	}
}

func (m *Machine) closeSession(t *testing.T, session string) {
	t.Helper()
	m.Run(t, "pamprompt-client", "close", session)
}

func aCallStartsTheService(t *testing.T, m *Machine) {
	if state, _ := m.Try(t, "systemctl", "is-active", "pamprompt-broker.service"); state != "inactive" {
		t.Errorf("before the first call the broker is %s", state)
	}
	if said := m.Shell(t, call+"ListSessions"); said != "a(tssuso) 0" {
		t.Errorf("ListSessions says %s", said)
	}
	m.Run(t, "systemctl", "is-active", "pamprompt-broker.service", "pamprompt-broker.socket")
	m.Await(t, "the pool", "systemctl", "is-active", "pamprompt-worker.service")
	modes := m.Run(t, "stat", "--format=%a %U", "/run/pamprompt", "/run/pamprompt/broker.sock")
	if modes != "700 root\n600 root" {
		t.Errorf("the directory and the socket for workers are %q", modes)
	}
}

func aSessionOpens(t *testing.T, m *Machine) {
	session, prompt := m.open(t)
	m.answer(t, session, prompt)
	// Each worker is alone in its cgroup, whether it has a session or not.
	const cgroups = "cd /sys/fs/cgroup/system.slice/pamprompt-worker.service; wc -l worker-*/cgroup.procs | grep worker-"
	for line := range strings.Lines(m.Shell(t, cgroups)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "1 ") {
			t.Errorf("a cgroup has not one process: %s", line)
		}
	}
	m.closeSession(t, session)
}

func theBrokerHasNoRights(t *testing.T, m *Machine) {
	status := m.Shell(t, "cat /proc/$(systemctl show --property=MainPID --value pamprompt-broker.service)/status")
	for line := range strings.Lines(status) {
		if strings.HasPrefix(line, "Cap") && !strings.HasSuffix(line, "\t0000000000000000\n") {
			t.Errorf("the broker has capabilities: %s", line)
		}
	}
	// 10 is an exposure of 1.0.
	said, err := m.Try(t, "systemd-analyze", "security", "--threshold=10", "pamprompt-broker.service")
	if err != nil {
		t.Errorf("the exposure: %v\n%s", err, said)
	}
	t.Log(said[strings.LastIndex(said, "\n")+1:])
	if said := m.Shell(t, "journalctl --boot --output=cat _COMM=pamprompt-worke"); strings.Contains(said, "swapped") {
		t.Errorf("workers cannot lock their memory: %s", said)
	}
}

func aReloadReadsTheRules(t *testing.T, m *Machine) {
	asBob := "runuser -u bob -- " + call + "OpenSession 'ssa{sv}' desk bob 1 phases as 1 authenticate"
	if said, err := m.Try(t, "/bin/sh", "-c", asBob); err == nil || !strings.Contains(said, "may not open sessions") {
		t.Fatalf("without a rule bob may open a session: %v, %s", err, said)
	}
	m.Write(t, "/etc/pamprompt/policy.d/10-desk.toml", "[[rule]]\naction = \"open\"\nservice = \"desk\"\nuser = \"@self\"\nverdict = \"allow\"\n")
	m.Run(t, "systemctl", "reload", "pamprompt-broker.service")
	m.Await(t, "the new rule", "/bin/sh", "-c", asBob)
}

// The broker is in a user namespace, and /proc hides processes there.
func theUnitOfACallerIsKnown(t *testing.T, m *Machine) {
	m.Run(t, "systemd-run", "--quiet", "--unit=desk-caller", "--uid=bob",
		"pamprompt-client", "open", "--no-ask", "--phase=authenticate", "desk", "bob")
	m.Await(t, "a prompt with the caller's unit", "/bin/sh", "-c",
		`pamprompt-client --json prompts | grep '"owner-uid":1000' | grep '"owner-unit":"desk-caller.service"'`)
	m.Run(t, "systemctl", "stop", "desk-caller.service")
}

func anotherTargetKeepsSessions(t *testing.T, m *Machine) {
	session, prompt := m.open(t)
	m.Await(t, "what closes sessions", "systemctl", "is-active", "pamprompt-sessions.service")
	stopped := m.Shell(t, mainPID)
	m.Run(t, "systemctl", "isolate", "multi-user.target")
	// The first call starts another broker, if it does not reach the one that is about to end.
	show := "pamprompt-client show " + session + " >/dev/null"
	m.Await(t, "another broker with the session", "/bin/sh", "-c", show+" && "+another+stopped+" && "+show)
	m.answer(t, session, prompt)
	m.closeSession(t, session)
}
