// SPDX-License-Identifier: Apache-2.0

package api

// Names of the D-Bus service. The interfaces are described by the XML files in
// dbus-1/interfaces and, in words, by docs/dbus.md.
const (
	BusName          = "org.pamprompt.Broker1"
	RootPath         = "/org/pamprompt/Broker1"
	SessionPrefix    = RootPath + "/session/" // followed by the session's number
	ManagerInterface = BusName + ".Manager"
	SessionInterface = BusName + ".Session"
)

// Styles of prompts and messages.
const (
	StyleSecret  = "secret"  // PAM_PROMPT_ECHO_OFF: the answer is not shown
	StyleVisible = "visible" // PAM_PROMPT_ECHO_ON
	StyleInfo    = "info"    // PAM_TEXT_INFO: no answer
	StyleError   = "error"   // PAM_ERROR_MSG: no answer
	StyleChoice  = "choice"  // PAM_RADIO_TYPE: the choices are in the details
	StyleBinary  = "binary"  // PAM_BINARY_PROMPT: base64, question and answer
)

// States of a session, in their order. Closed and Failed are both ends.
const (
	StateOpening = "opening" // PAM runs
	StateOpen    = "open"    // every phase that was asked for has worked
	StateClosing = "closing" // PAM unwinds
	StateClosed  = "closed"  // it was open, or was closed before it could be
	StateFailed  = "failed"  // it did not open, or its worker was lost
)

// Outcomes of PromptClosed.
const (
	OutcomeAnswered      = "answered"
	OutcomeCancelled     = "cancelled"
	OutcomeExpired       = "expired"
	OutcomeSessionClosed = "session-closed"
)

// Sources of a prompt, in its details.
const (
	SourcePAM         = "pam"          // a session's PAM module
	SourceAskPassword = "ask-password" // another program, through systemd's ask-password directory
)

// Values of OptionAskPassword.
const (
	AskPasswordYes      = "yes"      // the default
	AskPasswordNo       = "no"       // only agents on D-Bus
	AskPasswordFallback = "fallback" // while no agent on D-Bus may answer
)

// Options of OpenSession. OpenConversation has OptionReason, OptionTimeout, OptionAgent,
// OptionAskPassword, OptionPID and OptionUID.
const (
	OptionTTY         = "tty"          // s: PAM_TTY
	OptionRhost       = "rhost"        // s: PAM_RHOST
	OptionRuser       = "ruser"        // s: PAM_RUSER
	OptionXDisplay    = "xdisplay"     // s: PAM_XDISPLAY
	OptionEnvironment = "environment"  // as: NAME=value, for the PAM environment
	OptionPhases      = "phases"       // as: any of authenticate, account, credentials, session
	OptionReason      = "reason"       // s: shown to whoever answers, as the caller's words
	OptionTimeout     = "timeout"      // t: microseconds that a prompt waits; 0 = for ever
	OptionAttempts    = "attempts"     // u: how often to authenticate after PAM_AUTH_ERR
	OptionLinger      = "linger"       // b: outlives the connection that opened it
	OptionAgent       = "agent"        // b: the caller gets this session's Prompt signals
	OptionSilent      = "silent"       // b: PAM_SILENT
	OptionLocale      = "locale"       // s: the language of the modules
	OptionAskPassword = "ask-password" // s: whether systemd's password agents are asked too

	OptionCommand             = "command"              // as: what to run in the session
	OptionStdio               = "stdio"                // ah: its standard input, output and error
	OptionWorkingDirectory    = "working-directory"    // s: where it runs; ~ is the user's home
	OptionControllingTerminal = "controlling-terminal" // b: its standard input becomes its terminal
	OptionLoginShell          = "login-shell"          // b: the user's shell is what runs
	OptionCommandEnvironment  = "command-environment"  // as: NAME=value, for what runs alone
	OptionAuthenticate        = "authenticate"         // s: whether the user must authenticate for it

	OptionAlternatives = "alternatives" // as: further services, of which the first that succeeds opens the session
)

// OptionPID is of OpenConversation, for root alone (u): the process on whose behalf it
// is opened, which is shown to whoever answers.
const OptionPID = "pid"

// OptionUID is of OpenConversation, for root alone (u): the uid of the user, whose own
// agents may answer then as policy says. It is not looked up.
const OptionUID = "uid"

// Details that Ask takes. Those of a prompt are in docs/dbus.md.
const (
	DetailChoices = "choices" // as: what there is to choose from, with StyleChoice
	DetailBinary  = "binary"  // s: the packet in base64, with StyleBinary
	DetailTimeout = "timeout" // t: microseconds that the question waits, instead of OptionTimeout
	DetailPhase   = "phase"   // s: in which phase PAM is
	DetailAttempt = "attempt" // u: which attempt at authentication this is, from 1
)

// What stands at the beginning of the pipe of Ask: before the answer, or before one of
// OutcomeCancelled, OutcomeExpired and OutcomeSessionClosed.
const (
	ResponseTaken   = '+'
	ResponseRefused = '-'
)

// Values of OptionAuthenticate.
const (
	AuthenticateAlways          = "always"           // the default
	AuthenticateUnlessPermitted = "unless-permitted" // not for root, nor for whom polkit let run the command
)

// Targets of Session.Kill.
const (
	KillLeader = "leader" // the process of the command
	KillGroup  = "group"  // its process group, as keys of a terminal do
	KillAll    = "all"    // every process of the session
)

// Limits of the contract. Sizes are in bytes.
const (
	MaxResponse     = 64 << 10 // an answer, whichever way it comes
	MaxName         = 255      // service and user
	MaxText         = 4096     // each string option
	MaxEnvironment  = 64 << 10 // all entries of an environment together
	MaxAttempts     = 16
	MaxAlternatives = 7        // services besides the session's own
	MaxArguments    = 1024     // of a command, in number
	MaxCommand      = 64 << 10 // arguments and environment of a command together, each with the byte that ends it
)
