// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/broker/bus"
	dbus1 "github.com/pamprompt/pamprompt/dbus-1"
	"github.com/pamprompt/pamprompt/policy"
)

// Standard interfaces, of the D-Bus Specification.
const (
	properties     = "org.freedesktop.DBus.Properties"
	introspectable = "org.freedesktop.DBus.Introspectable"
	objectManager  = "org.freedesktop.DBus.ObjectManager"
	peerInterface  = "org.freedesktop.DBus.Peer"
)

// target is the object that a call is for: the root, a session, or one of the
// paths above them, which can only be introspected.
type target struct {
	call    *bus.Call
	session uint64 // 0: not a session's path
}

// method answers a call; its arguments have the signature of the description.
type method func(b *Broker, ctx context.Context, t target) ([]any, error)

// exported is every member that is served, by interface.
var exported map[string]map[string]method

func init() { // not a literal: the functions refer to it
	exported = map[string]map[string]method{
		api.ManagerInterface: managerMembers,
		api.SessionInterface: sessionMembers,
		properties:           {"Get": getProperty, "GetAll": getAllProperties, "Set": setProperty},
		objectManager:        {"GetManagedObjects": getManagedObjects},
		introspectable:       {"Introspect": introspectObject},
		peerInterface:        {"Ping": ping, "GetMachineId": getMachineID},
	}
}

// described is the description of every interface: ours from the XML that is
// shipped, the standard ones from godbus.
var described = func() map[string]introspect.Interface {
	all := []introspect.Interface{
		introspect.IntrospectData,
		{Name: properties, Methods: []introspect.Method{
			{Name: "Get", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: "in"}, {Name: "property", Type: "s", Direction: "in"}, {Name: "value", Type: "v", Direction: "out"}}},
			{Name: "GetAll", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: "in"}, {Name: "properties", Type: "a{sv}", Direction: "out"}}},
			{Name: "Set", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: "in"}, {Name: "property", Type: "s", Direction: "in"}, {Name: "value", Type: "v", Direction: "in"}}},
		}, Signals: []introspect.Signal{
			{Name: "PropertiesChanged", Args: []introspect.Arg{{Name: "interface", Type: "s"}, {Name: "changed", Type: "a{sv}"}, {Name: "invalidated", Type: "as"}}},
		}},
		{Name: objectManager, Methods: []introspect.Method{
			{Name: "GetManagedObjects", Args: []introspect.Arg{{Name: "objects", Type: "a{oa{sa{sv}}}", Direction: "out"}}},
		}, Signals: []introspect.Signal{
			{Name: "InterfacesAdded", Args: []introspect.Arg{{Name: "object", Type: "o"}, {Name: "interfaces", Type: "a{sa{sv}}"}}},
			{Name: "InterfacesRemoved", Args: []introspect.Arg{{Name: "object", Type: "o"}, {Name: "interfaces", Type: "as"}}},
		}},
		{Name: peerInterface, Methods: []introspect.Method{
			{Name: "Ping"}, {Name: "GetMachineId", Args: []introspect.Arg{{Name: "machine_uuid", Type: "s", Direction: "out"}}},
		}},
	}
	for _, text := range []string{dbus1.ManagerXML, dbus1.SessionXML} {
		var node introspect.Node
		if err := xml.Unmarshal([]byte(text), &node); err != nil {
			panic(fmt.Sprintf("an interface description is not XML: %v", err))
		}
		all = append(all, node.Interfaces...)
	}
	byName := make(map[string]introspect.Interface)
	for _, i := range all {
		byName[i.Name] = i
	}
	return byName
}()

// signatures is what the descriptions say that methods take, by
// interface.member.
var signatures = func() map[string]string {
	all := make(map[string]string)
	for name, iface := range described {
		for _, m := range iface.Methods {
			var in strings.Builder
			for _, arg := range m.Args {
				if arg.Direction != "out" {
					in.WriteString(arg.Type)
				}
			}
			all[name+"."+m.Name] = in.String()
		}
	}
	return all
}()

// interfacesOf are the interfaces of a kind of object.
func interfacesOf(path dbus.ObjectPath, session uint64) []string {
	switch {
	case session != 0:
		return []string{api.SessionInterface, properties, introspectable, peerInterface}
	case path == api.RootPath:
		return []string{api.ManagerInterface, objectManager, properties, introspectable, peerInterface}
	}
	return []string{introspectable, peerInterface}
}

func ping(*Broker, context.Context, target) ([]any, error) { return nil, nil }

// getMachineID is machine-id(5).
func getMachineID(*Broker, context.Context, target) ([]any, error) {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		raw, err := os.ReadFile(path)
		if id := strings.TrimSpace(string(raw)); err == nil && machineID.MatchString(id) {
			return []any{id}, nil
		}
	}
	return nil, standard("Failed", "this machine has no machine id: see systemd-machine-id-setup(1)")
}

var machineID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// dispatch finds the function for a call and checks the types of its arguments.
func (b *Broker) dispatch(ctx context.Context, call *bus.Call) ([]any, error) {
	id, ok := parsePath(call.Path)
	if !ok {
		return nil, standard("UnknownObject", "there is no object %s", call.Path)
	}
	if id != 0 { // a session's object shows nothing to whom it is not for, not even that it is there
		if err := b.permitSession(ctx, call, id, needed(call.Member)); err != nil {
			return nil, err
		}
	}
	iface, f := findMethod(interfacesOf(call.Path, id), call.Interface, call.Member)
	if f == nil {
		return nil, standard("UnknownMethod", "object %s has no method %s", call.Path, quote(strings.TrimPrefix(call.Interface+"."+call.Member, ".")))
	}
	if want := signatures[iface+"."+call.Member]; call.Signature != want {
		return nil, standard("InvalidArgs", "%s takes arguments of type %q, not %q", call.Member, want, call.Signature)
	}
	return f(b, ctx, target{call: call, session: id})
}

// needed is what somebody must be allowed to do to a session, to call a member of
// its object: to see it, if nothing else.
func needed(member string) policy.Action {
	switch member {
	case "Close", "Kill":
		return policy.Manage
	case "NextPrompt":
		return policy.Answer
	}
	return policy.See
}

func findMethod(interfaces []string, iface, member string) (string, method) {
	for _, name := range interfaces {
		if f := exported[name][member]; f != nil && (iface == "" || iface == name) {
			return name, f
		}
	}
	return "", nil
}

// parsePath returns the session that a path is of; 0 for the root and the
// paths on the way.
func parsePath(path dbus.ObjectPath) (session uint64, ok bool) {
	number, isSession := strings.CutPrefix(string(path), api.SessionPrefix)
	if !isSession {
		sessions := strings.TrimSuffix(api.SessionPrefix, "/")
		return 0, path == "/" || string(path) == sessions || strings.HasPrefix(sessions, string(path)+"/")
	}
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil || id == 0 || strconv.FormatUint(id, 10) != number {
		return 0, false
	}
	return id, true
}

// find finds a session for a caller whom dispatch let through to it. It runs in
// the owner.
func (b *Broker) find(id uint64) (*session, error) {
	s := b.sessions[id]
	if s == nil {
		return nil, &api.Error{Code: api.NoSuchSession, Text: fmt.Sprintf("there is no session %d: ListSessions lists those there are", id)}
	}
	return s, nil
}

// standard is an error of the D-Bus Specification.
func standard(name, format string, args ...any) error {
	return dbus.NewError("org.freedesktop.DBus.Error."+name, []any{fmt.Sprintf(format, args...)})
}

// introspectObject describes an object, and names those below it that the
// caller may see, as far as that is known without polkit: tools introspect by
// themselves.
func introspectObject(b *Broker, ctx context.Context, t target) ([]any, error) {
	node := introspect.Node{Name: string(t.call.Path)}
	for _, name := range interfacesOf(t.call.Path, t.session) {
		node.Interfaces = append(node.Interfaces, described[name])
	}
	for _, child := range b.childrenOf(ctx, t) {
		node.Children = append(node.Children, introspect.Node{Name: child})
	}
	text, err := xml.MarshalIndent(node, "", "  ")
	if err != nil {
		return nil, err
	}
	return []any{introspect.IntrospectDeclarationString + string(text)}, nil
}

func (b *Broker) childrenOf(ctx context.Context, t target) []string {
	sessions := strings.TrimSuffix(api.SessionPrefix, "/")
	path := string(t.call.Path)
	if t.session != 0 {
		return nil
	}
	if path != sessions {
		rest := strings.TrimPrefix(strings.TrimPrefix(sessions, path), "/")
		next, _, _ := strings.Cut(rest, "/")
		return []string{next}
	}
	who, rules := b.callerAndRules(ctx, t.call.Caller)
	var children []string
	b.do(func() {
		for _, s := range b.visible(who, rules, false) {
			children = append(children, strconv.FormatUint(s.id, 10))
		}
	})
	return children
}
