// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"strings"
	"testing"
	"time"
)

// lists is what is open and what is asked, with all numbers. (What has ended is listed for
// another half minute.)
const lists = `pamprompt-client --json list | grep -E '"state":"(opening|open)"' | sort; pamprompt-client --json prompts | sort`

// theBrokersEndLosesNothing ends the broker in each way that systemd has, beside everything
// that stays: a session that lingers, one whose opener waits for its end, one that runs a
// command, an agent, and in each round three questions, which are answered afterwards over
// D-Bus, by one of systemd's agents and by the agent that was there before, while their openers wait.
func theBrokersEndLosesNothing(t *testing.T, m *Machine) {
	m.Shell(t, `mkdir -p /run/systemd/system/pamprompt-broker.service.d
		printf '[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n' >/run/systemd/system/pamprompt-broker.service.d/test.conf
		systemctl daemon-reload; systemctl restart pamprompt-broker.service`)
	lingers, prompt := m.open(t)
	m.answer(t, lingers, prompt)
	m.hold(t, "desk-held", "a session that is held")
	m.Await(t, "the question", "/bin/sh", "-c", m.promptOf("a session that is held"))
	m.Shell(t, call+"AnswerPrompt ts $("+m.promptOf("a session that is held")+") hunter22")
	m.Await(t, "the held session", "systemctl", "is-active", "desk-held.service")
	m.Shell(t, `mkfifo /root/word; chown bob /root/word; chmod 711 /root
		systemd-run --quiet --unit=desk-command --property=StandardOutput=file:/root/said \
			pamprompt-client run -u bob -- sh -c 'echo $$; read word </root/word; echo $word; exit 7'`)
	command := m.Await(t, "the command", "/bin/sh", "-c", "grep . /root/said")
	agent := m.Sit(t, "pamprompt-client", "agent")
	agent.await("waiting for prompts")

	for _, end := range []struct{ what, how string }{
		{"kill -9", "kill -9 $(" + mainPID + ")"},
		{"systemctl restart", "systemctl restart pamprompt-broker.service"},
		{"twelve restarts in a row", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do systemctl restart pamprompt-broker.service; done"},
		{"the watchdog", "kill -STOP $(" + mainPID + ")"},
		{"an upgrade of the package", "dpkg --install /root/second.deb"},
	} {
		if !t.Run(end.what, func(t *testing.T) { m.survive(t, end.what, end.how, agent) }) {
			return
		}
	}

	if version := m.Run(t, "pamprompt-client", "--version"); !strings.Contains(version, "0.0.2") {
		t.Errorf("after the upgrade it is %s", version)
	}
	m.Shell(t, "echo sesame >/root/word")
	m.Await(t, "the end of the command", "/bin/sh", "-c", "systemctl is-failed desk-command.service")
	said := m.Shell(t, "cat /root/said; systemctl show --property=ExecMainStatus --value desk-command.service; systemctl reset-failed desk-command.service")
	if said != command+"\nsesame\n7" {
		t.Errorf("the command was %s, and after all that it is %q", command, said)
	}
	m.Run(t, "systemctl", "stop", "desk-held.service")
	m.closeSession(t, lingers)
	agent.leave()
	m.Shell(t, `rm -r /run/systemd/system/pamprompt-broker.service.d /root/word /root/said; chmod 700 /root
		systemctl daemon-reload; systemctl restart pamprompt-broker.service`)
	saw(t, "restart: through all of that one command of bob's ran on in its session, heard what it was told, and its status 7 came to who had run it before the first one")
}

// hold has a unit open a session of bob's and hold it; the unit is active when it is open.
func (m *Machine) hold(t *testing.T, unit, reason string) {
	t.Helper()
	m.Run(t, "systemd-run", "--quiet", "--no-block", "--unit="+unit, "--service-type=notify",
		"pamprompt-client", "open", "--no-ask", "--reason", reason, "desk", "bob")
}

// promptOf is a command that prints the number of the prompt with a reason.
func (m *Machine) promptOf(reason string) string {
	return `pamprompt-client --json prompts | grep -F '"reason":"` + reason + `"' | sed -n 's/.*"prompt":\([0-9]*\).*/\1/p' | grep .`
}

// survive has three questions asked, ends the broker, and sees all that is known to the next one.
func (m *Machine) survive(t *testing.T, what, how string, agent *Terminal) {
	overBus, prompt := m.open(t)
	byFile := "answered by file after " + what
	fileSession := strings.Fields(m.Shell(t, call+"OpenSession 'ssa{sv}' desk bob 2 linger b true reason s '"+byFile+"'"))[1]
	m.Await(t, "the second question", "/bin/sh", "-c", m.promptOf(byFile))
	byAgent := "answered by the agent after " + what
	m.hold(t, "desk-waits", byAgent)
	m.Await(t, "the third question", "/bin/sh", "-c", m.promptOf(byAgent))
	before := m.Shell(t, lists)
	if n := strings.Count(before, "\n") + 1; n != 9 {
		t.Fatalf("there are %d sessions and prompts, not 6 and 3:\n%s", n, before)
	}
	ended := m.Shell(t, mainPID)

	began := time.Now()
	m.Shell(t, how)
	m.Await(t, "another broker", "/bin/sh", "-c", another+ended)
	after := m.Shell(t, lists) // the first call must know them all
	took := time.Since(began).Round(100 * time.Millisecond)
	if after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}

	m.answer(t, overBus, prompt)
	file := `for f in /run/systemd/ask-password/ask.*; do if grep -qF '` + byFile + `' "$f"; then sed -n 's/^Socket=//p' "$f"; fi; done | grep .`
	socket := m.Await(t, "the request", "/bin/sh", "-c", file)
	m.Shell(t, "printf %s hunter22 | /lib/systemd/systemd-reply-password 1 "+socket)
	m.Await(t, "the session that a file opened", "/bin/sh", "-c",
		`pamprompt-client --json list | grep '"session":`+fileSession+`,' | grep '"state":"open"'`)
	agent.await(byAgent)
	agent.await("assword")
	agent.enter("hunter22")
	m.Await(t, "the opener that waited", "systemctl", "is-active", "desk-waits.service")
	m.Run(t, "systemctl", "stop", "desk-waits.service")
	m.closeSession(t, overBus)
	m.closeSession(t, fileSession)
	session, prompt := m.open(t) // by a worker of the new pool
	m.answer(t, session, prompt)
	m.closeSession(t, session)
	saw(t, "restart: %s: 6 sessions and 3 prompts are known again, by the same numbers, after %v; answered over D-Bus, by systemd-reply-password and by an agent from before",
		what, took)
}
