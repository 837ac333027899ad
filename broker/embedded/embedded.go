// SPDX-License-Identifier: Apache-2.0

// Package embedded starts what a broker needs on a machine that has neither a
// system bus nor a service manager: a dbus-daemon of its own, and the pool of
// workers. Both are children that end with the broker, however that ends. On a
// system that has them, nothing of this is used.
package embedded

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	dbus1 "github.com/pamprompt/pamprompt/dbus-1"
)

// stopTimeout is how long a child may take to end before it is killed.
const stopTimeout = 5 * time.Second

// Dir makes a directory for sockets, which only its owner may enter. The
// caller removes it.
func Dir() (string, error) {
	parent := os.Getenv("XDG_RUNTIME_DIR")
	if st, err := os.Stat("/run"); parent == "" && os.Geteuid() == 0 && err == nil && st.IsDir() {
		parent = "/run"
	}
	return os.MkdirTemp(parent, "pamprompt-")
}

// Child is a process that was started here. Its end is told on Done.
type Child struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// start runs a program that the kernel ends when we do. That is bound to the
// thread that starts it: the caller must be locked to one that lives as long
// as the process, the main thread.
func start(cmd *exec.Cmd, name string) (*Child, error) {
	cmd.Stderr = os.Stderr
	// A group of its own: Ctrl-C is for the broker, which closes its sessions
	// before it ends the bus they need.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c := &Child{name: name, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		if c.err = cmd.Wait(); c.err == nil {
			c.err = errors.New("exit status 0")
		}
	}()
	return c, nil
}

// Done is closed when the process has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err says how the process ended, once Done is closed.
func (c *Child) Err() error { return fmt.Errorf("%s ended: %w", c.name, c.err) }

// Stop ends the process and waits for it.
func (c *Child) Stop(log *slog.Logger) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
		return
	case <-time.After(stopTimeout):
	}
	log.Warn("a child does not end and is killed", "child", c.name, "pid", c.cmd.Process.Pid)
	_ = c.cmd.Process.Kill()
	<-c.done
}

// StartBus starts a dbus-daemon with the shipped configuration, listening in
// dir, and returns its address when it listens.
func StartBus(dir string) (*Child, string, error) {
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		return nil, "", errors.New("there is no dbus-daemon: install it (on Debian: apt-get install dbus-daemon)")
	}
	config := filepath.Join(dir, "bus.conf")
	text := strings.ReplaceAll(dbus1.PrivateBusConf, "@OWNER@", strconv.Itoa(os.Geteuid()))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, "", fmt.Errorf("write the configuration of the private bus: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = r.Close() }()
	cmd := exec.Command(program, "--config-file="+config, "--nofork", "--nopidfile", "--nosyslog",
		"--print-address=3", "--address=unix:path="+filepath.Join(dir, "bus"))
	cmd.ExtraFiles = []*os.File{w}
	child, err := start(cmd, "dbus-daemon")
	_ = w.Close()
	if err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		<-child.Done()
		return nil, "", fmt.Errorf("the private bus did not start: %w", child.Err())
	}
	return child, strings.TrimSpace(line), nil
}

// StartPool starts the pool of workers, which dial the socket. pamDir is empty
// for the system's PAM services.
func StartPool(program, socket, pamDir string, level slog.Level) (*Child, error) {
	st, err := os.Stat(program)
	if err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
		return nil, fmt.Errorf("there is no worker at %s: build it with `make build`, or name it with --worker", program)
	}
	args := []string{"--pool", "--socket", socket, "--log-level", level.String()}
	if pamDir != "" {
		args = append(args, "--pam-dir", pamDir)
	}
	return start(exec.Command(program, args...), "the pool of workers")
}
