// SPDX-License-Identifier: Apache-2.0

package system

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
)

// The users that every Machine has, by these names in lower case, besides the
// system's own.
var (
	Opener  = Identity{UID: 60001, GID: 60001}
	Other   = Identity{UID: 60002, GID: 60002}
	Agent   = Identity{UID: 60003, GID: 60003, Groups: []uint32{60100}} // operators
	Anna    = Identity{UID: 60004, GID: 60004}
	Distant = Identity{UID: 4000000000, GID: 4000000000} // over INT_MAX
)

var accounts = map[string]Identity{"opener": Opener, "other": Other, "agent": Agent, "anna": Anna, "distant": Distant}

// Machine is all that a real system has of what decides on pamprompt's behalf:
// the bus with the policies that are shipped, polkitd with the actions that
// are shipped, and an /etc with users, stacks and rules. Every program runs in
// a mount namespace of its own with the same mounts, so that nothing of it is
// seen by, or taken from, the computer where the test runs.
type Machine struct {
	*OnBus
	Etc    string // what its programs see as /etc
	mounts []Mount
	polkit *process
	logins int
	placed int
}

// MachineOptions of StartMachine. The stacks of Options are those of /etc/pam.d.
type MachineOptions struct {
	Options
	Bus    Bus    // DBusDaemon if empty
	Policy string // TOML: /etc/pamprompt/policy.d/test.toml; no file if empty
	Polkit string // JavaScript: /etc/polkit-1/rules.d/10-test.rules
}

// StartMachine starts the bus, polkitd, the broker and its pool. It needs root.
func StartMachine(t testing.TB, o MachineOptions) *Machine {
	t.Helper()
	stacks := o.Stacks
	o.Stacks = nil
	m := &Machine{OnBus: &OnBus{System: newSystem(t, o.Options)}}
	if err := os.Chmod(m.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m.furnish(t, stacks)
	m.WriteRules(t, "test.toml", o.Policy)
	m.WritePolkitRules(t, o.Polkit)
	if o.Bus == "" {
		o.Bus = DBusDaemon
	}
	m.startSystemBus(t, o.Bus)
	t.Cleanup(func() { m.Stop(t) })
	m.StartPolkit(t)
	inside := m.Inside(t, Identity{}, m.Broker, append([]string{"--worker", m.Worker, "--socket", m.socket(), noAgents}, o.BrokerArgs...)...)
	m.Broker, m.args, m.PAMDir = inside.Path, inside.Args[1:], filepath.Join(m.Etc, "pam.d")
	m.Restart(t)
	return m
}

func (m *Machine) busDir() string { return filepath.Join(m.Dir, "bus") }

// furnish makes the directories that the programs see.
func (m *Machine) furnish(t testing.TB, stacks map[string]string) {
	t.Helper()
	m.Etc = filepath.Join(m.Dir, "etc")
	m.copyEtc(t)
	m.addAccounts(t)
	write(t, filepath.Join(m.Etc, "pam.d"), stacks)
	for _, dir := range []string{
		m.busDir(), m.path("rules.d"), m.path("actions"), m.path("logind"), m.path("logind/seats"), m.path("logind/sessions"),
		m.path("logind/users"), m.path("logind/machines"), m.path("etc/pamprompt"), m.rulesDir(),
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bus := identityOf(t, "messagebus")
	if err := os.Chown(m.busDir(), int(bus.UID), int(bus.GID)); err != nil {
		t.Fatal(err)
	}
	m.mounts = []Mount{
		{m.Etc, "/etc"},
		{m.busDir(), "/run/dbus"}, // for programs that take nothing from their environment
		{m.path("logind"), "/run/systemd"},
		{m.path("rules.d"), "/usr/share/polkit-1/rules.d"}, // empty
		{m.path("actions"), "/usr/share/polkit-1/actions"},
	}
	// A /run of its own has the places, which this computer's may not have.
	const run = "mount -t tmpfs tmpfs /run\nmkdir /run/dbus /run/systemd\n"
	writeFile(t, m.path("inside"), run+mountAndExec(m.mounts))
}

// needed is what the programs want of an /etc; all of it takes half a second.
var needed = []string{
	"environment", "group", "ld.so.*", "login.defs", "machine-id", "pam.conf", "pam.d", "passwd", "polkit-1", "security",
}

func (m *Machine) copyEtc(t testing.TB) {
	t.Helper()
	if err := os.Mkdir(m.Etc, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"-a"}
	for _, pattern := range needed {
		found, err := filepath.Glob("/etc/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, found...)
	}
	if out, err := exec.Command("cp", append(args, m.Etc)...).CombinedOutput(); err != nil {
		t.Fatalf("copy /etc: %v\n%s", err, out)
	}
}

func (m *Machine) path(name string) string { return filepath.Join(m.Dir, name) }

// addAccounts adds the users to what this computer has: the bus and polkitd
// find their own there.
func (m *Machine) addAccounts(t testing.TB) {
	t.Helper()
	passwd := readFile(t, filepath.Join(m.Etc, "passwd"), "every system has one")
	group := readFile(t, filepath.Join(m.Etc, "group"), "every system has one") + "operators:x:60100:agent\n"
	for name, who := range accounts {
		passwd += fmt.Sprintf("%s:x:%d:%d::/nonexistent:/bin/sh\n", name, who.UID, who.GID)
		group += fmt.Sprintf("%s:x:%d:\n", name, who.GID)
	}
	writeFile(t, filepath.Join(m.Etc, "passwd"), passwd)
	writeFile(t, filepath.Join(m.Etc, "group"), group)
	writeFile(t, filepath.Join(m.Etc, "nsswitch.conf"), "passwd: files\ngroup: files\nshadow: files\n")
}

func (m *Machine) rulesDir() string { return filepath.Join(m.Etc, "pamprompt", "policy.d") }

// WriteRules writes a file of rules, or removes it if text is empty. A broker
// that runs reads it after SIGHUP.
func (m *Machine) WriteRules(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(m.rulesDir(), name)
	if text != "" {
		writeFile(t, path, text)
	} else if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// Inside is a program that sees what the programs of the machine see.
func (m *Machine) Inside(t testing.TB, who Identity, program string, args ...string) *exec.Cmd {
	t.Helper()
	// Each of these becomes the next one by exec, so that signals, and the end
	// of the test, reach the program.
	all := []string{"--mount", "--propagation", "private", "/bin/sh", m.path("inside")}
	if who.UID != 0 {
		groups := "--clear-groups"
		if len(who.Groups) > 0 {
			groups = "--groups=" + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(who.Groups)), ","), "[]")
		}
		all = append(all, "setpriv", fmt.Sprintf("--reuid=%d", who.UID), fmt.Sprintf("--regid=%d", who.GID), groups, "--pdeathsig=TERM")
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Fatalf("%v: the Debian package util-linux has it", err)
	}
	cmd := exec.Command(unshare, append(append(all, program), args...)...)
	cmd.Dir, cmd.Env = "/", m.Environment()
	return cmd
}

// Join connects to the machine's bus as somebody.
func (m *Machine) Join(t testing.TB, who Identity, options ...dbus.ConnOption) *User {
	t.Helper()
	return Join(t, m.Address, who, options...)
}

// Stop stops all, and checks that nothing is left.
func (m *Machine) Stop(t testing.TB) {
	t.Helper()
	if m.polkit != nil && !m.stopped {
		_ = m.polkit.cmd.Process.Signal(syscall.SIGCONT) // in case a test has stopped it
	}
	m.OnBus.Stop(t)
	if m.polkit == nil {
		return
	}
	// It ends when the bus does.
	if err := m.polkit.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// identityOf is a user of this computer, without further groups.
func identityOf(t testing.TB, name string) Identity {
	t.Helper()
	account, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(account.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(account.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		t.Fatalf("user %s has uid %q, gid %q", name, account.Uid, account.Gid)
	}
	return Identity{UID: uint32(uid), GID: uint32(gid)}
}
