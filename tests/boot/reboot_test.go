// SPDX-License-Identifier: Apache-2.0

package boot

import "testing"

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
