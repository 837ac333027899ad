// SPDX-License-Identifier: Apache-2.0

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	polkitName = "org.freedesktop.PolicyKit1"
	polkitd    = "/usr/lib/polkit-1/polkitd"
)

// StartPolkit starts polkitd again after StopPolkit; StartMachine has started
// it. It returns when polkitd owns its name.
func (m *Machine) StartPolkit(t testing.TB) {
	t.Helper()
	for _, path := range []string{
		filepath.Join(tree(t), "dist", "polkit", "org.pamprompt.policy"),
		"/usr/share/polkit-1/actions/org.freedesktop.policykit.policy",
	} {
		writeFile(t, filepath.Join(m.path("actions"), filepath.Base(path)), readFile(t, path, "the Debian package polkitd has it"))
	}
	owned := m.owner(t, polkitName, func(owner string) bool { return owner != "" })
	out, err := m.log.open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd := m.Inside(t, Identity{}, polkitd) // which becomes its own user by itself
	cmd.Stdout = out
	m.launch(t, "polkitd", &m.polkit, cmd, owned)
}

// StopPolkit ends polkitd. It returns when polkitd has left the bus.
func (m *Machine) StopPolkit(t testing.TB) {
	t.Helper()
	left := m.owner(t, polkitName, func(owner string) bool { return owner == "" })
	if err := m.polkit.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-left:
	case <-time.After(patience):
		t.Fatalf("the bus has not noticed after %v that polkitd is gone", patience)
	}
}

// FreezePolkit has polkitd answer nothing until it is thawed.
func (m *Machine) FreezePolkit(t testing.TB) { m.polkit.signal(t, syscall.SIGSTOP) }

// ThawPolkit lets it answer again.
func (m *Machine) ThawPolkit(t testing.TB) { m.polkit.signal(t, syscall.SIGCONT) }

func (m *Machine) polkitRules() string {
	return filepath.Join(m.Etc, "polkit-1", "rules.d", "10-test.rules")
}

// WritePolkitRules writes the rules of the test, for a polkitd that does not run. polkit's
// own say who is an administrator; here it is root, as polkit asks which one if there are
// more, unless a rule of the test says otherwise.
func (m *Machine) WritePolkitRules(t testing.TB, script string) {
	t.Helper()
	writeFile(t, m.polkitRules(), script+`
polkit.addAdminRule(function(action, subject) { return ["unix-user:root"]; });
polkit.addRule(function(action, subject) {
	polkit.log(action.id + " for " + subject.user + ", local " + subject.local + ", active " + subject.active +
		", service " + action.lookup("service") + ", user " + action.lookup("user"));
});
`)
}

// SetPolkitRules replaces the rules in JavaScript. It returns when polkitd has
// read them.
func (m *Machine) SetPolkitRules(t testing.TB, script string) {
	t.Helper()
	conn, err := dbus.Connect(m.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	changed := make(chan *dbus.Signal, 16)
	conn.Signal(changed)
	if err := conn.AddMatchSignal(dbus.WithMatchSender(polkitName), dbus.WithMatchMember("Changed")); err != nil {
		t.Fatal(err)
	}
	m.WritePolkitRules(t, script)
	for late := time.After(patience); ; {
		select {
		case signal := <-changed:
			if signal.Name == polkitName+".Authority.Changed" {
				return
			}
		case <-late:
			t.Fatalf("polkitd has not read its rules after %v\n%s", patience, m.log.text())
		}
	}
}

// Login makes polkitd believe that a user's process is in a login session that
// is active, and at a seat if it is local. logind does not run: these are the
// files that it would write, and the cgroup into which it would put the process.
func (m *Machine) Login(t testing.TB, u *User, active, local bool) {
	t.Helper()
	m.logins++
	session := fmt.Sprintf("c%d", m.logins)
	state, shown, seat := "online", 0, ""
	if active {
		state, shown = "active", 1
	}
	if local {
		seat = "SEAT=seat0\n"
	}
	writeFile(t, m.path("logind/sessions/"+session), fmt.Sprintf("UID=%d\nTYPE=tty\nCLASS=user\nREMOTE=0\nSTATE=%s\nACTIVE=%d\n%s",
		u.UID, state, shown, seat))
	// polkit takes a session for active if any of the user's is.
	writeFile(t, m.path(fmt.Sprintf("logind/users/%d", u.UID)), "STATE="+state+"\n")
	m.Place(t, u.PID, fmt.Sprintf("/user.slice/user-%d.slice/session-%s.scope", u.UID, session))
}

// Place makes the broker and polkitd believe that a process is in a cgroup.
// One that is started later believes it no more.
func (m *Machine) Place(t testing.TB, pid int, cgroup string) {
	t.Helper()
	m.placed++
	file := m.path(fmt.Sprintf("cgroup-%d", m.placed))
	writeFile(t, file, "1:name=systemd:"+cgroup+"\n0::"+cgroup+"\n")
	for _, believer := range []*process{m.polkit, m.broker} {
		mount := exec.Command("nsenter", "--mount", "--root", "--target", strconv.Itoa(believer.pid()),
			"mount", "--bind", file, fmt.Sprintf("/proc/%d/cgroup", pid))
		if out, err := mount.CombinedOutput(); err != nil {
			t.Fatalf("place process %d: %v\n%s", pid, err, out)
		}
	}
}

// StartTime is when a process started, as polkit wants it: field 22 of
// proc_pid_stat(5).
func StartTime(t testing.TB, pid int) uint64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	when, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return when
}
