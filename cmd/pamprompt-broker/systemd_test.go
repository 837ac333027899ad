// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/tests/system"
)

// As systemd starts it: with the socket for the workers, and in want of word.
func TestABrokerUnderAServiceManager(t *testing.T) {
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{"permit": system.Permit()}})
	s.Kill(t) // the name is ours now

	dir := t.TempDir()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = notify.Close() }()
	if err := notify.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "broker.sock")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	socket, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()

	// The shell knows the number that the broker will have.
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@"`, "sh",
		s.Broker, "--ask-password", "", "--policy", "", "--log-level", "error")
	cmd.Env = append(s.Environment(), "LISTEN_FDS=1", "NOTIFY_SOCKET="+notify.LocalAddr().String(), "WATCHDOG_USEC=3000000")
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	words(t, notify, "READY=1", "WATCHDOG=1")
	if c, err := net.Dial("unixpacket", path); err != nil {
		t.Errorf("a worker cannot dial: %v", err)
	} else {
		_ = c.Close()
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	words(t, notify, "STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("it took the socket of the service manager along: %v", err)
	}
}

// words reads what the service manager is told until it has been told all of
// want.
func words(t *testing.T, c *net.UnixConn, want ...string) {
	t.Helper()
	var said []string
	b := make([]byte, 256)
	for slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(said, w) }) {
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("after %q: %v; want %q", said, err, want)
		}
		said = append(said, strings.TrimSpace(string(b[:n])))
	}
}
