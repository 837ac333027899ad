// SPDX-License-Identifier: Apache-2.0

package system

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/transport"
)

// Identity is whom a process runs as. Groups are the further ones.
type Identity struct {
	UID, GID uint32
	Groups   []uint32
}

func (i Identity) credential() *syscall.Credential {
	return &syscall.Credential{Uid: i.UID, Gid: i.GID, Groups: i.Groups}
}

// Command is a program that runs as somebody else, with nothing of the
// test's environment but PATH. It needs root.
func Command(who Identity, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who.credential()}
	return cmd
}

// As is a connection to a bus that belongs to another user, closed at the end
// of the test. It needs root.
func As(t testing.TB, address string, uid, gid uint32, groups ...uint32) *dbus.Conn {
	t.Helper()
	return Join(t, address, Identity{uid, gid, groups}).Conn
}

// User is a connection to a bus that a process of another user has made. What
// the bus and the kernel say of whoever is at its end, they say of that
// process, which does nothing more, and ends with the connection.
type User struct {
	*dbus.Conn
	Identity
	PID     int
	process *process
	hold    *os.File // the process ends when this is closed
}

// Join connects to a bus as somebody else. The User leaves at the end of the
// test, if not before.
func Join(t testing.TB, address string, who Identity, options ...dbus.ConnOption) *User {
	t.Helper()
	u, conn := connect(t, address, who)
	var err error
	if u.Conn, err = dbus.DialUnix(conn, options...); err == nil {
		err = u.Auth([]dbus.Auth{dbus.AuthExternal(strconv.FormatUint(uint64(who.UID), 10))})
	}
	if err == nil {
		err = u.Hello()
	}
	if err != nil {
		t.Fatalf("say hello to the bus as uid %d: %v", who.UID, err)
	}
	return u
}

// Socket is a connection of somebody else to a bus, on which nothing was said
// yet. It ends with the test, if not before.
func Socket(t testing.TB, address string, who Identity) *net.UnixConn {
	t.Helper()
	_, conn := connect(t, address, who)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Packets is a connection to a SOCK_SEQPACKET socket that a process of its own has
// made, which whoever kills the peer kills instead of the test. Both end with the test.
func Packets(t testing.TB, name string) *net.UnixConn {
	t.Helper()
	u, conn, err := connectTo("unixpacket", name, Identity{}, nil)
	if err != nil {
		t.Fatalf("connect to %s: %v", name, err)
	}
	t.Cleanup(func() { _, _ = conn.Close(), u.leave() })
	return conn
}

func connect(t testing.TB, address string, who Identity) (*User, *net.UnixConn) {
	t.Helper()
	u, conn, err := connectAs(address, who)
	if err != nil {
		t.Fatalf("connect to the bus as uid %d: %v", who.UID, err)
	}
	t.Cleanup(func() { _ = u.leave() })
	return u, conn
}

// Leave closes the connection and ends its process.
func (u *User) Leave(t testing.TB) {
	t.Helper()
	if err := u.leave(); err != nil {
		t.Error(err)
	}
}

func (u *User) leave() error {
	var err error
	if u.Conn != nil {
		err = u.Close()
	}
	_ = u.hold.Close()
	<-u.process.done
	return err
}

// EndProcess ends the process, and leaves the connection as it is: its end is
// held by the test now, and the bus still takes it for that of the process.
func (u *User) EndProcess() {
	_ = u.hold.Close()
	<-u.process.done
}

// connector is what the test binary is called when it is to connect and no
// more: its arguments are the network and the name of a socket.
const connector = "pamprompt-test-connector"

// connectAs has a process of another user connect to a bus. Only the kernel's
// word on who connects (SO_PEERCRED) counts there, and it is taken when that
// happens, so the descriptor can be passed on.
func connectAs(address string, who Identity) (*User, *net.UnixConn, error) {
	name, err := transport.SocketName(strings.Split(address, ";")[0])
	if err != nil {
		return nil, nil, err
	}
	return connectTo("unix", name, who, who.credential())
}

// connectTo is connectAs for a socket that is not a bus's. credential is nil for the
// test's own user.
func connectTo(network, name string, who Identity, credential *syscall.Credential) (*User, *net.UnixConn, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "connector"), os.NewFile(uintptr(ends[1]), "connector")
	defer func() { _ = theirs.Close() }()
	// By this name the kernel lets it start its own program, which is in a
	// directory of root's.
	cmd := Command(who, "/proc/self/exe", network, name)
	cmd.SysProcAttr.Credential = credential
	cmd.Env = append(cmd.Env, "GORACE="+os.Getenv("GORACE"))
	cmd.Args[0], cmd.Stderr, cmd.ExtraFiles = connector, os.Stderr, []*os.File{theirs}
	u := &User{Identity: who, hold: ours, process: &process{cmd: cmd, done: make(chan struct{})}}
	if err := launch(cmd); err != nil {
		_ = ours.Close()
		return nil, nil, err
	}
	u.PID = cmd.Process.Pid
	go func() {
		defer close(u.process.done)
		u.process.err = cmd.Wait()
	}()
	_ = theirs.Close()
	conn, err := receive(ours)
	if err != nil {
		return nil, nil, errors.Join(err, u.leave())
	}
	return u, conn, nil
}

// receive takes a connection from a socket.
func receive(from *os.File) (*net.UnixConn, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(from.Fd()), make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.New("the connector could not connect")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("the connector sent %d descriptors: %w", len(fds), err)
	}
	f := os.NewFile(uintptr(fds[0]), "bus")
	defer func() { _ = f.Close() }()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// runConnector is what the connector does: it connects, passes that on over its
// descriptor 3, and waits there for the end.
func runConnector(args []string) int {
	bus, err := net.Dial(args[0], args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	f, err := bus.(*net.UnixConn).File()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	to := os.NewFile(3, "test")
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// The connection is the test's alone from now on: it ends when the test
	// closes it.
	_, _ = f.Close(), bus.Close()
	_, _ = io.Copy(io.Discard, to)
	return 0
}
