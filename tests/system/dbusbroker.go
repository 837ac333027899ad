// SPDX-License-Identifier: Apache-2.0

package system

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// StartOnDBusBroker is StartOnBus with dbus-broker in the place of dbus-daemon,
// and with the same policy. Its own launcher wants systemd as PID 1, so this is
// the controller that dbus-broker(1) describes: we give it a socket to listen on.
func StartOnDBusBroker(t testing.TB, o Options) *OnBus {
	t.Helper()
	s := &OnBus{System: newSystem(t, o)}
	policy, err := privateBusPolicy(uint32(os.Geteuid()))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(s.Dir, "bus")
	run := func(t testing.TB) {
		s.bus, s.Address = runDBusBroker(t, s.Dir, socket, s.log, policy, exec.Command)
	}
	run(t)
	s.startAgain = func(t testing.TB) {
		for _, left := range []string{socket, filepath.Join(s.Dir, "controller")} {
			if err := os.Remove(left); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		run(t)
		t.Cleanup(func() { s.Stop(t) }) // before that of run, which ends the bus
	}
	t.Cleanup(func() { s.Stop(t) })
	s.run(t, o)
	return s
}

// runDBusBroker starts one, with a command that is made by the given function.
func runDBusBroker(t testing.TB, dir, socket string, log journal, policy busPolicy, command func(string, ...string) *exec.Cmd) (bus *process, address string) {
	t.Helper()
	program, err := exec.LookPath("dbus-broker")
	if err != nil {
		t.Fatalf("%v: the Debian package dbus-broker has it", err)
	}
	ours, theirs, err := controllerSockets(filepath.Join(dir, "controller"))
	if err != nil {
		t.Fatalf("make a socket for the controller: %v", err)
	}
	t.Cleanup(func() { _ = ours.Close() }) // which ends it
	cmd := command(program, "--controller", "3", "--machine-id", strings.Repeat("0123456789abcdef", 2),
		"--max-bytes", "536870912", "--max-fds", "4096", "--max-matches", "65536", "--max-objects", "65536")
	cmd.ExtraFiles = []*os.File{theirs}
	if bus, err = start(cmd, log, func() error {
		_ = theirs.Close() // so that we hear of its end
		return addListener(ours, socket, policy)
	}); err != nil {
		t.Fatalf("start dbus-broker: %v\n%s", err, log.text())
	}
	return bus, "unix:path=" + socket
}

// controllerSockets are the two ends of the connection on which dbus-broker is
// told what to do. It is made by a name, since godbus sends descriptors only on
// connections that it has dialled itself.
func controllerSockets(path string) (ours *dbus.Conn, theirs *os.File, err error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = l.Close() }()
	if ours, err = dbus.Dial("unix:path=" + path); err != nil {
		return nil, nil, err
	}
	if theirs, err = accept(l); err != nil {
		_ = ours.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

func accept(l *net.UnixListener) (*os.File, error) {
	conn, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return conn.File() // a duplicate
}

// addListener has dbus-broker serve a socket of that name.
func addListener(controller *dbus.Conn, path string, policy busPolicy) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	defer func() { _ = l.Close() }()
	f, err := l.File()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	fd := f.Fd()
	if err := unix.SetNonblock(int(fd), true); err != nil { // Fd has made it block, and dbus-broker with it
		return err
	}
	if err := controller.Auth(nil); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	call := controller.Send(addListenerMessage(dbus.UnixFD(fd), policy), make(chan *dbus.Call, 1))
	select {
	case <-call.Done:
		return call.Err
	case <-time.After(patience):
		return fmt.Errorf("it has not answered AddListener after %v", patience)
	}
}

// addListenerMessage has no destination, since there is no bus in between.
func addListenerMessage(socket dbus.UnixFD, policy busPolicy) *dbus.Message {
	body := []any{dbus.ObjectPath("/org/bus1/DBus/Listener/0"), socket, dbus.MakeVariant(policy)}
	return &dbus.Message{Type: dbus.TypeMethodCall, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(dbus.ObjectPath("/org/bus1/DBus/Broker")),
		dbus.FieldInterface: dbus.MakeVariant("org.bus1.DBus.Broker"),
		dbus.FieldMember:    dbus.MakeVariant("AddListener"),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
	}}
}
