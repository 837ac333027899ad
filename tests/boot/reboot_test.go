// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"strings"
	"testing"
)

// A system that is shut down while it asks asks again at the next boot.
func theHomeIsUnlockedAtBoot(t *testing.T, m *Machine) {
	m.Shutdown(t)
	m.Start(t)
	m.question(t)
	m.Shutdown(t)
	m.Start(t)
	m.reply(t, "correct-horse")
	m.Await(t, "the end of the boot", "systemctl", "is-system-running", "--wait")
	m.awaitServices(t)
}

// The home is unlocked by a session that pamprompt-linger@ holds. Of two others, which nobody
// holds, one is open and one waits for an answer.
func aRebootClosesSessions(t *testing.T, m *Machine) {
	m.Run(t, "mkdir", "-p", "/var/log/journal")
	m.Run(t, "journalctl", "--flush")
	m.Run(t, "systemctl", "disable", linger) // nobody is asked at the next boot
	held := m.Shell(t, `pamprompt-client --json list | sed -n 's/.*"session":\([0-9]*\).*"pamprompt-linger".*/\1/p'`)
	open, prompt := m.open(t)
	m.answer(t, open, prompt)
	waiting, _ := m.open(t)
	m.Await(t, "the request", "/bin/sh", "-c", request)
	m.Await(t, "what closes sessions", "systemctl", "is-active", "pamprompt-sessions.service")

	took := m.Reboot(t)
	m.Await(t, "the boot", "systemctl", "is-system-running", "--wait")
	const before = "journalctl --boot=-1 --output=cat --no-pager "
	ends := m.Shell(t, before+"--unit=pamprompt-broker.service --grep='^session ended'")
	var end string // of the last one
	for _, session := range []string{held, open, waiting} {
		_, rest, closed := strings.Cut(ends, "session ended event=close session="+session+" ")
		if !closed {
			t.Errorf("session %s was not closed before the reboot:\n%s", session, ends)
		}
		end, _, _ = strings.Cut(rest, "\n")
	}
	hung := "remains running|timed out|SIGKILL|Failed with result"
	if said, err := m.Try(t, "/bin/sh", "-c", before+"--unit='pamprompt-*' --unit="+manager+" --grep='"+hung+"'"); err == nil {
		t.Errorf("the units did not end in order:\n%s", said)
	}
	if said := m.Shell(t, "ls -A /run/systemd/ask-password; find /run -xdev -path '/run/pamprompt*' '(' -type f -o -type s ')'"); said != "" {
		t.Errorf("after the reboot there are %s", said)
	}
	if said := m.Run(t, "systemctl", "list-units", "--all", "--failed", "--plain", "--no-legend", "pamprompt*", manager); said != "" {
		t.Errorf("after the reboot these have failed: %s", said)
	}
	m.Run(t, "systemctl", "enable", linger)
	saw(t, "e: a reboot with a pending prompt, an open session and an unlocked home: all three closed, the system ended in %v; no request, "+
		"no failed unit after it; of the prompt's session the journal of before: session ended %s", took, end)
}

func nobodyAnswersAtBoot(t *testing.T, m *Machine) {
	m.Shell(t, `mkdir -p /etc/systemd/system/pamprompt-linger@anna.service.d
		printf '[Service]\nTimeoutStartSec=3s\n' >/etc/systemd/system/pamprompt-linger@anna.service.d/test.conf`)
	m.Shutdown(t)
	m.Start(t)
	m.question(t)
	said, _ := m.Try(t, "systemctl", "is-system-running", "--wait")
	if said != "degraded" {
		t.Errorf("after the time for an answer the system is %s", said)
	}
	m.Await(t, "the failure", "systemctl", "is-failed", linger)
	m.Await(t, "the end of the request", "/bin/sh", "-c", "! "+request)
	m.Run(t, "rm", "-r", "/etc/systemd/system/pamprompt-linger@anna.service.d")
}
