// SPDX-License-Identifier: Apache-2.0

package policy

import "slices"

// rule is a table [[rule]], compiled.
type rule struct {
	file    string
	line    int
	actions [last + 1]bool
	service glob
	self    bool // the user is @self
	user    glob
	callers []matcher // one of them matches; none is everybody
	verdict Verdict
	why     string
}

// matcher is one word of a rule's caller: only the fields of its kind are set.
type matcher struct {
	kind  string // "uid", "group" or "unit"
	id    uint32
	group string // a name that is not resolved, so that it matches nobody
	unit  glob
}

// answer is whether something matches, when it is not always known.
type answer int

const (
	no answer = iota
	unknown
	yes
)

// matches says whether the rule is about this. What is cheap comes first.
func (r *rule) matches(c *Caller, a Action, o *Object) answer {
	if !r.actions[a] {
		return no
	}
	sure := yes
	if r.callers != nil {
		sure = r.matchesCaller(c)
	}
	if r.self {
		sure = min(sure, itself(c, o))
	}
	if sure == no || !r.service.matches(o.Service) || !r.user.matches(o.User) {
		return no
	}
	return sure
}

func (r *rule) matchesCaller(c *Caller) answer {
	best := no
	for i := range r.callers {
		best = max(best, r.callers[i].matches(c))
	}
	return best
}

func (m *matcher) matches(c *Caller) answer {
	found := false
	switch m.kind {
	case "uid":
		found = m.id == c.UID
	case "group":
		found = m.group == "" && slices.Contains(c.Groups, m.id)
	case "unit":
		if c.Unit == "" {
			return unknown
		}
		found = m.unit.matches(c.Unit)
	}
	if found {
		return yes
	}
	return no
}

// itself says whether the object is about the caller's own account. A uid is
// better than a name, which may have several forms.
func itself(c *Caller, o *Object) answer {
	switch {
	case o.UserKnown && o.UserUID == c.UID, !o.UserKnown && c.Name != "" && c.Name == o.User:
		return yes
	case o.UserKnown, c.Name != "":
		return no
	}
	return unknown
}

// decision is the rule's.
func (r *rule) decision(c Caller, a Action, o Object) Decision {
	d := Decision{Verdict: r.verdict, Why: r.why}
	if r.verdict == Polkit {
		d.Polkit = polkitActions(c, a, o)
	}
	return d
}
