// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"strings"
	"testing"
)

// seat is a service whose sessions are logind's, of somebody who sits at the machine.
const seat = `auth     required pam_permit.so
account  required pam_permit.so
session  required pam_loginuid.so
session  required pam_systemd.so class=user
`

// atSeat runs a script in a session that a user has at the machine's seat, and returns what it
// writes and whether it succeeded. A container's seat has no virtual terminals: a session that
// is opened there is active at once.
func (m *Machine) atSeat(t *testing.T, user, script string) (string, bool) {
	t.Helper()
	said := "/home/" + user + "/said"
	m.Write(t, "/root/script", "exec >"+said+" 2>&1\n"+script)
	session := strings.Fields(m.Shell(t, "busctl call -- org.pamprompt.Broker1 /org/pamprompt/Broker1 org.pamprompt.Broker1.Manager "+
		"OpenSession 'ssa{sv}' seat "+user+" 3 linger b true environment as 2 XDG_SEAT=seat0 XDG_SESSION_TYPE=tty "+
		`command as 3 /bin/sh -euc "$(cat /root/script)"`))[1]
	path := "org.pamprompt.Broker1 /org/pamprompt/Broker1/session/" + session + " org.pamprompt.Broker1.Session "
	ended := m.Shell(t, "busctl call "+path+"Wait s closed; busctl get-property "+path+"ExitStatus")
	if !strings.HasPrefix(ended, `sis "closed" 0 `) {
		t.Fatalf("the session of %s at the seat: %s", user, ended)
	}
	return m.Shell(t, "cat "+said), strings.HasSuffix(ended, "\ni 0")
}

// where says which session a process is in, as logind knows it.
const where = `loginctl show-session "$XDG_SESSION_ID" --property=Name --property=Active --property=Remote --property=Seat | xargs echo
`

// answerOf answers a prompt from standard input.
func answerOf(prompt string) string {
	return "printf hunter22 | pamprompt-client --no-ask-password answer " + prompt
}

func whoSitsThereAnswers(t *testing.T, m *Machine) {
	m.Write(t, "/etc/pam.d/seat", seat)
	session, prompt := m.open(t) // about bob, by root

	refused := func(who, said string, answered bool) string {
		t.Helper()
		if answered || !strings.Contains(said, "AccessDenied") {
			t.Errorf("%s answers bob's prompt: %s", who, said)
		}
		_, why, _ := strings.Cut(said, "AccessDenied: ")
		why, _, _ = strings.Cut(why, "\n")
		return why
	}
	said, err := m.Try(t, "runuser", "-u", "bob", "--", "/bin/sh", "-c", answerOf(prompt))
	bobOutside := refused("bob by runuser", said, err == nil)
	said, err = m.Try(t, "systemd-run", "--quiet", "--pipe", "--wait", "--uid=bob", "/bin/sh", "-c", answerOf(prompt))
	refused("bob in a unit of the system", said, err == nil)
	carol, ok := m.atSeat(t, "carol", where+answerOf(prompt))
	refused("carol at the seat", carol, ok)

	const listed = call + "ListPrompts"
	bob, ok := m.atSeat(t, "bob", where+listed+"\npkcheck --action-id org.pamprompt.answer-own --process $$ && echo polkit: yes\n"+
		answerOf(prompt))
	lines := strings.Split(bob, "\n")
	if !ok || !strings.Contains(bob, "Active=yes") || !strings.Contains(bob, "Remote=no") || !strings.Contains(bob, "Seat=seat0") ||
		!strings.Contains(bob, "polkit: yes") || !strings.Contains(bob, fmt.Sprintf("a(tossa{sv}) 1 %s ", prompt)) {
		t.Errorf("bob at the seat: %s", bob)
	}
	opened := m.Shell(t, "busctl call org.pamprompt.Broker1 /org/pamprompt/Broker1/session/"+session+" org.pamprompt.Broker1.Session Wait s open")
	if opened != `sis "open" 0 ""` {
		t.Errorf("after bob's answer the session is %s", opened)
	}
	m.closeSession(t, session)
	saw(t, "d: bob by runuser: %q; carol in her own session (%s): refused too; bob in his (%s): polkit says yes to answer-own, and his answer opens the session",
		bobOutside, strings.Split(carol, "\n")[0], lines[0])
}
