// SPDX-License-Identifier: Apache-2.0

package policy

// Rules are the rules of the files of a directory, in their order. They never
// change, so that any goroutine may use them; nil are none.
type Rules struct {
	rules    []rule
	warnings []string
	closed   string // why nobody may do anything but the admin; empty where rules and defaults count
}

// Closed are rules by which only the admin may do anything, and whoever opened a
// session may go on with it: for a broker that has none, because those in the
// files are broken. The defaults might allow what the files deny.
func Closed(why string) *Rules { return &Rules{closed: why} }

// WantsName says whether a decision may depend on Caller.Name, which costs a
// question to NSS: whether a rule has the user @self.
func (r *Rules) WantsName() bool {
	if r == nil {
		return false
	}
	for i := range r.rules {
		if r.rules[i].self {
			return true
		}
	}
	return false
}

// Warnings are what the administrator should know of the rules, one sentence
// each, with file and line. The rules are used all the same.
func (r *Rules) Warnings() []string {
	if r == nil {
		return nil
	}
	return r.warnings
}

// What decides besides the rules.
var (
	unknownCaller = Decision{Why: "who the caller is could not be established"}
	unknownAction = Decision{Why: "there is no such action"}
	asAdmin       = Decision{Verdict: Allow, Why: "the administrator may do everything"}
	asOwner       = Decision{Verdict: Allow, Why: "the caller opened this session"}
)

// The defaults, when no rule matches.
var (
	openDefault     = Decision{Why: "no rule matches, and opening is denied until one names the service"}
	runDefault      = Decision{Why: "no rule matches, and running commands is denied until one names the service"}
	converseDefault = Decision{Why: "no rule matches, and conversations are denied until one names the service"}
	agentDefault    = Decision{Verdict: Allow, Why: "no rule matches, and everybody may be an agent, for what it may answer"}
	seeDefault      = Decision{Verdict: Polkit, Polkit: []string{PolkitList}, Why: "no rule matches, so polkit decides"}
	manageDefault   = Decision{Verdict: Polkit, Polkit: []string{PolkitManage}, Why: "no rule matches, so polkit decides"}
	answerDefault   = Decision{Verdict: Polkit, Polkit: []string{PolkitAnswerAny}, Why: "no rule matches, so polkit decides"}
	answerOwn       = Decision{Verdict: Polkit, Polkit: []string{PolkitAnswerOwn, PolkitAnswerAny},
		Why: "no rule matches, so polkit decides, and it is about the caller's own account"}
	openPolkit     = []string{PolkitOpen}
	runPolkit      = []string{PolkitRun}
	conversePolkit = []string{PolkitConverse}
)

// Decide says whether c may do a to o. The first of these that applies decides:
// the caller is the admin; the object is its own; the first rule that matches;
// the default.
//
// For an object that does not exist it is the admin or the default, the same
// as for one that exists and that no rule is about: polkit then says no to
// whom it would say no anyway, and nobody learns what exists.
func (r *Rules) Decide(c Caller, a Action, o Object) Decision {
	switch {
	case c.Admin:
		return asAdmin
	case !c.known():
		return unknownCaller
	case a < Open || a > last:
		return unknownAction
	}
	if about(a) {
		if !o.Exists {
			return defaultOf(c, a, Object{})
		}
		if o.OwnerUID == c.UID {
			return asOwner
		}
	}
	if r == nil {
		return defaultOf(c, a, o)
	}
	if r.closed != "" {
		return Decision{Why: r.closed}
	}
	return r.byRule(c, a, o)
}

// byRule is the decision of the first rule that matches, else the default. A
// rule may ask for what is not known: the caller's unit, whether the account is
// its own. Not to know must never be better for the caller than to know, so
// such a rule decides if it denies; if it asks polkit, nothing after it can
// allow without polkit; and if it allows, it is skipped.
func (r *Rules) byRule(c Caller, a Action, o Object) Decision {
	d, perhaps := defaultOf(c, a, o), (*rule)(nil)
	for i := range r.rules {
		rule := &r.rules[i]
		matches := rule.matches(&c, a, &o)
		if matches == yes || matches == unknown && rule.verdict == Deny {
			d = rule.decision(c, a, o)
			break
		}
		if matches == unknown && rule.verdict == Polkit && perhaps == nil {
			perhaps = rule
		}
	}
	if d.Verdict == Allow && perhaps != nil {
		return perhaps.decision(c, a, o)
	}
	return d
}

// about says whether an action is about an object that exists or does not.
func about(a Action) bool { return a == See || a == Answer || a == Manage }

// defaultOf is the decision that no rule made.
func defaultOf(c Caller, a Action, o Object) Decision {
	switch a {
	case Open:
		return openDefault
	case See:
		return seeDefault
	case Answer:
		if o.UserKnown && o.UserUID == c.UID {
			return answerOwn
		}
		return answerDefault
	case Manage:
		return manageDefault
	case Agent:
		return agentDefault
	case Run:
		return runDefault
	case Converse:
		return converseDefault
	}
	return unknownAction
}

// polkitActions are the actions of polkit that stand for an action of ours.
func polkitActions(c Caller, a Action, o Object) []string {
	switch a {
	case Open:
		return openPolkit
	case Run:
		return runPolkit
	case Converse:
		return conversePolkit
	}
	return defaultOf(c, a, o).Polkit
}
