// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"strings"
	"testing"
)

const (
	request   = "cat /run/systemd/ask-password/ask.*" // fails while nobody asks
	homeState = `homectl list --no-legend | awk '$1 == "anna" { print $4 }'`
	manager   = "user@60100.service"
)

// reply answers a request as systemd's agents do, and waits until it is gone.
func (m *Machine) reply(t *testing.T, answer string) {
	t.Helper()
	socket := m.Await(t, "a request", "/bin/sh", "-ec", request+" | sed -n 's/^Socket=//p' | grep .")
	m.Shell(t, "printf %s '"+answer+"' | /lib/systemd/systemd-reply-password 1 "+socket)
	m.Await(t, "the end of the request", "test", "!", "-e", socket)
}

func (m *Machine) awaitHome(t *testing.T, state string) {
	t.Helper()
	m.Await(t, "the home's being "+state, "/bin/sh", "-c", homeState+" | grep -x "+state)
}

func aHomedUsersManagerStarts(t *testing.T, m *Machine) {
	m.Run(t, "env", "NEWPASSWORD=correct-horse", "homectl", "create", "anna", "--storage=directory",
		"--enforce-password-policy=no", "--uid=60100")
	m.Run(t, "systemctl", "enable", "pamprompt-linger@anna.service")
	if said := m.Run(t, "systemctl", "show", "--property=After", manager); !strings.Contains(said, "pamprompt-linger@anna.service") {
		t.Errorf("the user's manager is not ordered behind us: %s", said)
	}
	m.Run(t, "systemctl", "start", "--no-block", "pamprompt-linger@anna.service")
	t.Log(m.Await(t, "the question", "/bin/sh", "-ec", request+" | grep Message="))
	m.reply(t, "wrong-horse")
	t.Log(m.Await(t, "the second question", "/bin/sh", "-ec", request+" | grep Message="))
	m.reply(t, "correct-horse")
	m.Await(t, "the session", "systemctl", "is-active", "pamprompt-linger@anna.service")
	m.awaitHome(t, "active")
	m.Await(t, "the user's manager", "systemctl", "is-active", manager)
	m.userService(t)

	m.Run(t, "systemctl", "stop", "pamprompt-linger@anna.service")
	m.awaitHome(t, "inactive")
	if state, _ := m.Try(t, "systemctl", "is-active", manager); state != "inactive" {
		t.Errorf("after the end of the session the user's manager is %s", state)
	}
}

// userService has the user's manager run a service that writes into the home.
func (m *Machine) userService(t *testing.T) {
	t.Helper()
	m.Shell(t, `runuser -u anna -- env XDG_RUNTIME_DIR=/run/user/60100 sh -euc '
		mkdir -p /home/anna/.config/systemd/user
		printf "[Service]\nType=oneshot\nExecStart=/bin/sh -c \"id -un >/home/anna/ran\"\n" >/home/anna/.config/systemd/user/try.service
		systemctl --user daemon-reload
		systemctl --user start try.service'`)
	if said := m.Shell(t, "cat /home/anna/ran; rm /home/anna/ran"); said != "anna" {
		t.Errorf("the service of the user ran as %q", said)
	}
}

// A system that is shut down while it asks asks again at the next boot.
func theHomeIsUnlockedAtBoot(t *testing.T, m *Machine) {
	m.Shutdown(t)
	m.Start(t)
	m.Await(t, "the question at boot", "/bin/sh", "-ec", request+" | grep Message=")
	m.Shutdown(t)
	m.Start(t)
	m.reply(t, "correct-horse")
	m.Await(t, "the end of the boot", "systemctl", "is-system-running", "--wait")
	m.Await(t, "the user's manager", "systemctl", "is-active", manager)
	m.awaitHome(t, "active")
	m.userService(t)
}

func nobodyAnswersAtBoot(t *testing.T, m *Machine) {
	m.Shell(t, `mkdir -p /etc/systemd/system/pamprompt-linger@anna.service.d
		printf '[Service]\nTimeoutStartSec=3s\n' >/etc/systemd/system/pamprompt-linger@anna.service.d/test.conf`)
	m.Shutdown(t)
	m.Start(t)
	m.Await(t, "the question at boot", "/bin/sh", "-ec", request+" | grep Message=")
	said, _ := m.Try(t, "systemctl", "is-system-running", "--wait")
	if said != "degraded" {
		t.Errorf("after the time for an answer the system is %s", said)
	}
	m.Await(t, "the failure", "systemctl", "is-failed", "pamprompt-linger@anna.service")
	m.Await(t, "the end of the request", "/bin/sh", "-c", "! "+request)
	m.Run(t, "rm", "-r", "/etc/systemd/system/pamprompt-linger@anna.service.d")
}
