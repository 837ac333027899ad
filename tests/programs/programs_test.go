// SPDX-License-Identifier: Apache-2.0

// Package programs runs, against a real broker on a private bus, what uses it
// without the Go library: a shell script, a Python and a C program, the demo,
// and every example of the documentation. It holds nothing but tests.
package programs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

const root = "../.."

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// needs skips a test that this machine cannot run.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a session sets the groups of its user")
	}
	for _, program := range append([]string{"busctl", "dbus-daemon"}, programs...) {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing: scripts/setup.sh installs it", program)
		}
	}
}

// stack is a PAM stack that asks for a password and a one-time code and sets a
// variable. The key is that of RFC 4226.
func stack(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"passwords":   "nobody:open sesame:demo\n",
		"codes":       "HOTP nobody - 3132333435363738393031323334353637383930\n",
		"environment": "EDITOR DEFAULT=nano\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "auth requisite " + modules.System(t, "pam_matrix") + " passdb=" + dir + "/passwords\n" +
		"auth required " + modules.System(t, "pam_oath") + " usersfile=" + dir + "/codes\n" +
		"account required pam_permit.so\n" +
		"session required pam_env.so readenv=0 conffile=" + dir + "/environment\n"
}

// environment starts a broker with the stack as its service demo, and is what
// a program is to be told of it. When the test is over nothing of it may be
// left.
func environment(t *testing.T) []string {
	t.Helper()
	s := system.Start(t, system.Options{Stacks: map[string]string{"demo": stack(t)}})
	return append(s.Environment(), "PAM_SERVICE=demo", "PAM_USER=nobody", "PAM_USER_UID=65534",
		"PAM_VARIABLE=EDITOR=nano", "PASSWORD=open sesame", "CODE=755224")
}

// nothingLeft waits for the end of every process whose program is one of ours,
// whoever started it. One that does not end by itself is an error, and is killed.
func nothingLeft(t *testing.T) {
	t.Helper()
	bin := system.Build(t).Dir
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		program, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(program, bin+"/") {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 15_000); n == 0 {
			t.Errorf("process %d, %s, is left behind", pid, program)
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(fd)
	}
}

// command is a program that gets at most two minutes, in a process group that
// is gone afterwards.
func command(t *testing.T, env []string, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// withRun makes a command see a /run of its own, with an ask-password directory
// in it: the one of the machine is for the questions of the machine.
func withRun(cmd *exec.Cmd) *exec.Cmd {
	cmd.Args = append([]string{"unshare", "--mount", "--propagation", "private", "/bin/sh", "-c",
		`mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/ask-password && exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/usr/bin/unshare"
	return cmd
}

func TestBusctlAlone(t *testing.T) {
	needs(t)
	env := environment(t)
	out, err := command(t, env, root+"/tests/busctl.sh").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestAPythonProgramWrittenFromTheREADME(t *testing.T) {
	needs(t)
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import dbus, gi").Run(); err != nil {
		t.Skip("the Python modules dbus and gi are missing: scripts/setup.sh installs them")
	}
	env := append(environment(t), "PYTHONDONTWRITEBYTECODE=1")
	out, err := command(t, env, python, root+"/tests/client.py").CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "\nok\n") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestACProgramWrittenFromTheREADME(t *testing.T) {
	needs(t, "gcc", "pkg-config")
	flags, err := exec.Command("pkg-config", "--cflags", "--libs", "dbus-1").Output()
	if err != nil {
		t.Skip("libdbus is missing: scripts/setup.sh installs the Debian package libdbus-1-dev")
	}
	program := filepath.Join(t.TempDir(), "client")
	args := append([]string{"-Wall", "-Wextra", "-Werror", "-o", program, root + "/tests/client.c"}, strings.Fields(string(flags))...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env := environment(t)
	out, err := command(t, env, program).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "\nok\n") {
		t.Fatalf("%v\n%s", err, out)
	}
}
