// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"strings"
	"testing"
	"time"
)

// oathKey is the key of RFC 4226, in hexadecimal.
const oathKey = "3132333435363738393031323334353637383930"

// A one-time code is asked for after the home's password.
func aSecondFactor(t *testing.T, m *Machine) {
	m.Shell(t, `cp /etc/pam.d/pamprompt-linger /root/pamprompt-linger
		sed -i '/^@include common-auth/a auth required pam_oath.so usersfile=/etc/users.oath window=5 digits=6' /etc/pam.d/pamprompt-linger
		(umask 077; echo 'HOTP/T30 anna - `+oathKey+`' >/etc/users.oath)
		mkdir -p /run/systemd/system/`+linger+`.d
		printf '[Service]\nEnvironment=ATTEMPTS=1\n' >/run/systemd/system/`+linger+`.d/once.conf
		systemctl daemon-reload`)

	m.Run(t, "systemctl", "start", "--no-block", linger)
	m.reply(t, "correct-horse")
	if asked := m.question(t); !strings.Contains(asked, "One-time password") {
		t.Errorf("after the password it asks %q", asked)
	}
	m.reply(t, "000000")
	m.Await(t, "the failure", "systemctl", "is-failed", linger)
	m.awaitHome(t, "inactive")
	why := m.Shell(t, "journalctl --boot --unit="+linger+" --output=cat | grep -F AuthenticationFailed | tail -n 1")

	m.Run(t, "systemctl", "reset-failed", linger)
	began := time.Now()
	m.Run(t, "systemctl", "start", "--no-block", linger)
	first := m.question(t)
	m.reply(t, "correct-horse")
	second := m.question(t)
	m.reply(t, m.Run(t, "oathtool", "--totp", oathKey))
	m.awaitServices(t)
	took := time.Since(began).Round(100 * time.Millisecond)
	m.stopLinger(t)

	m.Shell(t, `mv /root/pamprompt-linger /etc/pam.d/pamprompt-linger
		rm -r /etc/users.oath /run/systemd/system/`+linger+`.d
		systemctl daemon-reload`)
	saw(t, "c: pam_oath after the password: a wrong code fails, %q; asked %q, then %q, both answered: open after %v", why, first, second, took)
}
