// SPDX-License-Identifier: Apache-2.0

package dbus1

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"

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
	dir, err := os.MkdirTemp("", "pamprompt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	policy, err := filepath.Abs("system.d/" + busName + ".conf")
	if err != nil {
		t.Fatal(err)
	}
	return dbusdaemon.Start(t, dir, fmt.Sprintf(systemConf, dir, policy))
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

// On a system bus root alone is the broker, anybody may call it, and
// descriptors pass only to the members that take them.
func TestThePolicyOfTheSystemBus(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be two users")
	}
	address := startBus(t)
	request := []string{"call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "su", busName, "4"}
	if said := as(t, 65534, address, request...); !strings.Contains(said, "denied") {
		t.Errorf("another user owns the name: %s", said)
	}
	server, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	if err := server.Export(echo{}, "/", busName+".Manager"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.RequestName(busName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatalf("root may not own the name: %v", err)
	}
	if said := as(t, 65534, address, "call", busName, "/", busName+".Manager", "Ping2"); said != "" {
		t.Errorf("another user may not call: %s", said)
	}
	client, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
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
		{"two descriptors for AnswerPromptFD", object.Call(busName+".Manager.AnswerPromptFD", 0, []dbus.UnixFD{fd, fd}).Err, false},
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
