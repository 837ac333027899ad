// SPDX-License-Identifier: Apache-2.0

// Package badinput is the table of bad input: what callers, agents, modules and
// workers do wrong, on purpose or not, against the whole of pamprompt. In every
// test a session of somebody else, the witness, is open, and must still be at the
// end; and the broker must have as many descriptors as before.
package badinput

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// patience bounds what must happen; nothing waits for it to pass.
const patience = 20 * time.Second

// bench is a running system with a witness.
type bench struct {
	*system.System
	conn    *dbus.Conn // of the test, as root
	witness *api.Session
	log     string // what the module writes down
}

// start runs a system whose stacks are made of pam_probe's arguments.
func start(t *testing.T, stacks map[string]string, args ...string) *bench {
	t.Helper()
	b := &bench{log: filepath.Join(t.TempDir(), "phases")}
	probe := modules.Probe(t)
	all := map[string]string{"permit": system.Permit()}
	for name, arguments := range stacks {
		all[name] = system.Every(probe, strings.ReplaceAll(arguments, "LOG", b.log))
	}
	b.System = system.Start(t, system.Options{Stacks: all, BrokerArgs: args})
	b.conn = b.Conn(t)
	client := b.Client(t)
	var err error
	if b.witness, err = client.Open(ctx(t), "permit", "root", api.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := b.witness.Wait(ctx(t), api.StateOpen); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p, err := b.witness.Properties(ctx(t)); err != nil || p.State != api.StateOpen {
			t.Errorf("the witness is %q, %v", p.State, err)
		}
	})
	return b
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c
}

// manager calls a member of the Manager interface.
func manager(conn *dbus.Conn, member string, args ...any) *dbus.Call {
	return conn.Object(api.BusName, api.RootPath).Call(api.ManagerInterface+"."+member, 0, args...)
}

// session calls a member of a session.
func session(conn *dbus.Conn, path dbus.ObjectPath, member string, args ...any) *dbus.Call {
	return conn.Object(api.BusName, path).Call(api.SessionInterface+"."+member, 0, args...)
}

type options map[string]dbus.Variant

var linger = options{"linger": dbus.MakeVariant(true)}

// open opens a session and returns its path.
func (b *bench) open(t *testing.T, conn *dbus.Conn, service string, o options) dbus.ObjectPath {
	t.Helper()
	var id uint64
	var path dbus.ObjectPath
	if err := manager(conn, "OpenSession", service, "root", o).Store(&id, &path); err != nil {
		t.Fatalf("OpenSession %s: %v", service, err)
	}
	return path
}

// prompt waits for the next prompt of a session.
func (b *bench) prompt(t *testing.T, path dbus.ObjectPath, after uint64) uint64 {
	t.Helper()
	var number uint64
	var style, message string
	var details map[string]dbus.Variant
	if err := session(b.conn, path, "NextPrompt", after).Store(&number, &style, &message, &details); err != nil {
		t.Fatalf("NextPrompt: %v", err)
	}
	return number
}

// wait waits for a state and returns what Wait says.
func (b *bench) wait(t *testing.T, path dbus.ObjectPath, state string) (got string, result int32, text string) {
	t.Helper()
	call := b.conn.Object(api.BusName, path).CallWithContext(ctx(t), api.SessionInterface+".Wait", 0, state)
	if err := call.Store(&got, &result, &text); err != nil {
		t.Fatalf("Wait(%s): %v\n%s", state, err, b.Log())
	}
	return got, result, text
}

// phases is what the module wrote down: one line a phase, in their order.
func (b *bench) phases(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(b.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(raw)), "\n", " ")
}

// want checks that an error has a name and says something.
func want(t *testing.T, err error, name, says string) {
	t.Helper()
	var named dbus.Error
	if !errors.As(err, &named) {
		t.Fatalf("%v, want %s", err, name)
	}
	if !strings.Contains(name, ".") {
		name = api.ErrorPrefix + name
	}
	if named.Name != name || !strings.Contains(named.Error(), says) {
		t.Errorf("%s: %s, want %s with %q", named.Name, named.Error(), name, says)
	}
	if len(named.Error()) > 2000 || !strings.Contains(named.Error(), " ") {
		t.Errorf("an error of %d bytes: %.100s", len(named.Error()), named.Error())
	}
}

// slack is how many descriptors the workers that the pool adds meanwhile may
// take: two each.
const slack = 8

// descriptors counts those of the broker itself.
func (b *bench) descriptors(t *testing.T) int {
	t.Helper()
	var pid uint32
	if err := b.conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, api.BusName).Store(&pid); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func formatNumber(n uint64) string { return fmt.Sprint(n) }
