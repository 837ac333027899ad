// SPDX-License-Identifier: Apache-2.0

package system

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	dbus1 "github.com/pamprompt/pamprompt/dbus-1"
)

// OnBus is a System on a bus that is not the broker's: the broker can be
// killed and started again.
type OnBus struct {
	*System
	args       []string
	poolArgs   []string         // of a pool that is apart
	startAgain func(testing.TB) // the bus
	starts     int              // of the broker
}

// noAgents keeps a broker away from the agents of the machine; a later
// --ask-password of Options.BrokerArgs counts.
const noAgents = "--ask-password="

// StartOnBus starts a dbus-daemon and a broker on it. At the end of the test
// every session is closed first, since workers wait for a broker to come back.
func StartOnBus(t testing.TB, o Options) *OnBus {
	t.Helper()
	s := &OnBus{System: newSystem(t, o)}
	s.startBus(t)
	t.Cleanup(func() { s.Stop(t) })
	s.run(t, o)
	return s
}

// run starts the broker, and the pool if that is to be apart.
func (s *OnBus) run(t testing.TB, o Options) {
	t.Helper()
	pool := []string{"--worker", s.Worker, "--pam-dir", s.PAMDir}
	if o.PoolArgs != nil {
		pool, s.poolArgs = nil, o.PoolArgs
		s.startPool(t)
	}
	s.args = append(append(pool, "--socket", s.socket(), noAgents), o.BrokerArgs...)
	s.Through(o.Through...)
	s.Restart(t)
}

// startPool starts a pool that is apart.
func (s *OnBus) startPool(t testing.TB) {
	t.Helper()
	cmd := exec.Command(s.Worker, append([]string{"--pool", "--pam-dir", s.PAMDir, "--socket", s.socket()}, s.poolArgs...)...)
	var err error
	if s.pool, err = start(cmd, s.log, nil); err != nil {
		t.Fatal(err)
	}
}

// KillPool ends a pool that is apart by SIGKILL. The function starts another one.
func (s *OnBus) KillPool(t testing.TB) (again func()) {
	t.Helper()
	if err := s.pool.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	return func() { t.Helper(); s.startPool(t) }
}

// Through has the broker started by a program that becomes it, from the next Restart
// on.
func (s *OnBus) Through(program ...string) {
	if len(program) > 0 {
		s.args = append(append(program[1:len(program):len(program)], s.Broker), s.args...)
		s.Broker = program[0]
	}
}

// startBus runs a dbus-daemon with the configuration of the private bus.
func (s *OnBus) startBus(t testing.TB) {
	t.Helper()
	s.startAgain = s.startBus
	config := filepath.Join(s.Dir, "bus.conf")
	text := strings.ReplaceAll(dbus1.PrivateBusConf, "@OWNER@", strconv.Itoa(os.Geteuid()))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--nosyslog",
		"--print-address=1", "--address=unix:path="+filepath.Join(s.Dir, "bus"))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.bus, err = start(cmd, s.log, func() error {
		line, err := bufio.NewReader(stdout).ReadString('\n')
		s.Address = strings.TrimSpace(line)
		return err
	})
	if err != nil {
		t.Fatalf("start dbus-daemon: %v\n%s", err, s.log.text())
	}
}

// Restart starts the broker and returns when it owns its name.
func (s *OnBus) Restart(t testing.TB) {
	t.Helper()
	s.starts++
	owned := s.owner(t, api.BusName, func(owner string) bool { return owner != "" })
	cmd := exec.Command(s.Broker, s.args...)
	cmd.Env = s.Environment()
	s.launch(t, "the broker", &s.broker, cmd, owned)
}

// RestartAs is Restart with another program in the place of the broker, from now on.
func (s *OnBus) RestartAs(t testing.TB, program string) {
	t.Helper()
	s.Broker = program
	s.Restart(t)
}

// launch starts a program, which p is from then on, and returns when it owns its
// name.
func (s *OnBus) launch(t testing.TB, what string, p **process, cmd *exec.Cmd, owned <-chan struct{}) {
	t.Helper()
	var err error
	if *p, err = start(cmd, s.log, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-owned:
	case <-(*p).done:
		t.Fatalf("%s ended at once: %v\n%s", what, (*p).err, s.log.text())
	case <-time.After(patience):
		t.Fatalf("%s has not taken its name after %v\n%s", what, patience, s.log.text())
	}
}

// Kill ends the broker by SIGKILL and returns when it is gone from the bus.
func (s *OnBus) Kill(t testing.TB) {
	t.Helper()
	left := s.owner(t, api.BusName, func(owner string) bool { return owner == "" })
	if err := s.broker.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-left:
	case <-time.After(patience):
		t.Fatalf("the bus has not noticed after %v that the broker is gone", patience)
	}
}

// owner returns a channel that is closed at the next change of the owner of a
// name to one that is wanted.
func (s *OnBus) owner(t testing.TB, name string, wanted func(string) bool) <-chan struct{} {
	t.Helper()
	conn, err := dbus.Connect(s.Address)
	if err != nil {
		t.Fatal(err)
	}
	signals, seen := make(chan *dbus.Signal, 16), make(chan struct{})
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchSender("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer func() { _ = conn.Close() }()
		for signal := range signals {
			if len(signal.Body) == 3 && signal.Body[0] == name && wanted(fmt.Sprint(signal.Body[2])) {
				close(seen)
				return
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close() })
	return seen
}

// Stop closes every session, ends the broker and the bus, and checks that
// nothing of the system is left.
func (s *OnBus) Stop(t testing.TB) {
	t.Helper()
	if !s.stopped && s.broker != nil && s.broker.running() {
		closeAll(t, s.Address) // the others are left, and reported
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		// A broker that was started again does not know yet of whoever has not dialled it.
		for late := time.Now().Add(patience / 3); s.starts > 1 && s.workers() > max(2, runtime.NumCPU()) && time.Now().Before(late); {
			<-again.C
			closeAll(t, s.Address)
		}
	}
	s.System.Stop(t)
}

// workers counts the processes of workers.
func (s *OnBus) workers() (n int) {
	for _, p := range belonging(s.Dir, s.pids()...) {
		if strings.Contains(p.command, " --idle ") {
			n++
		}
		_ = unix.Close(p.fd)
	}
	return n
}
