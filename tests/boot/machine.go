// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is how long anything may take on a busy machine.
	patience = 90 * time.Second
	// poll is how often is looked whether something has happened.
	poll = 100 * time.Millisecond
	// shutdown takes half a second. Whatever waits for something that is gone
	// already waits for ten at least.
	shutdown = 9 * time.Second
)

// Machine is a system that runs, or has run.
type Machine struct {
	dir     string // of the layer: root is the whole
	name    string
	cgroups []string
	nspawn  *exec.Cmd
	ended   chan struct{}
	leader  string // number of its PID 1 outside
}

// New makes a machine whose root file system is a layer above that of Root. It is
// not booted yet.
func New(t testing.TB, base string) *Machine {
	t.Helper()
	m := &Machine{dir: t.TempDir(), name: fmt.Sprintf("pamprompt-%s-%d", filepath.Base(base), os.Getpid())}
	for _, folder := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(m.dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", base, m.dir, m.dir)
	switch err := syscall.Mount("overlay", m.Path("/"), "overlay", 0, layers); {
	case errors.Is(err, syscall.EPERM):
		t.Skip("root may not mount here, as in most containers: a real or virtual machine is needed")
	case err != nil:
		t.Fatalf("mount a layer above %s: %v", base, err)
	}
	m.cgroups = cgroups(t, m.name)
	t.Cleanup(func() {
		m.Shutdown(t)
		if err := removeCgroups(m.cgroups); err != nil {
			t.Error(err)
		}
		if err := syscall.Unmount(m.Path("/"), 0); err != nil {
			t.Errorf("unmount %s: %v", m.Path("/"), err)
		}
	})
	return m
}

// Path is where a file of the machine is outside.
func (m *Machine) Path(file string) string { return filepath.Join(m.dir, "root", file) }

// Boot boots and waits until the system is up.
func (m *Machine) Boot(t testing.TB) {
	t.Helper()
	m.Start(t)
	m.Await(t, "the boot", "systemctl", "is-system-running", "--wait")
}

// Start boots and returns when its systemd runs.
func (m *Machine) Start(t testing.TB) {
	t.Helper()
	console, err := os.OpenFile(filepath.Join(m.dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = console.Close() }()
	// Memory is locked and keyrings are made on a real machine, too.
	args := append([]string{"-euc", enter, "sh"}, m.cgroups...)
	m.nspawn = exec.Command("/bin/sh", append(args, "--", "systemd-nspawn", "--quiet", "--directory="+m.Path("/"), "--machine="+m.name, "--register=no",
		"--keep-unit", "--console=pipe", "--boot", "--private-network", "--system-call-filter=@memlock @keyring", "--capability=CAP_IPC_LOCK")...)
	m.nspawn.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	m.nspawn.Stdout, m.nspawn.Stderr = console, console
	m.nspawn.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := m.nspawn.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	m.ended = ended
	go func() {
		_ = m.nspawn.Wait()
		close(ended)
	}()
	pid := m.nspawn.Process.Pid
	m.until(t, "a PID 1", func() bool {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		fields := strings.Fields(string(children))
		if err != nil || len(fields) == 0 {
			return false
		}
		m.leader = fields[0]
		return m.command(t.Context(), "test", "-S", "/run/systemd/private").Run() == nil
	})
}

// until waits until something is so.
func (m *Machine) until(t testing.TB, what string, is func() bool) {
	t.Helper()
	ticks := time.NewTicker(poll)
	defer ticks.Stop()
	for late := time.After(patience); !is(); {
		select {
		case <-ticks.C:
		case <-m.ended:
			t.Fatalf("%s: the machine has ended while it was waited for; its console:\n%s", what, m.console())
		case <-late:
			t.Fatalf("%s did not come in %v\n%s", what, patience, m.console())
		}
	}
}

func (m *Machine) console() string {
	text, _ := os.ReadFile(filepath.Join(m.dir, "console"))
	return string(text[max(0, len(text)-4000):])
}

// command is one inside, as root.
func (m *Machine) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", m.leader,
		"--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root",
		"DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"}
	return cmd
}

// Try runs a command inside and returns what it wrote to either output.
func (m *Machine) Try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := m.command(ctx, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// exitCode is that of a command of Try.
func exitCode(err error) int {
	var status *exec.ExitError
	if errors.As(err, &status) {
		return status.ExitCode()
	}
	return 0
}

// Run runs a command inside, which must succeed.
func (m *Machine) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := m.Try(t, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Shell runs a script inside, which must succeed.
func (m *Machine) Shell(t testing.TB, script string) string {
	t.Helper()
	return m.Run(t, "/bin/sh", "-euc", script)
}

// Await runs a command until it succeeds and returns what it wrote then.
func (m *Machine) Await(t testing.TB, what string, args ...string) string {
	t.Helper()
	var out []byte
	m.until(t, what, func() bool {
		var stderr bytes.Buffer
		cmd := m.command(t.Context(), args...)
		cmd.Stderr = &stderr
		var err error
		out, err = cmd.Output()
		return err == nil
	})
	return strings.TrimSpace(string(out))
}

// Write writes a file of the machine.
func (m *Machine) Write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(m.Path(file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Copy copies a file into the machine.
func (m *Machine) Copy(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	m.Write(t, to, string(data))
}

// restart is what systemd-nspawn ends with when its system reboots: whoever keeps the machine
// is to start it again, as systemd-nspawn@.service does.
const restart = 133

// Reboot has the system end in order and boots it again. It returns how long the end took.
func (m *Machine) Reboot(t testing.TB) time.Duration {
	t.Helper()
	began := time.Now()
	m.Run(t, "systemctl", "--no-block", "reboot")
	select {
	case <-m.ended:
	case <-time.After(patience):
		t.Fatalf("the system does not reboot in %v:\n%s", patience, m.console())
	}
	took := time.Since(began).Round(100 * time.Millisecond)
	if code := m.nspawn.ProcessState.ExitCode(); code != restart {
		t.Fatalf("instead of a reboot the machine ended with %d; its console:\n%s", code, m.console())
	}
	if took > shutdown {
		t.Errorf("the system took %v to end; the console:\n%s", took, m.console())
	}
	m.Start(t)
	return took
}

// Shutdown ends the system in order; it must not hang.
func (m *Machine) Shutdown(t testing.TB) {
	t.Helper()
	if m.nspawn == nil {
		return
	}
	began := time.Now()
	defer func() {
		m.nspawn = nil
		took := time.Since(began).Round(time.Millisecond)
		t.Logf("the system was shut down in %v", took)
		if took > shutdown {
			t.Errorf("something hung in the shutdown; the console:\n%s", m.console())
		}
	}()
	// nspawn makes of it what tells a systemd to halt.
	if err := m.nspawn.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	select {
	case <-m.ended:
	case <-time.After(patience):
		t.Errorf("the system does not shut down in %v:\n%s", patience, m.console())
		_ = m.nspawn.Process.Kill()
		<-m.ended
	}
}
