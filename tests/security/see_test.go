// SPDX-License-Identifier: Apache-2.0

package security

import (
	"slices"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// A rule lets others see a session and answer in it. The environment is for
// its owner and root alone, and the uid for root and whose it is.
func TestWhoSeesASessionDoesNotSeeAllOfIt(t *testing.T) {
	const variable = "LANG=de_DE.UTF-8"
	const none = ^uint32(0)
	seers := ""
	for _, caller := range []string{"uid:60001", "uid:60003", "uid:60004"} {
		seers += "[[rule]]\naction = [\"see\", \"answer\"]\nservice = \"ask\"\ncaller = \"" + caller + "\"\nverdict = \"allow\"\n"
	}
	b := start(t, system.MachineOptions{Policy: opens + seers})
	opener, agent, anna := b.join(t, system.Opener), b.join(t, system.Agent), b.join(t, system.Anna)
	given := options{"environment": dbus.MakeVariant([]string{variable})}
	mine, roots := opener.open("ask", "anna", given), open(t, b.root, "ask", "anna", given)
	prompts := map[dbus.ObjectPath]uint64{mine: b.asked(t, mine), roots: b.asked(t, roots)}
	viewers := []struct {
		name  string
		conn  *dbus.Conn
		uid   uint32                   // that they are told of
		whose map[dbus.ObjectPath]bool // environments
	}{
		{"root", b.root, system.Anna.UID, map[dbus.ObjectPath]bool{mine: true, roots: true}},
		{"the owner of one", opener.Conn, none, map[dbus.ObjectPath]bool{mine: true}},
		{"an agent", agent.Conn, none, nil},
		{"whom they are about", anna.Conn, system.Anna.UID, nil},
	}
	for _, viewer := range viewers {
		var listed []struct {
			Number         uint64
			Session        dbus.ObjectPath
			Style, Message string
			Details        map[string]dbus.Variant
		}
		if err := call(viewer.conn, api.RootPath, api.ManagerInterface+".ListPrompts").Store(&listed); err != nil || len(listed) != len(prompts) {
			t.Fatalf("%s lists %v, %v", viewer.name, listed, err)
		}
		for _, one := range listed {
			wantUID(t, viewer.name+" in ListPrompts", one.Details["uid"], viewer.uid)
		}
		for session := range prompts {
			var number uint64
			var style, message string
			var details map[string]dbus.Variant
			if err := call(viewer.conn, session, api.SessionInterface+".NextPrompt", uint64(0)).Store(&number, &style, &message, &details); err != nil {
				t.Fatalf("%s: %v", viewer.name, err)
			}
			wantUID(t, viewer.name+" in NextPrompt", details["uid"], viewer.uid)
		}
	}
	for session, prompt := range prompts {
		if err := call(b.root, api.RootPath, api.ManagerInterface+".AnswerPrompt", prompt, "right").Err; err != nil {
			t.Fatal(err)
		}
		b.wait(t, session, api.StateOpen)
	}
	for _, viewer := range viewers {
		var objects map[dbus.ObjectPath]map[string]map[string]dbus.Variant
		if err := call(viewer.conn, api.RootPath, "org.freedesktop.DBus.ObjectManager.GetManagedObjects").Store(&objects); err != nil {
			t.Fatalf("%s: %v", viewer.name, err)
		}
		for session := range prompts {
			var all map[string]dbus.Variant
			var environment, uid dbus.Variant
			get := "org.freedesktop.DBus.Properties.Get"
			for _, err := range []error{
				call(viewer.conn, session, "org.freedesktop.DBus.Properties.GetAll", api.SessionInterface).Store(&all),
				call(viewer.conn, session, get, api.SessionInterface, "Environment").Store(&environment),
				call(viewer.conn, session, get, api.SessionInterface, "UID").Store(&uid),
			} {
				if err != nil {
					t.Fatalf("%s: %v", viewer.name, err)
				}
			}
			for way, properties := range map[string]map[string]dbus.Variant{
				"GetAll": all, "Get": {"Environment": environment, "UID": uid}, "GetManagedObjects": objects[session][api.SessionInterface],
			} {
				seen, _ := properties["Environment"].Value().([]string)
				if slices.Contains(seen, variable) != viewer.whose[session] || !viewer.whose[session] && len(seen) > 0 {
					t.Errorf("%s sees the environment %v of %s by %s", viewer.name, seen, session, way)
				}
				if got := properties["UID"].Value(); got != viewer.uid {
					t.Errorf("%s sees UID %v of %s by %s, want %d", viewer.name, got, session, way, viewer.uid)
				}
			}
		}
	}
}

// wantUID checks the detail uid, which is absent where there is none.
func wantUID(t *testing.T, who string, got dbus.Variant, want uint32) {
	t.Helper()
	if want == ^uint32(0) && got.Value() != nil || want != ^uint32(0) && got.Value() != want {
		t.Errorf("%s is told of uid %v, want %d", who, got, want)
	}
}
