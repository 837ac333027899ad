// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// counts are the numbers among the Manager's properties.
type counts struct{ sessions, prompts, agents int }

func (b *Broker) counts() counts { return counts{b.live, len(b.prompts), len(b.agents)} }

func (c counts) properties() map[string]any {
	return map[string]any{"Sessions": uint32(c.sessions), "Prompts": uint32(c.prompts), "Agents": uint32(c.agents)}
}

// showCounts tells the bus of changed counts, once for all that was queued
// together.
func (b *Broker) showCounts() {
	now := b.counts()
	if now == b.shown {
		return
	}
	b.shown = now
	b.bus.Send(bus.Signal{Path: api.RootPath, Name: properties + ".PropertiesChanged", Values: []any{
		api.ManagerInterface, variants(now.properties()), []string{},
	}})
}

func (b *Broker) managerProperties() map[string]dbus.Variant {
	p := b.counts().properties()
	p["Version"] = b.config.Version
	return variants(p)
}

// publicProperties are those that PropertiesChanged, which everybody may
// hear, carries by value: numbers and states.
func (s *session) publicProperties() map[string]dbus.Variant {
	all := s.commandProperties()
	all["State"], all["PAMResult"], all["OpenedAt"] = s.state, s.result, s.openedAt
	return variants(all)
}

// properties are all of a session's, for who may see it. The environment is for
// its owner and the admin alone.
func (s *session) properties(who policy.Caller) map[string]dbus.Variant {
	owner := s.start.GetOwner()
	uid, known := uidFor(who, s.object())
	if !known {
		uid = ^uint32(0)
	}
	environment := []string{}
	if who.Admin || who.UID == owner.GetUid() {
		environment = append(environment, s.environment...)
	}
	all := variants(map[string]any{
		"Id":           s.id,
		"Service":      s.start.GetService(),
		"User":         s.start.GetUser(),
		"UID":          uid,
		"OwnerUID":     owner.GetUid(),
		"OwnerPID":     owner.GetPid(),
		"ResultText":   s.text,
		"Environment":  environment,
		"Linger":       s.start.GetOptions().GetLinger(),
		"Conversation": s.conversation != nil,

		"Alternatives": append([]string{}, s.alternatives.others()...),
		"UsedService":  s.usedService(),
	})
	for name, value := range s.publicProperties() {
		all[name] = value
	}
	return all
}

// allProperties finds the properties of one interface of an object.
func (b *Broker) allProperties(t target, iface string) (map[string]dbus.Variant, error) {
	var all map[string]dbus.Variant
	err := b.look(func() error {
		switch {
		case t.session != 0 && (iface == api.SessionInterface || iface == ""):
			s, err := b.find(t.session)
			if err == nil {
				all = s.properties(b.basic(t.call.Caller))
			}
			return err
		case t.session == 0 && (iface == api.ManagerInterface || iface == ""):
			all = b.managerProperties()
			return nil
		}
		for _, name := range interfacesOf(t.call.Path, t.session) {
			if name == iface {
				all = map[string]dbus.Variant{} // a standard one: it has none
				return nil
			}
		}
		return standard("UnknownInterface", "object %s has no interface %s", t.call.Path, quote(iface))
	})
	return all, err
}

func getProperty(b *Broker, _ context.Context, t target) ([]any, error) {
	iface, name := t.call.Args[0].(string), t.call.Args[1].(string)
	all, err := b.allProperties(t, iface)
	if err != nil {
		return nil, err
	}
	value, ok := all[name]
	if !ok {
		return nil, standard("UnknownProperty", "object %s has no property %s", t.call.Path, quote(name))
	}
	return []any{value}, nil
}

func getAllProperties(b *Broker, _ context.Context, t target) ([]any, error) {
	all, err := b.allProperties(t, t.call.Args[0].(string))
	if err != nil {
		return nil, err
	}
	return []any{all}, nil
}

func setProperty(b *Broker, ctx context.Context, t target) ([]any, error) {
	if _, err := getProperty(b, ctx, t); err != nil {
		return nil, err
	}
	return nil, standard("PropertyReadOnly", "property %s cannot be set", quote(t.call.Args[1].(string)))
}

func getManagedObjects(b *Broker, ctx context.Context, t target) ([]any, error) {
	objects := make(map[dbus.ObjectPath]map[string]map[string]dbus.Variant)
	size := 0
	err := b.seen(ctx, t.call, func(who policy.Caller, seen []*session) error {
		for _, s := range seen {
			all := s.properties(who)
			if size += bus.Size(all) + 1024; size > maxReply {
				return &api.Error{Code: api.LimitExceeded, Text: "there are too many sessions for one reply: use ListSessions"}
			}
			objects[s.path()] = map[string]map[string]dbus.Variant{
				api.SessionInterface: all,
				properties:           {}, introspectable: {}, peerInterface: {},
			}
		}
		return nil
	})
	return []any{objects}, err
}
