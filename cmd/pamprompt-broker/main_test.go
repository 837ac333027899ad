// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// run runs the broker as somebody at a shell would, and returns its exit code
// and what it wrote.
func runBroker(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(system.Build(t).Broker, args...)
	cmd.Env = append(cmd.Environ(), env...)
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	err := cmd.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestErrorsAtStartSayWhatIsMissingAndHowToGetIt(t *testing.T) {
	dir := t.TempDir()
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{"permit": system.Permit()}})
	onBus := []string{"DBUS_SYSTEM_BUS_ADDRESS=" + s.Address}
	socket := func(name string) string { return filepath.Join(dir, name, "broker.sock") }
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		env  []string
		args []string
		code int
		says []string
	}{
		{"an option that there is not", nil, []string{"--colour"}, 2, []string{"-colour"}},
		{"an argument", nil, []string{"start"}, 2, []string{`unexpected argument "start"`, "--help"}},
		{"a close timeout of nothing", nil, []string{"--close-timeout", "0s"}, 2, []string{"--close-timeout=0s is under a second"}},
		{"a directory for requests by a relative path", nil, []string{"--ask-password", "run"}, 2, []string{"--ask-password=run is no absolute path"}},
		{"a word for the agents of users that is none", nil, []string{"--user-ask-password", "maybe"}, 2, []string{"--user-ask-password=maybe is none of auto, yes and no"}},
		{"a level that is none", nil, []string{"--log-level", "loud"}, 2, []string{"loud"}},
		{"stacks without a pool of our own", nil, []string{"--pam-dir", dir}, 2, []string{"--pam-dir needs --private-bus or --worker"}},
		{"no bus", []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + dir + "/none"}, []string{"--socket", socket("a")}, 1,
			[]string{"there is no bus at unix:path=" + dir + "/none", "--private-bus"}},
		{"a bus that is no unix socket", []string{"DBUS_SYSTEM_BUS_ADDRESS=tcp:host=localhost"}, []string{"--socket", socket("b")}, 1,
			[]string{`"tcp:host=localhost"`, "unix:path="}},
		{"stacks of one's own on the real bus", []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket"},
			[]string{"--worker", "/bin/true", "--pam-dir", dir, "--socket", socket("c")}, 1, []string{"--pam-dir is not for the system bus", "--private-bus"}},
		{"no dbus-daemon", []string{"PATH=" + dir}, []string{"--private-bus"}, 1, []string{"there is no dbus-daemon", "apt-get install dbus-daemon"}},
		{"no worker", onBus, []string{"--worker", dir + "/none", "--socket", socket("d")}, 1, []string{"there is no worker at " + dir + "/none", "make build", "--worker"}},
		{"a worker that is no program", onBus, []string{"--worker", file, "--socket", socket("e")}, 1, []string{"there is no worker at " + file}},
		{"a socket that is a file", onBus, []string{"--socket", file}, 1, []string{"exists and is no socket"}},
		{"a socket where nobody may make one", onBus, []string{"--socket", "/proc/none/broker.sock"}, 1, []string{"make the directory of the worker socket"}},
		{"a second broker on the bus", onBus, []string{"--socket", socket("f")}, 1, []string{"another pamprompt-broker runs on this bus"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := runBroker(t, c.env, c.args...)
			if code != c.code || stdout != "" {
				t.Errorf("it exited with %d, want %d; standard output %q; standard error:\n%s", code, c.code, stdout, stderr)
			}
			for _, text := range c.says {
				if !strings.Contains(stderr, text) {
					t.Errorf("standard error does not say %q:\n%s", text, stderr)
				}
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	if code, stdout, _ := runBroker(t, nil, "--version"); code != 0 || !strings.HasPrefix(stdout, "pamprompt-broker ") {
		t.Errorf("--version: %d, %q", code, stdout)
	}
	code, _, stderr := runBroker(t, nil, "--help")
	for _, option := range []string{"private-bus", "worker", "pam-dir", "socket", "log-level", "close-timeout", "ask-password", "user-ask-password"} {
		if code != 0 || !strings.Contains(stderr, "-"+option) {
			t.Errorf("--help: %d, without %s", code, option)
		}
	}
}
