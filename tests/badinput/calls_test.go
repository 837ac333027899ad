// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
)

const (
	standard    = "org.freedesktop.DBus.Error."
	noSuch      = dbus.ObjectPath(api.SessionPrefix + "1")
	introspect  = "org.freedesktop.DBus.Introspectable.Introspect"
	getProperty = "org.freedesktop.DBus.Properties.Get"
	getAll      = "org.freedesktop.DBus.Properties.GetAll"
	setProperty = "org.freedesktop.DBus.Properties.Set"
)

func TestCallsThatCannotBeRight(t *testing.T) {
	b := start(t, nil)
	long := strings.Repeat("x", 70000)
	object := func(path dbus.ObjectPath, member string, args ...any) error {
		return b.conn.Object(api.BusName, path).Call(member, 0, args...).Err
	}
	open := func(service, user string, o options) error {
		return manager(b.conn, "OpenSession", service, user, o).Err
	}
	with := func(name string, value any) options { return options{name: dbus.MakeVariant(value)} }
	for _, c := range []struct {
		name string
		err  error
		want string
		says string
	}{
		{"a service that does not exist", open("nope", "root", nil), "InvalidArgument", `no PAM service "nope"`},
		{"an empty service", open("", "root", nil), "InvalidArgument", "the service is empty"},
		{"a service with a path", open("../../etc/shadow", "root", nil), "InvalidArgument", `"../../etc/shadow"`},
		{"a service with a newline", open("permit\n", "root", nil), "InvalidArgument", `"permit\n"`},
		{"a service of 70,000 characters", open(long, "root", nil), "InvalidArgument", "70000 bytes long"},
		{"an empty user", open("permit", "", nil), "InvalidArgument", "the user is empty"},
		{"a user with a slash", open("permit", "a/b", nil), "InvalidArgument", `"a/b"`},
		{"a user with a newline", open("permit", "root\nx", nil), "InvalidArgument", `"root\nx"`},
		{"a user of 70,000 characters", open("permit", long, nil), "InvalidArgument", "70000 bytes long"},
		{"an unknown option", open("permit", "root", with("colour", "red")), "UnknownOption", `"colour"`},
		{"an option of the wrong type", open("permit", "root", with("attempts", "three")), "InvalidArgument", "attempts is a uint32"},
		{"a locale that the system does not have", open("permit", "root", with("locale", "xx_XX.UTF-8")), "InvalidArgument", "xx_XX.UTF-8"},
		{"options of RegisterAgent", manager(b.conn, "RegisterAgent", options(with("x", 1))).Err, "UnknownOption", `"x"`},
		{"too few arguments", manager(b.conn, "OpenSession", "permit").Err, standard + "InvalidArgs", `"ssa{sv}", not "s"`},
		{"arguments of other types", manager(b.conn, "AnswerPrompt", "1", "x").Err, standard + "InvalidArgs", `"ts", not "ss"`},
		{"a number for a descriptor", manager(b.conn, "AnswerPromptFD", uint64(1), uint32(0)).Err, standard + "InvalidArgs", `"th", not "tu"`},
		{"a member that does not exist", manager(b.conn, "Shutdown").Err, standard + "UnknownMethod", "Shutdown"},
		{"a session's member on the root", object(api.RootPath, api.SessionInterface+".Close"), standard + "UnknownMethod", "Close"},
		{"an object that does not exist", object("/org/example", introspect), standard + "UnknownObject", "/org/example"},
		{"a session that is no number", object(api.SessionPrefix+"x", introspect), standard + "UnknownObject", "session/x"},
		{"a session with a leading zero", object(api.SessionPrefix+"01", introspect), standard + "UnknownObject", "session/01"},
		{"a session below a session", object(noSuch+"/1", introspect), standard + "UnknownObject", "session/1/1"},
		{"a number over 64 bits", object(api.SessionPrefix+"18446744073709551616", introspect), standard + "UnknownObject", "18446744073709551616"},
		{"a session that does not exist", session(b.conn, noSuch, "Close").Err, "NoSuchSession", "no session 1"},
		{"waiting for a session that does not exist", session(b.conn, noSuch, "Wait", "open").Err, "NoSuchSession", "no session 1"},
		{"prompts of a session that does not exist", session(b.conn, noSuch, "NextPrompt", uint64(0)).Err, "NoSuchSession", "no session 1"},
		{"properties of a session that does not exist", object(noSuch, getAll, api.SessionInterface), "NoSuchSession", "no session 1"},
		{"a state that is none", session(b.conn, b.witness.Path(), "Wait", "ajar").Err, "InvalidArgument", `"ajar" is no state`},
		{"prompts of a session that is open", session(b.conn, b.witness.Path(), "NextPrompt", uint64(0)).Err, "NoSuchPrompt", "it is open"},
		{"an answer to a prompt that does not exist", manager(b.conn, "AnswerPrompt", uint64(1), "x").Err, "NoSuchPrompt", "no prompt 1"},
		{"cancelling a prompt that does not exist", manager(b.conn, "CancelPrompt", uint64(0)).Err, "NoSuchPrompt", "no prompt 0"},
		{"an answer over 64 KiB", manager(b.conn, "AnswerPrompt", uint64(1), long).Err, "NoSuchPrompt", "no prompt 1"},
		{"a property that does not exist", object(api.RootPath, getProperty, api.ManagerInterface, "Colour"), standard + "UnknownProperty", `"Colour"`},
		{"a property of an interface that does not exist", object(api.RootPath, getProperty, "org.example.X", "Version"), standard + "UnknownInterface", `"org.example.X"`},
		{"setting a property", object(api.RootPath, setProperty, api.ManagerInterface, "Version", dbus.MakeVariant("2")), standard + "PropertyReadOnly", `"Version"`},
		{"a message of two megabytes", open(strings.Repeat("x", 2<<20), "root", nil), standard + "LimitsExceeded", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.err == nil {
				t.Fatal("it was accepted")
			}
			if c.says != "" {
				want(t, c.err, c.want, c.says)
			}
		})
	}
}

// A user that no name service knows is not told apart from a wrong password.
func TestAnUnknownUserIsAFailedAuthentication(t *testing.T) {
	b := start(t, map[string]string{"unknown": "auth:result=PAM_USER_UNKNOWN", "wrong": "auth:result=PAM_AUTH_ERR"})
	var texts []string
	for _, service := range []string{"unknown", "wrong"} {
		path := b.open(t, b.conn, service, nil)
		state, result, text := b.wait(t, path, "open")
		if state != api.StateFailed || result != 7 || !strings.HasPrefix(text, "AuthenticationFailed: ") {
			t.Errorf("%s: %s, %d, %q", service, state, result, text)
		}
		texts = append(texts, text)
	}
	if texts[0] != texts[1] {
		t.Errorf("an unknown user fails with %q, a wrong answer with %q", texts[0], texts[1])
	}
}

// Ten thousand calls with descriptors, to members that take none and to those
// that take some: the broker has as many as before.
func TestTenThousandCallsWithDescriptorsLeaveNone(t *testing.T) {
	b := start(t, nil)
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	fd := dbus.UnixFD(f.Fd())
	before := b.descriptors(t)
	for i := range 10000 {
		switch i % 5 {
		case 0:
			err = manager(b.conn, "ListSessions", fd).Err
		case 1:
			err = manager(b.conn, "OpenSession", "permit", "root", options{"x": dbus.MakeVariant(fd)}).Err
		case 2:
			err = manager(b.conn, "AnswerPromptFD", uint64(i), fd).Err
		case 3:
			err = b.conn.Object(api.BusName, "/nowhere").Call("org.example.X.Y", 0, []dbus.UnixFD{fd, fd}).Err
		case 4:
			err = manager(b.conn, "OpenSession", "permit", "root", options{"command": dbus.MakeVariant([]string{"true"}),
				"stdio": dbus.MakeVariant([]dbus.UnixFD{fd, fd}), "x": dbus.MakeVariant(fd)}).Err
		}
		if err == nil {
			t.Fatalf("call %d was accepted", i)
		}
	}
	if err := manager(b.conn, "ListSessions").Err; err != nil {
		t.Fatal(err)
	}
	if after := b.descriptors(t); after > before+slack {
		t.Errorf("the broker has %d descriptors, before it had %d", after, before)
	}
}

// The Peer interface goes through the same wrapper as everything else.
func TestPeer(t *testing.T) {
	b := start(t, nil)
	root := b.conn.Object(api.BusName, api.RootPath)
	if err := root.Call("org.freedesktop.DBus.Peer.Ping", 0).Err; err != nil {
		t.Error(err)
	}
	want(t, root.Call("org.freedesktop.DBus.Peer.Ping", 0, "x").Err, standard+"InvalidArgs", "Ping takes")
	want(t, root.Call("org.freedesktop.DBus.Peer.Pong", 0).Err, standard+"UnknownMethod", "Pong")
	var id string
	err := root.Call("org.freedesktop.DBus.Peer.GetMachineId", 0).Store(&id)
	raw, noID := os.ReadFile("/etc/machine-id")
	if noID == nil && len(raw) >= 32 {
		if err != nil || id != strings.TrimSpace(string(raw)) {
			t.Errorf("the machine is %q, %v; want what /etc/machine-id says", id, err)
		}
	} else if err == nil && id == "" {
		t.Error("the machine has an empty id")
	}
}
