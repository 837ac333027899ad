// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"encoding/xml"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"

	"github.com/pamprompt/pamprompt/api"
)

// member is a method of an interface.
type member struct {
	name    string // with its interface
	in, out string // signatures
}

// tree walks from the root to every object that root sees.
func (b *bench) tree() map[dbus.ObjectPath][]member {
	b.t.Helper()
	all := make(map[dbus.ObjectPath][]member)
	b.walk("/", all)
	managed := make(map[dbus.ObjectPath]map[string]map[string]dbus.Variant)
	b.must(b.call(b.root, api.RootPath, "org.freedesktop.DBus.ObjectManager.GetManagedObjects"), &managed)
	for path := range managed {
		if all[path] == nil {
			b.t.Errorf("%s is managed, and is not in the tree", path)
		}
	}
	return all
}

func (b *bench) walk(path dbus.ObjectPath, all map[dbus.ObjectPath][]member) {
	b.t.Helper()
	var text string
	b.must(b.call(b.root, path, "org.freedesktop.DBus.Introspectable.Introspect"), &text)
	var node introspect.Node
	if err := xml.Unmarshal([]byte(text), &node); err != nil {
		b.t.Fatalf("%s: %v", path, err)
	}
	all[path] = []member{}
	for _, iface := range node.Interfaces {
		for _, m := range iface.Methods {
			found := member{name: iface.Name + "." + m.Name}
			for _, arg := range m.Args {
				if arg.Direction == "out" {
					found.out += arg.Type
				} else {
					found.in += arg.Type
				}
			}
			all[path] = append(all[path], found)
		}
	}
	for _, child := range node.Children {
		b.walk(dbus.ObjectPath(strings.TrimSuffix(string(path), "/")+"/"+child.Name), all)
	}
}
