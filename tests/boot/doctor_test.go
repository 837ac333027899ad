// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"regexp"
	"strings"
	"testing"
)

// A fresh installation is well; and what an administrator may break is found, each with
// what to do.
func theDoctor(t *testing.T, m *Machine) {
	well := m.Run(t, "pamprompt-client", "doctor")
	for _, check := range []string{"bus", "broker", "polkit", "policy", "ask-password", "workers", "PAM services", "pam_pamprompt"} {
		if !regexp.MustCompile(`(?m)^ok +` + check + ` `).MatchString(well) {
			t.Errorf("nothing is said to be well of %s", check)
		}
	}
	if regexp.MustCompile(`(?m)^(bad|note) `).MatchString(well) {
		t.Errorf("after an installation the doctor says\n%s", well)
	}
	for _, c := range []struct{ ill, cure, says, advice string }{
		{"mv /etc/pam.d/pamprompt-run /root", "mv /root/pamprompt-run /etc/pam.d", "bad   PAM services    pamprompt-run", "install the package again"},
		{"echo nonsense >/etc/pamprompt/policy.d/99-x.toml", "rm /etc/pamprompt/policy.d/99-x.toml", "bad   policy          /etc/pamprompt/policy.d/99-x.toml:1", "systemctl reload pamprompt-broker"},
		{"chmod 777 /run/systemd/ask-password", "chmod 755 /run/systemd/ask-password", "bad   ask-password    /run/systemd/ask-password is not root's alone", "chmod 755"},
		{"mv /usr/share/polkit-1/actions/org.pamprompt.policy /root", "mv /root/org.pamprompt.policy /usr/share/polkit-1/actions", "bad   polkit", "install the package again"},
		{"echo 'session optional pam_absent.so' >>/etc/pam.d/pamprompt-linger", "sed -i /pam_absent/d /etc/pam.d/pamprompt-linger", "names modules that there are not: pam_absent.so", "install their packages"},
	} {
		m.Shell(t, c.ill)
		out, err := m.Try(t, "pamprompt-client", "doctor")
		m.Shell(t, c.cure)
		if err == nil || !strings.Contains(out, c.says) || !strings.Contains(out, c.advice) {
			t.Errorf("after %s the doctor says (%v)\n%s", c.ill, err, out)
		}
	}
	if out := m.Run(t, "pamprompt-client", "doctor"); out != well && strings.Contains(out, "bad ") {
		t.Errorf("when all is mended the doctor says\n%s", out)
	}
	saw(t, "doctor: %s", well)
}
