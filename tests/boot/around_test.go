// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"strings"
	"testing"
	"time"
)

// atLogin is a service whose sessions are logind's.
const atLogin = `auth     required pam_unix.so
account  required pam_permit.so
session  required pam_systemd.so
`

// logindIsAway: first it cannot be started, then it hangs.
func logindIsAway(t *testing.T, m *Machine) {
	m.Write(t, "/etc/pam.d/at-login", atLogin)
	bystander, asked := m.open(t)
	begin := func() string {
		t.Helper()
		session := strings.Fields(m.Shell(t, call+"OpenSession 'ssa{sv}' at-login bob 1 linger b true"))[1]
		prompt := strings.Fields(m.Shell(t, "busctl call org.pamprompt.Broker1 /org/pamprompt/Broker1/session/"+session+
			" org.pamprompt.Broker1.Session NextPrompt t 0"))[1]
		m.Shell(t, call+"AnswerPrompt ts "+prompt+" hunter22")
		return session
	}
	wait := func(session string) string {
		t.Helper()
		return m.Shell(t, "busctl --timeout=60 call org.pamprompt.Broker1 /org/pamprompt/Broker1/session/"+session+
			" org.pamprompt.Broker1.Session Wait s open")
	}

	m.Run(t, "systemctl", "mask", "--runtime", "--now", "systemd-logind.service")
	began := time.Now()
	refused := wait(begin())
	took := time.Since(began).Round(100 * time.Millisecond)
	if !strings.HasPrefix(refused, `sis "failed" `) || !strings.Contains(refused, "PAMFailed: pam_open_session: ") {
		t.Errorf("without logind a session that needs it is %s", refused)
	}
	m.Run(t, "systemctl", "unmask", "--runtime", "systemd-logind.service")
	m.Run(t, "systemctl", "start", "systemd-logind.service")

	logind := m.Run(t, "systemctl", "show", "--property=MainPID", "--value", "systemd-logind.service")
	m.Run(t, "kill", "-STOP", logind)
	waits := begin()
	m.answer(t, bystander, asked) // meanwhile
	m.closeSession(t, bystander)
	m.Run(t, "kill", "-CONT", logind)
	if opened := wait(waits); opened != `sis "open" 0 ""` {
		t.Errorf("when logind goes on the session is %s", opened)
	}
	m.closeSession(t, waits)
	saw(t, "fault: logind masked: a session with pam_systemd is refused after %v: %s; logind stopped: it waits, another one is answered, opened and closed meanwhile, and it opens when logind goes on", took, refused)
}

// theBusIsRestarted, as nobody should: all who are on it must come back by themselves, an
// agent at a terminal too, which has a prompt up.
func theBusIsRestarted(t *testing.T, m *Machine) {
	open, prompt := m.open(t)
	m.answer(t, open, prompt)
	waiting, asked := m.open(t)
	agent := m.Sit(t, "pamprompt-client", "agent")
	agent.await("prompt " + asked + ", session " + waiting)
	agent.await("assword")
	agent.press("half")
	before := m.Shell(t, lists)
	ended := m.Shell(t, mainPID)
	began := time.Now()
	m.Shell(t, "systemctl restart $(systemctl show --property=Id --value dbus.service)")
	m.Await(t, "another broker", "/bin/sh", "-c", another+ended)
	after := m.Shell(t, lists) // the first call must know them all
	took := time.Since(began).Round(100 * time.Millisecond)
	if after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	agent.await("the connection to the bus was lost; connecting again")
	agent.await("connected to the bus again")
	agent.await("prompt " + asked + ", session " + waiting)
	back := time.Since(began).Round(100 * time.Millisecond)
	m.typed(t, agent, waiting)
	next, asked := m.open(t)
	agent.await("prompt " + asked + ", session " + next)
	m.typed(t, agent, next)
	if screen := agent.leave(); strings.Contains(screen, "half") || strings.Contains(screen, "hunter22") {
		t.Errorf("what was typed is on the terminal: %q", screen)
	}
	for _, session := range []string{next, waiting, open} {
		m.closeSession(t, session)
	}
	saw(t, "fault: the bus restarted: 2 sessions and 1 prompt are known again after %v; an agent at a terminal was asked again after %v at the latest, and answers that prompt and the next one", took, back)
}

// typed has somebody at an agent answer a prompt, and waits until its session is open.
func (m *Machine) typed(t *testing.T, agent *Terminal, session string) {
	t.Helper()
	agent.await("assword")
	agent.enter("hunter22")
	said := m.Shell(t, "busctl call org.pamprompt.Broker1 /org/pamprompt/Broker1/session/"+session+" org.pamprompt.Broker1.Session Wait s open")
	if said != `sis "open" 0 ""` {
		t.Errorf("after the answer the session is %s", said)
	}
}
