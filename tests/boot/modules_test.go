// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"slices"
	"strings"
	"testing"
)

// mounts and apart are stacks of what pamprompt-worker.service must leave to modules. Two,
// since a mount of pam_exec is undone in the mount namespace of pam_namespace, if there is one.
const (
	common = `auth     required pam_permit.so
account  required pam_permit.so
session  required pam_loginuid.so
session  required pam_keyinit.so force revoke
`
	mounts = common + "session required pam_exec.so /etc/security/mount-session\n"
	apart  = common + "session required pam_namespace.so\n"
)

// inTheSession says what a command finds of all that, and what it has of the unit. What
// has no number here is as it is for PID 1: a machine in a container has a filter of system calls.
const inTheSession = `
exec >/home/erin/found 2>&1
echo loginuid $(cat /proc/self/loginuid)
echo keyring $(awk '$8 == "keyring" && $9 == "_ses:" { print $6 }' /proc/keys)
echo memlock $(ulimit -l) core $(ulimit -Sc) files $(ulimit -Sn) umask $(umask)
grep -E '^(SigIgn|CapEff):' /proc/self/status
grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/self/status
touch /tmp/mine
exec sleep infinity
`

const wantInTheSession = `loginuid 4000
keyring 4000
memlock 8192 core 0 files 1024 umask 0022
CapEff:	0000000000000000
SigIgn:	0000000000000000
`

func theUnitTakesNothingFromModules(t *testing.T, m *Machine) {
	// Somebody who has no other session: /proc/keys shows all keyrings of a user.
	m.Run(t, "useradd", "--create-home", "--uid=4000", "erin")
	m.Write(t, "/etc/pam.d/mounts", mounts)
	m.Write(t, "/etc/pam.d/apart", apart)
	m.Write(t, "/etc/security/mount-session", "#!/bin/sh\ncase $PAM_TYPE in\n"+
		"open_session) mount -t tmpfs session /mnt ;;\nclose_session) umount /mnt ;;\nesac\n")
	m.Write(t, "/root/script", inTheSession)
	m.Shell(t, `chmod +x /etc/security/mount-session
		cp /etc/security/namespace.conf /root/namespace.conf
		echo '/tmp /tmp/apart/ user root' >/etc/security/namespace.conf
		mkdir --mode=0 /tmp/apart`)
	run := func(service string) string {
		return strings.Fields(m.Shell(t, "busctl call -- org.pamprompt.Broker1 /org/pamprompt/Broker1 org.pamprompt.Broker1.Manager "+
			"OpenSession 'ssa{sv}' "+service+` erin 2 linger b true command as 3 /bin/sh -euc "$(cat /root/script)"`))[1]
	}

	session := run("mounts")
	m.Await(t, "the command", "test", "-e", "/tmp/mine")
	if said := m.Run(t, "grep", "/mnt", "/proc/1/mounts"); !strings.HasPrefix(said, "session /mnt tmpfs ") {
		t.Errorf("what pam_exec mounts is not the machine's: %q", said)
	}
	want := wantInTheSession + m.Run(t, "grep", "-E", "^(NoNewPrivs|Seccomp|CapBnd):", "/proc/1/status")
	if found := m.Shell(t, "cat /home/erin/found"); sorted(found) != sorted(want) {
		t.Errorf("a command of the session finds\n%s\nand not\n%s", found, want)
	}
	m.closeSession(t, session)
	if said, err := m.Try(t, "grep", "/mnt", "/proc/1/mounts"); err == nil {
		t.Errorf("what pam_exec has mounted is still there: %q", said)
	}

	m.Run(t, "rm", "/tmp/mine")
	session = run("apart")
	m.Await(t, "a file in the session's own /tmp", "test", "-e", "/tmp/apart/erin/mine")
	if _, err := m.Try(t, "test", "-e", "/tmp/mine"); err == nil {
		t.Error("the /tmp of pam_namespace is everybody's")
	}
	m.closeSession(t, session)
	m.Shell(t, "mv /root/namespace.conf /etc/security/namespace.conf; rm /home/erin/found")
}

// sorted is a text with its lines in order.
func sorted(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
