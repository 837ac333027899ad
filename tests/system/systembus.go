// SPDX-License-Identifier: Apache-2.0

package system

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Bus is an implementation of the message bus.
type Bus string

// The buses that there are.
const (
	DBusDaemon Bus = "dbus-daemon"
	DBusBroker Bus = "dbus-broker"
)

// Buses are all of them, for tests that run on each.
var Buses = []Bus{DBusDaemon, DBusBroker}

// Where a system has its configuration of the bus.
const (
	systemConf = "/usr/share/dbus-1/system.conf"
	polkitConf = "/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf"
)

// startSystemBus starts a bus with the rules of this computer's system bus. The
// only services that have a policy there are pamprompt, with the one that is
// shipped, and polkit. Its socket has the name that programs expect in /run/dbus.
func (m *Machine) startSystemBus(t testing.TB, bus Bus) {
	t.Helper()
	configs := []string{
		leftOut.ReplaceAllString(readFile(t, systemConf, "the Debian package dbus-system-bus-common has it"), ""),
		readFile(t, filepath.Join(tree(t), "dbus-1", "system.d", "org.pamprompt.Broker1.conf"), "it is shipped"),
		readFile(t, polkitConf, "the Debian package polkitd has it"),
	}
	if bus == DBusDaemon {
		m.startDBusDaemon(t, configs)
		return
	}
	policy, err := translate(configs...)
	if err != nil {
		t.Fatal(err)
	}
	m.bus, m.Address = runDBusBroker(t, m.Dir, m.busSocket(), m.log, policy, func(program string, args ...string) *exec.Cmd {
		return m.Inside(t, identityOf(t, "messagebus"), program, args...)
	})
	if err := os.Chmod(m.busSocket(), 0o666); err != nil {
		t.Fatal(err)
	}
}

func (m *Machine) busSocket() string { return filepath.Join(m.busDir(), "system_bus_socket") }

// left out are the lines of a system's configuration that say where the bus
// is, what it starts and as whom it runs, and what else it includes.
var leftOut = regexp.MustCompile(`(?s)<!--.*?-->|<(user|pidfile|listen|servicehelper|include|includedir)\b[^>]*>[^<]*</\w+>|<(fork|syslog|standard_system_servicedirs)/>`)

func (m *Machine) startDBusDaemon(t testing.TB, configs []string) {
	t.Helper()
	included := ""
	for i, text := range configs[1:] {
		path := filepath.Join(m.Dir, fmt.Sprintf("bus-%d.conf", i))
		writeFile(t, path, text)
		included += "<include>" + path + "</include>\n"
	}
	config := filepath.Join(m.Dir, "bus.conf")
	writeFile(t, config, strings.Replace(configs[0], "</busconfig>",
		"<listen>unix:path="+m.busSocket()+"</listen>\n"+included+"</busconfig>", 1))
	cmd := m.Inside(t, identityOf(t, "messagebus"), "dbus-daemon", "--config-file="+config,
		"--nofork", "--nopidfile", "--nosyslog", "--print-address=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.bus, err = start(cmd, m.log, func() error {
		line, err := bufio.NewReader(stdout).ReadString('\n')
		m.Address = strings.TrimSpace(line)
		return err
	})
	if err != nil {
		t.Fatalf("start dbus-daemon: %v\n%s", err, m.log.text())
	}
}

func readFile(t testing.TB, path, advice string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: %s", err, advice)
	}
	return string(text)
}

// treeOnce is the directory of the module's source.
var treeOnce = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	return strings.TrimSpace(string(out)), err
})

func tree(t testing.TB) string {
	t.Helper()
	dir, err := treeOnce()
	if err != nil {
		t.Fatalf("find the source of what is tested: %v", err)
	}
	return dir
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
