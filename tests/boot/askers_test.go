// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/tests/modules"
)

// asker is a program that runs PAM itself and has nobody to ask: a module of its stack asks,
// and what the program does then is seen from outside. The scripts are run by sh.
type asker struct {
	name    string
	twice   bool   // it is another one with more questions, which takes long
	file    string // of /etc/pam.d
	stack   string // what is in it
	start   string // returns at once
	works   string // succeeds once the program has come where it was to come
	refused string // succeeds once the program has given up, and says why
	stop    string // is how it ends, whatever came of it
	unit    string // what stop stops, which has not failed then
	answers bool   // the program can answer by itself
}

// logged writes what was logged since the start of the program, by whomever: a process that
// ends at once is too fast for journald to know its unit.
const logged = `journalctl --no-hostname --no-pager --after-cursor="$since" | cut -c 17- `

const (
	codeQuestion = "One-time code: "
	code         = "246813"
	debianStack  = "@include /usr/lib/pam.d/systemd-user\n"

	// second is a second factor, in a phase and a style of pam_probe's. cron, atd and PAMName= units
	// do not authenticate anybody: there it is in the account phase.
	second = "required /opt/pam_probe.so [%[1]s:ask=%[2]s," + codeQuestion + "] %[1]s:expect=" + code + "\n"
	others = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n"
)

// askSecond is a stack whose only question comes in one phase.
func askSecond(kind, phase string) string {
	return kind + " " + fmt.Sprintf(second, phase, "secret") + others
}

const (
	// With Type=exec systemd 252 waits in vain, whatever the stack is: its (sd-pam) keeps the pipe open
	// that says when the program has been executed.
	unitFile = `[Service]
User=bob
PAMName=ask-unit
ExecStart=sh -c 'touch /home/bob/done; exec sleep infinity'
`
	sshdConfig = `Port 2222
ListenAddress 127.0.0.1
HostKey /root/ssh/host
PidFile none
UsePAM yes
KbdInteractiveAuthentication no
PasswordAuthentication yes
PubkeyAuthentication yes
`
	sshdUnit = `[Service]
Type=notify
ExecStart=/usr/sbin/sshd -D -f /root/ssh/config
`
	sshUnit = `[Service]
Environment=SSH_ASKPASS=/root/ssh/password SSH_ASKPASS_REQUIRE=force
ExecStart=sh -c 'sh /root/ssh/client >/root/ssh/said 2>&1; echo $? >/root/ssh/now; mv /root/ssh/now /root/ssh/ended'
`
	client = `ssh -F none -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o NumberOfPasswordPrompts=1 `
)

// sshTo starts an sshd and a client that has no terminal and asks nobody: it has a key, or a password.
func sshTo(options string) string {
	return "rm -f /root/ssh/said /root/ssh/ended; systemctl start ask-sshd.service; echo \"exec " + client + options +
		" bob@127.0.0.1 true\" >/root/ssh/client; systemctl start --no-block ask-ssh.service"
}

const (
	byKey      = "-i /root/ssh/key -o BatchMode=yes"
	byPassword = "-o PreferredAuthentications=password"
	sshWorks   = "grep -qx 0 /root/ssh/ended"
	sshRefused = "grep -qvx 0 /root/ssh/ended && tail -n 1 /root/ssh/said | cut -c -60 && " +
		logged + "| grep -E 'PAM account configuration|error: PAM: |Failed password' | tail -n 1"
	sshStop = "systemctl stop ask-ssh.service ask-sshd.service"
)

// askers are all of them, in an order in which none needs another.
var askers = []asker{
	{
		name: "a homed user's manager, whose stack insists on the home", file: "systemd-user",
		stack:   "account requisite pam_systemd_home.so\n" + debianStack,
		start:   "systemctl start --no-block " + manager,
		works:   "systemctl is-active --quiet " + manager + " && test active = \"$(" + homeState + ")\"",
		refused: "systemctl is-failed --quiet " + manager + " && " + logged + "| grep -E 'conversation failed|not active' | head -n 1",
		stop:    "systemctl stop " + manager, unit: manager,
	},
	{
		name: "a homed user's manager, with Debian's stack", twice: true, file: "systemd-user",
		stack: debianStack,
		start: "systemctl start --no-block " + manager,
		works: "systemctl is-active --quiet " + manager + " && test active = \"$(" + homeState + ")\"",
		refused: "systemctl is-active --quiet " + manager + " && test inactive = \"$(" + homeState + ")\" && echo 'it runs, the home is inactive:' && " +
			logged + "| grep -E 'conversation failed|not active' | head -n 1",
		stop: "systemctl stop " + manager, unit: manager,
	},
	{
		name: "a unit with PAMName=", file: "ask-unit", stack: askSecond("account", "account"),
		start:   "rm -f /home/bob/done; systemctl start --no-block ask-unit.service",
		works:   "test -e /home/bob/done && systemctl is-active --quiet ask-unit.service",
		refused: "systemctl is-failed --quiet ask-unit.service && " + logged + "| grep -F 'PAM failed' | head -n 1",
		stop:    "systemctl stop ask-unit.service", unit: "ask-unit.service",
	},
	{
		name: "a job of cron", file: "cron", stack: askSecond("account", "account"),
		// Jobs of @reboot run when cron starts for the first time.
		start:   "rm -f /run/crond.reboot /home/bob/done; systemctl start cron.service",
		works:   "test -e /home/bob/done",
		refused: logged + "| grep 'CRON.*: Conversation error'",
		stop:    "systemctl stop cron.service", unit: "cron.service",
	},
	{
		name: "a job of atd", file: "atd", stack: askSecond("account", "account"),
		start: "rm -f /home/bob/done /var/spool/cron/atjobs/[a=]* /var/spool/at/[a=]*; systemctl start atd.service\n" +
			"cd /; echo 'touch /home/bob/done' | runuser -u bob -- at now 2>/dev/null",
		works:   "test -e /home/bob/done",
		refused: logged + "| grep 'atd.*: Conversation error'",
		unit:    "atd.service",
		stop:    "systemctl stop atd.service; rm -f /var/spool/cron/atjobs/[a=]* /var/spool/at/[a=]*",
	},
	{
		name: "sshd, a key, a question of the account phase", file: "sshd", stack: askSecond("account", "account"),
		start: sshTo(byKey), works: sshWorks, refused: sshRefused, stop: sshStop, unit: "ask-sshd.service",
	},
	{
		name: "sshd, a key, a question of the session phase", file: "sshd", stack: askSecond("session", "open"),
		start: sshTo(byKey), works: sshWorks, refused: sshRefused, stop: sshStop, unit: "ask-sshd.service",
	},
	{
		name: "sshd, a password, and a second question that shows what is typed", file: "sshd",
		stack: "auth required pam_unix.so\nauth " + fmt.Sprintf(second, "auth", "visible") + others,
		start: sshTo(byPassword), works: sshWorks, refused: sshRefused, stop: sshStop, unit: "ask-sshd.service",
	},
	{
		// The client's password is the answer to whatever does not show what is typed.
		name: "sshd, a password, and a second question that hides what is typed", file: "sshd",
		stack: "auth required pam_unix.so\nauth " + fmt.Sprintf(second, "auth", "secret") + others,
		start: sshTo(byPassword), works: sshWorks, refused: sshRefused, stop: sshStop, unit: "ask-sshd.service",
	},
	{
		name: "sshd, a password alone", file: "sshd", stack: "auth required pam_unix.so\n" + others,
		start: sshTo(byPassword), works: sshWorks, refused: sshRefused, stop: sshStop, unit: "ask-sshd.service", answers: true,
	},
}

// stage has what the askers need.
func (m *Machine) stage(t *testing.T) {
	t.Helper()
	m.Copy(t, modules.Probe(t), "/opt/pam_probe.so")
	m.Write(t, "/etc/systemd/system/ask-unit.service", unitFile)
	m.Write(t, "/etc/systemd/system/ask-sshd.service", sshdUnit)
	m.Write(t, "/etc/systemd/system/ask-ssh.service", sshUnit)
	m.Run(t, "mkdir", "-p", "/root/ssh", "/run/sshd")
	m.Write(t, "/root/ssh/config", sshdConfig)
	m.Write(t, "/root/ssh/password", "#!/bin/sh\necho hunter22\n")
	m.Shell(t, `systemctl daemon-reload
		chmod +x /root/ssh/password
		ssh-keygen -q -t ed25519 -N '' -f /root/ssh/host
		ssh-keygen -q -t ed25519 -N '' -f /root/ssh/key
		install -d -o bob -g bob -m 700 /home/bob/.ssh
		install -o bob -g bob -m 600 /root/ssh/key.pub /home/bob/.ssh/authorized_keys
		echo '@reboot touch /home/bob/done' | crontab -u bob -`)
}

// unstage takes it away, so that what follows finds the machine as it was.
func (m *Machine) unstage(t *testing.T) {
	t.Helper()
	m.Shell(t, `crontab -u bob -r
		rm -rf /opt/pam_probe.so /etc/systemd/system/ask-*.service /root/ssh /home/bob/.ssh /home/bob/done
		systemctl daemon-reload`)
}

// outcome is what came of a program.
type outcome struct {
	works bool
	why   string // it does not
	took  time.Duration
}

func (o outcome) String() string {
	if o.works {
		return fmt.Sprintf("works after %v", o.took)
	}
	return fmt.Sprintf("refused after %v, %q", o.took, o.why)
}

// cursor is where the journal is.
func (m *Machine) cursor(t *testing.T) string {
	t.Helper()
	return m.Shell(t, "journalctl --lines=0 --show-cursor | sed -n 's/^-- cursor: //p'")
}

// try has a program run with a stack of its own, and what is to be done meanwhile done.
func (a asker) try(t *testing.T, m *Machine, line string, meanwhile func()) outcome {
	t.Helper()
	if saved, err := m.Try(t, "cat", "/etc/pam.d/"+a.file); err == nil {
		defer m.Write(t, "/etc/pam.d/"+a.file, saved+"\n")
	} else {
		defer m.Run(t, "rm", "/etc/pam.d/"+a.file)
	}
	m.Write(t, "/etc/pam.d/"+a.file, line+a.stack)
	since := "since='" + m.cursor(t) + "'; "
	began := time.Now()
	m.Shell(t, a.start)
	defer a.end(t, m)
	meanwhile()
	said := m.Await(t, a.name, "/bin/sh", "-c", since+"if "+a.works+"; then echo works; else { "+a.refused+"; } | grep .; fi")
	o := outcome{took: time.Since(began).Round(100 * time.Millisecond), works: said == "works"}
	if !o.works {
		o.why = strings.Join(strings.Fields(said), " ")
	}
	return o
}

// end stops a program, which must end in order when it has come where it was to come.
func (a asker) end(t *testing.T, m *Machine) {
	t.Helper()
	failed := "systemctl is-failed --quiet " + a.unit
	_, before := m.Try(t, "/bin/sh", "-c", failed)
	began := time.Now()
	m.Shell(t, a.stop)
	took := time.Since(began)
	if _, err := m.Try(t, "/bin/sh", "-c", failed); err == nil && before != nil {
		t.Errorf("%s: when it is stopped the unit has failed", a.name)
	}
	if took > shutdown {
		t.Errorf("%s: the stop of the unit took %v", a.name, took)
	}
	m.Shell(t, "systemctl reset-failed "+a.unit+" 2>/dev/null || true")
}

// withoutModule is what each program did without the module, by its name, on the machine that runs.
var withoutModule = map[string]outcome{}

// Whatever has to be asked is refused, or asked for 15 seconds by a later systemd, or answered
// with the client's password by sshd.
func programsHaveNobodyToAsk(t *testing.T, m *Machine) {
	m.stage(t)
	defer m.unstage(t)
	for _, a := range askers {
		o := a.try(t, m, "", func() {})
		if o.works != a.answers {
			t.Errorf("%s: %v", a.name, o)
		}
		withoutModule[a.name] = o
		saw(t, "f: without the module: %s: %v", a.name, o)
	}
}
