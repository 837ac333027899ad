// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"regexp"
	"strings"
	"testing"
)

// about is what somebody looks at first.
const about = "id; pwd; loginctl --no-pager session-status; echo loginuid $(cat /proc/self/loginuid); echo files $(ulimit -n); echo core $(ulimit -c) $(ulimit -Hc); tty"

// aCommandRunsInTheHome is run0's way into a home that is locked.
func aCommandRunsInTheHome(t *testing.T, m *Machine) {
	m.Shell(t, "echo 'anna - nofile 777' >/etc/security/limits.d/anna.conf")
	terminal := m.Sit(t, "pamprompt-client", "run", "-u", "anna", "--setenv", "SYSTEMD_COLORS", "--", "sh", "-c", about+"; exit 5")
	terminal.await("assword")
	terminal.enter("wrong-horse")
	terminal.await("assword")
	terminal.enter("correct-horse")
	terminal.await("core")
	screen, code := terminal.end()
	for _, want := range []string{
		`uid=60100\(anna\)`, `(?m)^/home/anna\r$`, `Service: pamprompt-run`, `[Tt]ype:? tty`, `[Cc]lass:? user`, `TTY: pts/[0-9]+`,
		`Unit: session-[0-9a-z]+\.scope`, `loginuid 60100`, `files 777`, `core 0 unlimited`, `(?m)^/dev/pts/[0-9]+\r$`,
	} {
		if !regexp.MustCompile(want).MatchString(screen) {
			t.Errorf("there is no %s", want)
		}
	}
	if code != 5 || strings.Contains(screen, "horse") || t.Failed() {
		t.Errorf("exit code %d, the terminal shows\n%s", code, screen)
	}
	m.awaitHome(t, "inactive") // when the user's manager has stopped
	line := func(pattern string) string {
		return strings.TrimSpace(regexp.MustCompile(pattern).FindString(screen))
	}
	saw(t, "b: run -u anna, a wrong and then the right password: %s, in /home/anna, %s, %s, %s, %s; exit status 5 passed on; the home is locked again",
		line(`uid=60100\(anna\)`), line("Service: .*"), line("Unit: .*"), line("loginuid [0-9]+"), line("files [0-9]+"))
}

// Pipes are the command's alone, with no terminal, and what is asked is asked elsewhere.
func aCommandInAPipeline(t *testing.T, m *Machine) {
	said := m.Shell(t, `echo words | pamprompt-client run -u bob -- sh -c 'tr a-z A-Z; id -un >&2; exit 7' 2>/root/err && exit 1 || echo $?; cat /root/err`)
	if said != "WORDS\n7\nbob" {
		t.Errorf("through pipes it is %q", said)
	}
	size := m.Shell(t, `head -c 20000000 /dev/zero | pamprompt-client run -u bob cat | wc -c`)
	if size != "20000000" {
		t.Errorf("of 20000000 bytes %s came through", size)
	}
	saw(t, "b: run in a pipeline: %q; 20 MB came through", said)
}

// Who is no administrator of the machine's needs one's password: bob is one.
func polkitLetsRun(t *testing.T, m *Machine) {
	m.Shell(t, "usermod --append --groups sudo bob")
	terminal := m.Sit(t, "su", "-", "bob")
	terminal.await("$")
	terminal.enter(`pamprompt-client run -u carol -- sh -c 'id -un; exit 6'; echo "status $?"`)
	terminal.await("AUTHENTICATING FOR org.pamprompt.run")
	terminal.await("assword")
	terminal.enter("hunter22")
	terminal.await("carol")
	terminal.await("status 6")
	terminal.enter(`pamprompt-client run -u carol id; echo "status $?"`)
	terminal.await("assword")
	terminal.enter("hunter33") // carol's own is not an administrator's
	terminal.await("status 4")
	terminal.enter("exit")
	if screen, _ := terminal.end(); strings.Contains(screen, "hunter") {
		t.Errorf("what was typed is on the terminal: %q", screen)
	}
	saw(t, "b: bob runs a command as carol with his own password, which polkit asks for on his terminal, and not with hers")
}

// With the verdict allow everybody authenticates as the user, as with su.
func aRuleLetsRun(t *testing.T, m *Machine) {
	m.Write(t, "/etc/pamprompt/policy.d/40-run.toml", "[[rule]]\naction = \"run\"\nservice = \"pamprompt-run\"\nuser = \"bob\"\nverdict = \"allow\"\n")
	m.Run(t, "systemctl", "reload", "pamprompt-broker.service")
	terminal := m.Sit(t, "su", "-", "carol")
	terminal.await("$")
	terminal.enter(`pamprompt-client run -u bob -- sh -c 'id -un; exit 6'; echo "status $?"`)
	terminal.await("assword")
	terminal.enter("hunter22")
	terminal.await("bob")
	terminal.await("status 6")
	terminal.enter("exit")
	if screen, _ := terminal.end(); strings.Contains(screen, "polkit") || strings.Contains(screen, "AUTHENTICATING") {
		t.Errorf("polkit was asked: %q", screen)
	}
	m.Run(t, "rm", "/etc/pamprompt/policy.d/40-run.toml")
	m.Run(t, "systemctl", "reload", "pamprompt-broker.service")
	saw(t, "b: a rule lets carol run a command as bob, with bob's password")
}
