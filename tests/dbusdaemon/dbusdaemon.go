// SPDX-License-Identifier: Apache-2.0

// Package dbusdaemon starts a dbus-daemon with a configuration of the test's
// own. Only tests import it; those that need the whole of pamprompt use
// tests/system.
package dbusdaemon

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Start starts a bus in a directory, with a configuration that says where it
// listens, and returns its address. It ends with the test, however that ends.
func Start(t testing.TB, dir, configuration string) string {
	t.Helper()
	config := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, []byte(configuration), 0o644); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	cmd := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--nosyslog", "--print-address=3")
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start dbus-daemon (the Debian package dbus-daemon has it): %v", err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	_ = w.Close()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("dbus-daemon does not take the configuration: %v", err)
	}
	return strings.TrimSpace(line)
}
