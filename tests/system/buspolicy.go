// SPDX-License-Identifier: Apache-2.0

package system

import (
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"

	dbus1 "github.com/pamprompt/pamprompt/dbus-1"
)

// busPolicy is how dbus-broker is told a policy. Of several rules that match,
// the one with the highest priority counts.
type busPolicy struct {
	Users  []userRules
	Groups []struct {
		IsGroup     bool
		First, Last uint32
		Rules       rules
	}
	Labels   []struct{ Name, Label string } // of SELinux
	AppArmor bool
	Type     string
}

// everybodyElse is the uid of the rules for users who have none of their own.
const everybodyElse = math.MaxUint32

type userRules struct {
	UID   uint32
	Rules rules
}

type rules struct {
	Connect  bool
	Priority uint64
	Own      []ownRule
	Send     []messageRule
	Receive  []messageRule
}

type ownRule struct {
	Allow    bool
	Priority uint64
	Prefix   bool
	Name     string
}

// messageRule matches every message where a field is zero.
type messageRule struct {
	Allow                         bool
	Priority                      uint64
	Name, Path, Interface, Member string
	Type, Broadcast               uint32
	MinFDs, MaxFDs                uint64
}

// busConfig is as much of a busconfig file as the private bus uses.
type busConfig struct {
	Policies []struct {
		Context string `xml:"context,attr"`
		User    string `xml:"user,attr"`
		Rules   []struct {
			XMLName    xml.Name
			Attributes []xml.Attr `xml:",any,attr"`
		} `xml:",any"`
	} `xml:"policy"`
}

var messageTypes = map[string]uint32{"method_call": 1, "method_return": 2, "error": 3, "signal": 4}

// privateBusPolicy translates the configuration of the private bus, so that
// the rules that are shipped are those that run on both buses.
func privateBusPolicy(owner uint32) (busPolicy, error) {
	var config busConfig
	text := strings.ReplaceAll(dbus1.PrivateBusConf, "@OWNER@", strconv.FormatUint(uint64(owner), 10))
	if err := xml.Unmarshal([]byte(text), &config); err != nil {
		return busPolicy{}, fmt.Errorf("read private-bus.conf: %w", err)
	}
	var everybody, owners rules
	priority := uint64(0)
	for _, policy := range config.Policies {
		for _, rule := range policy.Rules {
			priority++
			for _, r := range []*rules{&everybody, &owners} {
				if policy.Context != "default" && r == &everybody {
					continue
				}
				if err := r.add(rule.XMLName.Local == "allow", priority, rule.Attributes); err != nil {
					return busPolicy{}, fmt.Errorf("read private-bus.conf: %w", err)
				}
			}
		}
	}
	return busPolicy{Users: []userRules{{everybodyElse, everybody}, {owner, owners}}, Type: "system"}, nil
}

// add translates one rule.
func (r *rules) add(allow bool, priority uint64, attributes []xml.Attr) error {
	m := messageRule{Allow: allow, Priority: priority, MaxFDs: math.MaxUint64}
	list := &r.Send
	for _, a := range attributes {
		what, ok := strings.CutPrefix(a.Name.Local, "receive_")
		if ok {
			list = &r.Receive
		} else {
			what = strings.TrimPrefix(what, "send_")
		}
		switch what {
		case "user":
			r.Connect, r.Priority = allow, priority
			return nil
		case "own":
			r.Own = append(r.Own, ownRule{allow, priority, a.Value == "*", strings.TrimPrefix(a.Value, "*")})
			return nil
		case "requested_reply":
			return nil // replies that were asked for are always allowed, others never
		case "destination":
			m.Name = a.Value
		case "interface":
			m.Interface = a.Value
		case "member":
			m.Member = a.Value
		case "type":
			m.Type = messageTypes[a.Value]
		case "max_fds":
			n, err := strconv.ParseUint(a.Value, 10, 32)
			if err != nil {
				return err
			}
			m.MaxFDs = n
		default:
			return fmt.Errorf("there is no translation of %s", a.Name.Local)
		}
	}
	*list = append(*list, m)
	return nil
}
