// SPDX-License-Identifier: Apache-2.0

package dbus1

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/tests/dbusdaemon"
)

const busName = "org.pamprompt.Broker1"

// systemConf is what a system bus has of its own: nothing is allowed.
const systemConf = `<busconfig><type>system</type><listen>unix:path=%s/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><deny own="*"/><deny send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
<allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/></policy>
<include>%s</include></busconfig>`

// startBus starts a system bus with the policy file that is shipped, which
// anybody can reach.
func startBus(t *testing.T) string {
	t.Helper()
	policy, err := filepath.Abs("system.d/" + busName + ".conf")
	if err != nil {
		t.Fatal(err)
	}
	dir := openDir(t)
	return dbusdaemon.Start(t, dir, fmt.Sprintf(systemConf, dir, policy))
}

// startPrivateBus starts the bus that root's broker would, where anybody can reach it.
func startPrivateBus(t *testing.T) string {
	t.Helper()
	const listen, owner = "unix:tmpdir=/tmp", "@OWNER@"
	if !strings.Contains(PrivateBusConf, listen) || !strings.Contains(PrivateBusConf, owner) {
		t.Fatalf("the configuration has no %s or no %s", listen, owner)
	}
	dir := openDir(t)
	return dbusdaemon.Start(t, dir, strings.NewReplacer(listen, "unix:path="+dir+"/bus", owner, "0").Replace(PrivateBusConf))
}

// openDir is a directory that anybody may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pamprompt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// connect is a connection of a user. The bus asks the kernel who that is, which takes
// the effective user of the thread that connects.
func connect(t *testing.T, uid int, address string) *dbus.Conn {
	t.Helper()
	runtime.LockOSThread()
	become(t, uid)
	conn, err := dbus.Dial(address)
	become(t, 0)
	runtime.UnlockOSThread()
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
		err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(uid))})
	}
	if err == nil {
		err = conn.Hello()
	}
	if err != nil {
		t.Fatalf("connect as uid %d: %v", uid, err)
	}
	return conn
}

// become changes this thread alone, which unix.Setresuid would not.
func become(t *testing.T, uid int) {
	t.Helper()
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
		t.Fatal(errno) // and the thread stays locked, and ends
	}
}

// as runs busctl as another user and returns what it says.
func as(t *testing.T, uid uint32, address string, args ...string) string {
	t.Helper()
	cmd := exec.Command("busctl", append([]string{"--address=" + address}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

type echo struct{}

func (echo) Ping2() *dbus.Error                               { return nil }
func (echo) AnswerPromptFD(dbus.UnixFDIndex) *dbus.Error      { return nil }
func (echo) OpenSession(_, _, _ dbus.UnixFDIndex) *dbus.Error { return nil }

// Root alone is the broker, which is who started the private bus; anybody may call it,
// and descriptors pass only to the members that take them.
func TestThePolicies(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be two users")
	}
	const nobody = 65534
	request := []string{"call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "su", busName, "4"}
	for _, bus := range []struct {
		name  string
		start func(*testing.T) string
	}{
		{"of the system bus", startBus},
		{"of the private bus", startPrivateBus},
	} {
		t.Run(bus.name, func(t *testing.T) {
			address := bus.start(t)
			if said := as(t, nobody, address, request...); !strings.Contains(said, "denied") {
				t.Errorf("another user owns the name: %s", said)
			}
			server := connect(t, 0, address)
			if err := server.Export(echo{}, "/", busName+".Manager"); err != nil {
				t.Fatal(err)
			}
			if _, err := server.RequestName(busName, dbus.NameFlagDoNotQueue); err != nil {
				t.Fatalf("root may not own the name: %v", err)
			}
			if said := as(t, nobody, address, "call", busName, "/", busName+".Manager", "Ping2"); said != "" {
				t.Errorf("another user may not call: %s", said)
			}
			wantDescriptors(t, connect(t, nobody, address))
		})
	}
}

// wantDescriptors checks which members a client may send descriptors to.
func wantDescriptors(t *testing.T, client *dbus.Conn) {
	t.Helper()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	fd := dbus.UnixFD(null.Fd())
	object := client.Object(busName, "/")
	for _, c := range []struct {
		name    string
		err     error
		allowed bool
	}{
		{"a descriptor for a member that takes none", object.Call(busName+".Manager.Ping2", 0, fd).Err, false},
		{"a descriptor for AnswerPromptFD", object.Call(busName+".Manager.AnswerPromptFD", 0, fd).Err, true},
		{"two descriptors for AnswerPromptFD", object.Call(busName+".Manager.AnswerPromptFD", 0, fd, fd).Err, false},
		{"three descriptors for OpenSession", object.Call(busName+".Manager.OpenSession", 0, fd, fd, fd).Err, true},
		{"four descriptors for OpenSession", object.Call(busName+".Manager.OpenSession", 0, fd, fd, fd, fd).Err, false},
	} {
		var named dbus.Error
		refused := errors.As(c.err, &named) && named.Name == "org.freedesktop.DBus.Error.AccessDenied"
		if refused == c.allowed {
			t.Errorf("%s: %v; want it allowed: %v", c.name, c.err, c.allowed)
		}
	}
}
