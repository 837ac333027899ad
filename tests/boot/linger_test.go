// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"strings"
	"testing"
	"time"
)

const (
	request   = "cat /run/systemd/ask-password/ask.*" // fails while nobody asks
	homeState = `homectl list --no-legend | awk '$1 == "anna" { print $4 }'`
	manager   = "user@60100.service"
	linger    = "pamprompt-linger@anna.service"
	// asAnna has what follows speak to anna's manager.
	asAnna = "runuser -u anna -- env XDG_RUNTIME_DIR=/run/user/60100 "
)

// reply answers a request as systemd's agents do, and waits until it is gone.
func (m *Machine) reply(t *testing.T, answer string) {
	t.Helper()
	socket := m.Await(t, "a request", "/bin/sh", "-ec", request+" | sed -n 's/^Socket=//p' | grep .")
	m.Shell(t, "printf %s '"+answer+"' | /lib/systemd/systemd-reply-password 1 "+socket)
	m.Await(t, "the end of the request", "test", "!", "-e", socket)
}

// question is what stands in the request that waits.
func (m *Machine) question(t *testing.T) string {
	t.Helper()
	return m.Await(t, "the question", "/bin/sh", "-ec", request+" | sed -n 's/^Message=//p' | grep .")
}

func (m *Machine) awaitHome(t *testing.T, state string) {
	t.Helper()
	m.Await(t, "the home's being "+state, "/bin/sh", "-c", homeState+" | grep -x "+state)
}

// awaitServices waits for the home, the user's manager, and a service of the user whose
// unit and program are both in the home.
func (m *Machine) awaitServices(t *testing.T) {
	t.Helper()
	m.Await(t, "the session", "systemctl", "is-active", linger)
	m.awaitHome(t, "active")
	m.Await(t, "the user's manager", "systemctl", "is-active", manager)
	m.Await(t, "the user's service", "/bin/sh", "-c", asAnna+"systemctl --user is-active serve.service")
}

// stopLinger ends the session, and sees that the home is locked again.
func (m *Machine) stopLinger(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	m.Run(t, "systemctl", "stop", linger)
	m.awaitHome(t, "inactive")
	if state, _ := m.Try(t, "systemctl", "is-active", manager); state != "inactive" {
		t.Errorf("after the end of the session the user's manager is %s", state)
	}
	return time.Since(began).Round(100 * time.Millisecond)
}

// aHomedUser makes anna, with a service that starts with her manager.
func aHomedUser(t *testing.T, m *Machine) {
	m.Run(t, "env", "NEWPASSWORD=correct-horse", "homectl", "create", "anna", "--storage=directory",
		"--enforce-password-policy=no", "--uid=60100")
	m.Run(t, "env", "PASSWORD=correct-horse", "homectl", "with", "anna", "--", "/bin/sh", "-euc", `
		cd /home/anna
		mkdir -p .config/systemd/user/default.target.wants
		printf '#!/bin/sh\nexec sleep infinity\n' >serve
		chmod +x serve
		printf '[Service]\nExecStart=%%h/serve\n' >.config/systemd/user/serve.service
		ln -s ../serve.service .config/systemd/user/default.target.wants
		chown -R anna: .config serve`)
	m.awaitHome(t, "inactive")
}

// insist has the stack of users' managers refuse whose home is locked, or be Debian's again,
// which starts a manager without a home.
func (m *Machine) insist(t *testing.T, on bool) {
	t.Helper()
	if on {
		m.Shell(t, "(echo account requisite pam_systemd_home.so; cat /usr/lib/pam.d/systemd-user) >/etc/pam.d/systemd-user")
	} else {
		m.Run(t, "rm", "/etc/pam.d/systemd-user")
	}
}

// Without us what the modules ask is refused, by a later systemd after nobody has answered it.
func nobodyUnlocksTheHome(t *testing.T, m *Machine) {
	start := func() (said string, took time.Duration, err error) {
		t.Helper()
		began := time.Now()
		said, err = m.Try(t, "systemctl", "start", manager)
		took = time.Since(began).Round(100 * time.Millisecond)
		if state := m.Shell(t, homeState); state != "inactive" {
			t.Fatalf("without us the home is %s", state)
		}
		return said, took, err
	}
	m.insist(t, true)
	since := m.cursor(t)
	said, took, err := start()
	if err == nil {
		t.Error("without us the user's manager starts, though its stack insists on the home")
	}
	why := m.Await(t, "the reason", "/bin/sh", "-c", "since='"+since+"'; "+logged+"| grep --max-count=1 --extended-regexp 'conversation failed|not active'")
	first, _, _ := strings.Cut(said, "\n")
	saw(t, "a: without us, stack insists on the home: systemctl start %s: exit code %d after %v, %q; %q", manager, exitCode(err), took, first, why)

	m.insist(t, false)
	_, took, _ = start()
	state, _ := m.Try(t, "systemctl", "is-active", manager)
	service, err := m.Try(t, "/bin/sh", "-c", asAnna+"systemctl --user start serve.service")
	if err == nil {
		t.Error("without us the user's service runs")
	}
	saw(t, "a: without us, Debian's stack: the manager is %s after %v, the home inactive; a service of the user: %q", state, took, service)
}

func systemdsAgentUnlocksTheHome(t *testing.T, m *Machine) {
	// The manager that nobody has unlocked the home for still runs.
	began := time.Now()
	m.Run(t, "systemctl", "enable", "--now", "--no-block", linger)
	if said := m.Run(t, "systemctl", "show", "--property=After", manager); !strings.Contains(said, linger) {
		t.Errorf("the user's manager is not ordered behind us: %s", said)
	}
	asked := m.question(t)
	m.reply(t, "correct-horse")
	m.awaitServices(t)
	took := time.Since(began).Round(100 * time.Millisecond)
	saw(t, "a: systemd-reply-password, asked %q: home active, %s and its service run after %v; stopped and locked in %v",
		asked, manager, took, m.stopLinger(t))
}

func busctlUnlocksTheHome(t *testing.T, m *Machine) {
	m.insist(t, true)
	defer m.insist(t, false)
	began := time.Now()
	m.Run(t, "systemctl", "start", "--no-block", linger)
	listed := m.Await(t, "a prompt in ListPrompts", "/bin/sh", "-c", call+"ListPrompts | grep '\"pamprompt-linger\"'")
	fields := strings.Fields(listed) // a(tossa{sv}) 1 PROMPT "SESSION" ...
	prompt, session := fields[2], strings.Trim(fields[3], `"`)
	m.Shell(t, call+"AnswerPrompt ts "+prompt+" wrong-horse")
	next := strings.Fields(m.Shell(t, "busctl call org.pamprompt.Broker1 "+session+" org.pamprompt.Broker1.Session NextPrompt t "+prompt))[1]
	m.Shell(t, call+"AnswerPrompt ts "+next+" correct-horse")
	m.awaitServices(t)
	took := time.Since(began).Round(100 * time.Millisecond)
	saw(t, "a: busctl, ListPrompts, a wrong answer to %s, NextPrompt, the right one to %s: open after %v; stopped and locked in %v",
		prompt, next, took, m.stopLinger(t))
}

func aPersonUnlocksTheHome(t *testing.T, m *Machine) {
	began := time.Now()
	terminal := m.Sit(t, "pamprompt-client", "agent")
	terminal.await("waiting for prompts")
	m.Run(t, "systemctl", "start", "--no-block", linger)
	terminal.await("assword")
	terminal.enter("wrong-horse")
	terminal.await("assword")
	terminal.enter("correct-horse")
	m.awaitServices(t)
	took := time.Since(began).Round(100 * time.Millisecond)
	locked := m.stopLinger(t)
	screen := terminal.leave()
	if strings.Contains(screen, "horse") {
		t.Errorf("what was typed is on the terminal: %q", screen)
	}
	t.Logf("the terminal:\n%s", screen)
	saw(t, "a: a person at pamprompt-client agent, typing a wrong and then the right password, not echoed: open after %v; stopped and locked in %v",
		took, locked)
}
