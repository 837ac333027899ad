// SPDX-License-Identifier: Apache-2.0

package api

import "strings"

// ErrorPrefix starts the name of every D-Bus error of the broker.
const ErrorPrefix = BusName + ".Error."

// Code is the last part of a D-Bus error name of the broker, and the first
// word of a failed session's ResultText. The codes are the whole list; what
// fits none of them is PAMFailed or WorkerFailed.
type Code string

// The codes.
const (
	AccessDenied         Code = "AccessDenied"         // policy says no, or who asks could not be established
	NoSuchSession        Code = "NoSuchSession"        // there is no session of this number
	NoSuchPrompt         Code = "NoSuchPrompt"         // there is no prompt of this number, or none is to come
	AlreadyAnswered      Code = "AlreadyAnswered"      // somebody else was first
	UnknownOption        Code = "UnknownOption"        // an option that is not in the contract
	InvalidArgument      Code = "InvalidArgument"      // a value that cannot be right, or a service that does not exist
	LimitExceeded        Code = "LimitExceeded"        // too many, too large, too long
	AuthenticationFailed Code = "AuthenticationFailed" // wrong answer or unknown user: nobody can tell which
	AccountUnavailable   Code = "AccountUnavailable"   // the account may not be used: expired, locked, not now
	Unavailable          Code = "Unavailable"          // PAM_AUTHINFO_UNAVAIL: nobody could check, so no attempt failed
	MaxTries             Code = "MaxTries"             // PAM_MAXTRIES: the module wants no further attempt
	PAMFailed            Code = "PAMFailed"            // any other PAM code; its name is in the text
	WorkerFailed         Code = "WorkerFailed"         // the worker died, broke the protocol or does not answer
	CommandFailed        Code = "CommandFailed"        // the session opened, and its command could not be started
	Cancelled            Code = "Cancelled"            // somebody cancelled the prompt or closed the session
	TimedOut             Code = "TimedOut"             // nobody answered, or a descriptor did not end, in time
)

// Codes lists every code.
func Codes() []Code {
	return []Code{
		AccessDenied, NoSuchSession, NoSuchPrompt, AlreadyAnswered, UnknownOption, InvalidArgument,
		LimitExceeded, AuthenticationFailed, AccountUnavailable, Unavailable, MaxTries, PAMFailed,
		WorkerFailed, CommandFailed, Cancelled, TimedOut,
	}
}

// Known reports whether c is one of the codes.
func (c Code) Known() bool {
	for _, known := range Codes() {
		if c == known {
			return true
		}
	}
	return false
}

// Error makes a Code usable with errors.Is: errors.Is(err, api.TimedOut).
func (c Code) Error() string { return string(c) }

// Error is a condition of the contract: what crosses the bus as a D-Bus error,
// and what a session failed with.
type Error struct {
	Code Code
	Text string // what was wrong and what would be right; never a secret
}

// Error returns the code and the text.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Text }

// Is makes errors.Is(err, api.TimedOut) work.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == e.Code
}

// DBusError is what godbus puts on the wire.
func (e *Error) DBusError() (string, []any) {
	return ErrorPrefix + string(e.Code), []any{e.Text}
}

// ParseResult takes a ResultText apart, "TimedOut: nobody answered ...", and
// returns nil when it does not start with a code.
func ParseResult(text string) *Error {
	code, rest, ok := strings.Cut(text, ": ")
	if !ok || !Code(code).Known() {
		return nil
	}
	return &Error{Code: Code(code), Text: rest}
}
