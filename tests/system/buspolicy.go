// SPDX-License-Identifier: Apache-2.0

package system

import (
	"encoding/xml"
	"fmt"
	"maps"
	"math"
	"os/user"
	"slices"
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

// busConfig is as much of a busconfig file as is translated.
type busConfig struct {
	Policies []struct {
		Context string `xml:"context,attr"`
		User    string `xml:"user,attr"`
		Group   string `xml:"group,attr"`
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
	return translate(strings.ReplaceAll(dbus1.PrivateBusConf, "@OWNER@", strconv.FormatUint(uint64(owner), 10)))
}

// section is one <policy> of a configuration.
type section struct {
	class uint64  // default, user, mandatory: what comes later wins
	user  *uint32 // nil for everybody
	rules []rule
}

type rule struct {
	allow      bool
	priority   uint64
	attributes []xml.Attr
}

// translate makes a policy of configurations, as if each included the next.
func translate(configs ...string) (busPolicy, error) {
	var sections []section
	priority := uint64(0)
	for _, text := range configs {
		var config busConfig
		if err := xml.Unmarshal([]byte(text), &config); err != nil {
			return busPolicy{}, fmt.Errorf("read a configuration of a bus: %w", err)
		}
		for _, policy := range config.Policies {
			one, err := newSection(policy.Context, policy.User, policy.Group)
			if err != nil {
				return busPolicy{}, err
			}
			for _, r := range policy.Rules {
				priority++
				one.rules = append(one.rules, rule{r.XMLName.Local == "allow", one.class<<32 + priority, r.Attributes})
			}
			sections = append(sections, one)
		}
	}
	users := map[uint32]bool{everybodyElse: true}
	for _, s := range sections {
		if s.user != nil {
			users[*s.user] = true
		}
	}
	policy := busPolicy{Type: "system"}
	for _, uid := range slices.Sorted(maps.Keys(users)) {
		r, err := rulesOf(uid, sections)
		if err != nil {
			return busPolicy{}, err
		}
		policy.Users = append(policy.Users, userRules{uid, r})
	}
	return policy, nil
}

func newSection(context, name, group string) (section, error) {
	switch {
	case context == "default":
		return section{class: 0}, nil
	case context == "mandatory":
		return section{class: 2}, nil
	case name == "" || group != "":
		return section{}, fmt.Errorf("there is no translation of a policy of context %q, group %q", context, group)
	}
	uid, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		account, err := user.Lookup(name)
		if err != nil {
			return section{}, err
		}
		if uid, err = strconv.ParseUint(account.Uid, 10, 32); err != nil {
			return section{}, err
		}
	}
	number := uint32(uid)
	return section{class: 1, user: &number}, nil
}

// rulesOf are those of one user: everybody's, and that user's own.
func rulesOf(uid uint32, sections []section) (rules, error) {
	var all rules
	for _, s := range sections {
		if s.user != nil && *s.user != uid {
			continue
		}
		for _, r := range s.rules {
			if err := all.add(r.allow, r.priority, r.attributes); err != nil {
				return rules{}, err
			}
		}
	}
	return all, nil
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
		case "broadcast":
			m.Broadcast = map[string]uint32{"true": 1, "false": 2}[a.Value]
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
