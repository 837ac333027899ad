// SPDX-License-Identifier: Apache-2.0

// Package policy decides who may do what. A decision is a pure function of the
// rules, of what the bus says about the caller and of what the broker knows
// about the object: it asks nobody and does no I/O. What it is not told, it
// takes as no. It never asks polkit itself; it says which of polkit's actions
// the broker has to ask for.
//
//	policy.go       actions, callers, objects, decisions
//	decide.go       the decision: the admin, one's own, the rules, the defaults
//	rule.go         one rule, and whether it matches
//	glob.go         patterns of services, users and units
//	parse.go        the text of a rule file becomes tables; strict
//	compile.go      a table becomes a rule; strict
//	load.go         the only I/O: the rule files of a directory, /etc/group
//	opening.go      what OpenSession's caller may set besides service and user
//	environment.go  which variables, and why not the others
package policy

import "slices"

// Action is what somebody wants to do.
type Action int

// The actions. See, Answer and Manage are about one session or one of its
// prompts. Open, Run and Converse are three things: who may do one of them may not
// therefore do another.
const (
	Open     Action = iota + 1 // open a session in which nothing runs
	See                        // know that a session exists, and its properties
	Answer                     // answer or cancel a prompt
	Manage                     // close a session
	Agent                      // be told of the prompts that one may answer
	Run                        // open a session with a command in it
	Converse                   // put questions of one's own, and get what others answer
	last     = Converse
)

// actionWords are the actions as rules name them.
var actionWords = []string{Open: "open", See: "see", Answer: "answer", Manage: "manage", Agent: "agent", Run: "run", Converse: "converse"}

// String is the action's word in a rule; "none" for what is no action.
func (a Action) String() string {
	if a < Open || a > last {
		return "none"
	}
	return actionWords[a]
}

// Begins says whether an action makes a session, which is there only afterwards.
func (a Action) Begins() bool { return a == Open || a == Run || a == Converse }

// ParseAction is the reverse of String. ok is false for what is no action.
func ParseAction(word string) (a Action, ok bool) {
	if i := slices.Index(actionWords, word); i >= int(Open) {
		return Action(i), true
	}
	return 0, false
}

// Caller is who asks, as the bus says.
type Caller struct {
	UID    uint32
	Groups []uint32 // all of them, the primary one too
	// Unit is the system unit of the caller's process, only when the bus
	// pinned that process; else empty, which no rule takes for a match.
	Unit string
	// Name is the account name of UID. It is needed only if
	// Rules.WantsName, and empty if NSS knows none.
	Name string
	// Admin is set for root, and for the uid that the broker runs as, which
	// is root too on a system bus: what it started, it may use.
	Admin bool
}

// noUID is what the kernel takes for no uid at all.
const noUID = 1<<32 - 1

// known says whether somebody established who the caller is. Uid 0 without the
// mark of the admin is a look-up that failed (that was CVE-2021-3560).
func (c Caller) known() bool { return c.UID != 0 && c.UID != noUID }

// Object is the session in question, or for Open, Run and Converse the one to be. The zero Object
// is none.
type Object struct {
	Exists        bool // of no meaning for Open, Run and Converse
	OwnerUID      uint32
	Service, User string
	// UserKnown says that UserUID is the uid of User; it is false while
	// nobody asked NSS, and when NSS does not know the user.
	UserKnown bool
	UserUID   uint32
}

// Verdict is yes, no, or somebody else's decision.
type Verdict int

// The verdicts. Whatever is neither Allow nor Polkit is a no.
const (
	Deny Verdict = iota
	Allow
	Polkit
)

var verdictWords = []string{Deny: "deny", Allow: "allow", Polkit: "polkit"}

// String is the verdict's word in a rule; "deny" for what is no verdict.
func (v Verdict) String() string {
	if v < Deny || v > Polkit {
		v = Deny
	}
	return verdictWords[v]
}

// The actions of polkit.
const (
	PolkitOpen      = "org.pamprompt.open-session"
	PolkitAnswerOwn = "org.pamprompt.answer-own" // prompts about the caller's own account
	PolkitAnswerAny = "org.pamprompt.answer-any"
	PolkitList      = "org.pamprompt.list"
	PolkitManage    = "org.pamprompt.manage"
	PolkitRun       = "org.pamprompt.run" // for whoever has it the user need not authenticate
	PolkitConverse  = "org.pamprompt.converse"
)

// Decision is the answer. Its zero value is a no.
type Decision struct {
	Verdict Verdict
	// Polkit are polkit's actions, with the verdict Polkit only: the caller may
	// if polkit grants one of them, to be asked for in this order. It is
	// shared; nobody changes it.
	Polkit []string
	// Why is for the log and for `pamprompt-client policy check`, never for
	// the caller: it names the rule, as file:line, or what else decided.
	Why string
}
