// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"slices"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/policy"
)

// The XML is the source; what is exported is compared with it.
func TestEveryMemberOfTheXMLIsExportedAndNoOther(t *testing.T) {
	for _, name := range []string{api.ManagerInterface, api.SessionInterface, properties, objectManager, introspectable, peerInterface} {
		var members []string
		for _, m := range described[name].Methods {
			members = append(members, m.Name)
		}
		slices.Sort(members)
		if got := sortedKeys(exported[name]); !slices.Equal(got, members) {
			t.Errorf("%s exports %q, its description has %q", name, got, members)
		}
	}
}

func TestEveryPropertyOfTheXMLIsServedWithItsType(t *testing.T) {
	b := &Broker{}
	s := b.newSession(&worker.Start{Session: 7, Owner: &worker.Owner{}, Options: &worker.Options{}})
	for name, served := range map[string]map[string]dbus.Variant{
		api.ManagerInterface: b.managerProperties(),
		api.SessionInterface: s.properties(policy.Caller{Admin: true}),
	} {
		types := make(map[string]string)
		for _, p := range described[name].Properties {
			types[p.Name] = p.Type
			if p.Access != "read" {
				t.Errorf("%s.%s is not for reading alone", name, p.Name)
			}
		}
		if got, want := sortedKeys(served), sortedKeys(types); !slices.Equal(got, want) {
			t.Errorf("%s serves %q, its description has %q", name, got, want)
		}
		for property, value := range served {
			if got := value.Signature().String(); got != types[property] {
				t.Errorf("%s.%s is of type %s, its description says %s", name, property, got, types[property])
			}
		}
	}
}

// PropertiesChanged is heard by everybody: what it carries by value must not
// be private, and everything else must be marked as invalidated or constant.
func TestNothingPrivateIsBroadcast(t *testing.T) {
	s := (&Broker{}).newSession(&worker.Start{Session: 7, Owner: &worker.Owner{}, Options: &worker.Options{}})
	public := sortedKeys(s.publicProperties())
	if want := []string{"ExitSignal", "ExitStatus", "Leader", "OpenedAt", "PAMResult", "State"}; !slices.Equal(public, want) {
		t.Errorf("PropertiesChanged carries %q, want %q", public, want)
	}
	for _, p := range described[api.SessionInterface].Properties {
		marked := len(p.Annotations) == 1 && p.Annotations[0].Name == properties[:len("org.freedesktop.DBus")]+".Property.EmitsChangedSignal"
		if slices.Contains(public, p.Name) == marked {
			t.Errorf("%s is public: %v; marked as const or invalidates: %v", p.Name, !marked, marked)
		}
	}
}

func TestPathsOfObjects(t *testing.T) {
	for _, c := range []struct {
		path    dbus.ObjectPath
		session uint64
		ok      bool
	}{
		{"/", 0, true}, {"/org", 0, true}, {"/org/pamprompt", 0, true}, {api.RootPath, 0, true}, {api.RootPath + "/session", 0, true},
		{api.SessionPrefix + "1", 1, true}, {api.SessionPrefix + "18446744073709551615", ^uint64(0), true},
		{api.SessionPrefix + "0", 0, false}, {api.SessionPrefix + "01", 0, false}, {api.SessionPrefix + "x", 0, false},
		{api.SessionPrefix + "18446744073709551616", 0, false}, {"/or", 0, false}, {"/organ", 0, false}, {api.RootPath + "/prompt", 0, false},
	} {
		if session, ok := parsePath(c.path); session != c.session || ok != c.ok {
			t.Errorf("parsePath(%s) = %d, %v; want %d, %v", c.path, session, ok, c.session, c.ok)
		}
	}
}

func TestEndedPromptsAreRememberedUpToALimit(t *testing.T) {
	var r recent
	for n := range uint64(2*maxRecent + 10) {
		r.add(past{number: n + 1, outcome: api.OutcomeAnswered})
	}
	if len(r.at) != maxRecent || len(r.ring) != maxRecent {
		t.Errorf("%d and %d are remembered, want %d", len(r.at), len(r.ring), maxRecent)
	}
	if _, ok := r.find(10); ok {
		t.Error("an old one is remembered")
	}
	if p, ok := r.find(2*maxRecent + 10); !ok || p.number != 2*maxRecent+10 {
		t.Error("the newest is forgotten")
	}
}
