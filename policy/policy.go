// SPDX-License-Identifier: Apache-2.0

// Package policy decides who may do what. It is a pure function of what the bus
// says about the caller and what the broker knows about the object: it asks
// nobody, keeps nothing and does no I/O. What it is not told, it takes as no.
package policy

// Action is what somebody wants to do.
type Action int

// The actions. See, Answer and Manage are about one session or one of its
// prompts.
const (
	Open   Action = iota + 1 // open a session
	See                      // know that a session exists, its properties, its prompts
	Answer                   // answer or cancel a prompt
	Manage                   // close a session
	Agent                    // be told of the prompts that one may answer
)

// Caller is who asks, as the bus says.
type Caller struct {
	UID    uint32
	Groups []uint32
	// Admin is set for root, and for the uid that the broker runs as, which
	// is root too on a system bus: what it started, it may use.
	Admin bool
}

// Object is the session in question. The zero Object is none.
type Object struct {
	Exists   bool
	OwnerUID uint32
}

// Decide says whether caller may do action to object. An object that does not
// exist is refused to everybody but the admin, for whom the answer is yes, so
// that only the admin learns that it does not exist.
func Decide(caller Caller, action Action, object Object) bool {
	if caller.Admin {
		return true
	}
	switch action {
	case See, Answer, Manage:
		return object.Exists && object.OwnerUID == caller.UID
	case Agent:
		return true
	}
	return false
}
