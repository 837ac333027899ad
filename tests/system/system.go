// SPDX-License-Identifier: Apache-2.0

package system

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
)

// Options of Start and StartOnBus.
type Options struct {
	Stacks     map[string]string // by the name of the service
	BrokerArgs []string          // further arguments of the broker
	Through    []string          // of StartOnBus: a program, with arguments, that becomes the broker; empty for none
	PoolArgs   []string          // of StartOnBus and StartOnDBusBroker: not nil has the pool apart, with these further arguments; it is not the broker's child, and stays when that is killed
	Network    string            // of StartInNamespace: the file of a network namespace for the broker; empty for the test's
}

// System is a running pamprompt.
type System struct {
	Programs
	Address string // of the bus; what DBUS_SYSTEM_BUS_ADDRESS wants
	Dir     string // of sockets and stacks
	PAMDir  string

	broker  *process
	bus     *process // nil when the broker has its own
	pool    *process // nil when the broker has started it
	log     journal
	stopped bool
}

// Start runs a broker that starts its own bus. It is stopped at the end of the
// test, or by Stop.
func Start(t testing.TB, o Options) *System {
	t.Helper()
	s := newSystem(t, o)
	args := append([]string{"--private-bus", "--worker", s.Worker, "--pam-dir", s.PAMDir, "--socket", s.socket()}, o.BrokerArgs...)
	cmd := exec.Command(s.Broker, args...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.broker, err = start(cmd, s.log, func() error {
		s.Address, err = readAddress(stdout)
		return err
	})
	if err != nil {
		t.Fatalf("start the broker: %v\n%s", err, s.log.text())
	}
	t.Cleanup(func() { s.Stop(t) })
	return s
}

// newSystem makes the directory. The names of sockets are short, as the kernel
// wants them, and are not those of the test.
func newSystem(t testing.TB, o Options) *System {
	t.Helper()
	dir, err := os.MkdirTemp("", "pamprompt-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &System{Programs: Build(t), Dir: dir, PAMDir: filepath.Join(dir, "pam.d"), log: journal(filepath.Join(dir, "log"))}
	write(t, s.PAMDir, o.Stacks)
	if err := os.Mkdir(filepath.Join(dir, "workers"), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *System) socket() string { return filepath.Join(s.Dir, "workers", "broker.sock") }

func readAddress(r io.Reader) (string, error) {
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("it said no address: %w", err)
	}
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "DBUS_SYSTEM_BUS_ADDRESS=")
	if !ok {
		return "", fmt.Errorf("its first line is %q", line)
	}
	return address, nil
}

// Stop ends the broker and checks that nothing of the system is left.
func (s *System) Stop(t testing.TB) {
	t.Helper()
	if s.stopped {
		return
	}
	s.stopped = true
	processes := belonging(s.Dir, s.pids()...)
	for _, p := range []*process{s.pool, s.broker, s.bus} {
		if p != nil {
			if err := p.end(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	gone(t, append(processes, belonging(s.Dir)...))
	if strings.Contains(s.log.text(), "DATA RACE") {
		t.Error("the broker has a data race")
	}
	s.log.show(t)
}

func (s *System) pids() []int {
	var pids []int
	for _, p := range []*process{s.pool, s.broker, s.bus} {
		if p != nil && p.running() {
			pids = append(pids, p.pid())
		}
	}
	return pids
}

// Log is what the broker and its children have written to standard error.
func (s *System) Log() string { return s.log.text() }

// Environment is the environment of a program that is to use the system.
func (s *System) Environment() []string {
	return append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+s.Address)
}

// Conn is a private connection to the bus, closed at the end of the test.
func (s *System) Conn(t testing.TB) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(s.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Client is a client with a connection of its own, closed at the end of the
// test.
func (s *System) Client(t testing.TB) *api.Client {
	t.Helper()
	c, err := api.Dial(context.Background(), s.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Signal sends a signal to the broker alone. After SIGSTOP it has stopped.
func (s *System) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	s.broker.signal(t, signal)
}

// BusPID is the process of a bus that is not the broker's.
func (s *System) BusPID() int { return s.bus.pid() }

// PoolPID is the process of a pool that is apart.
func (s *System) PoolPID() int { return s.pool.pid() }

// Ended waits until the broker has ended by itself.
func (s *System) Ended(t testing.TB) {
	t.Helper()
	select {
	case <-s.broker.done:
	case <-time.After(patience):
		t.Fatalf("the broker has not ended after %v", patience)
	}
}
