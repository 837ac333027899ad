// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pamprompt/pamprompt/api"
)

// The exit codes of the table in doc.go.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitDenied      = 4
	exitNotFound    = 5
	exitAnswered    = 6
	exitSession     = 7
	exitCancelled   = 8
	exitTimedOut    = 9
	exitPolkit      = 10
	exitNotStarted  = 127 // as of shells, and of run0 and sudo
)

const exitHelp = `Exit codes:
  0  it worked
  1  any other failure
  2  the command line is wrong, or the broker says that an argument is
  3  the bus or the broker cannot be reached, or the bus ended meanwhile
  4  access denied
  5  there is no such session or prompt
  6  the prompt was already answered
  7  the authentication or the session failed
  8  cancelled
  9  timed out
  10 policy check only: polkit decides
  127 run only: the command could not be started

run exits with the exit code of its command, once that has started, unless the bus
ends before it.`

// usageError is a command line that cannot be right.
type usageError struct{ error }

// errInterrupted is the end by a signal before the work was done.
var errInterrupted = errors.New("interrupted")

var exitCodes = map[api.Code]int{
	api.AccessDenied:         exitDenied,
	api.NoSuchSession:        exitNotFound,
	api.NoSuchPrompt:         exitNotFound,
	api.AlreadyAnswered:      exitAnswered,
	api.UnknownOption:        exitUsage,
	api.InvalidArgument:      exitUsage,
	api.AuthenticationFailed: exitSession,
	api.AccountUnavailable:   exitSession,
	api.Unavailable:          exitSession,
	api.MaxTries:             exitSession,
	api.PAMFailed:            exitSession,
	api.CommandFailed:        exitNotStarted,
	api.WorkerFailed:         exitSession,
	api.Cancelled:            exitCancelled,
	api.TimedOut:             exitTimedOut,
}

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	var usage usageError
	var known *api.Error
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, api.ErrNoBus), errors.Is(err, api.ErrNoBroker):
		return exitUnreachable
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitCancelled
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimedOut
	case errors.As(err, &known) && exitCodes[known.Code] != 0:
		return exitCodes[known.Code]
	}
	return exitFailure
}

// lostBus is an end of the bus that has come in between.
type lostBus struct {
	error
	means string // for what was under way
	help  string // or ""
}

func (l lostBus) Error() string { return "the connection to the bus was lost: " + l.means }

// unsure is for a call about something, which may have been heard.
func unsure(err error, what string, id uint64) error {
	var known lostBus
	if !errors.Is(err, api.ErrNoBus) || errors.As(err, &known) {
		return err
	}
	return lostBus{err, fmt.Sprintf("what was wanted of %s %d may have been done, or not", what, id),
		"`pamprompt-client list` and `pamprompt-client prompts` show when the bus is back"}
}

// unheard is for a call that changes nothing.
func unheard(err error) error {
	if !errors.Is(err, api.ErrNoBus) {
		return err
	}
	return lostBus{err, "it has not answered", "call again when the bus is back"}
}

func (l lostBus) Unwrap() error { return l.error }

// advice is what may help, or "".
func advice(err error) string {
	var lost lostBus
	switch {
	case errors.As(err, &lost):
		return lost.help
	case errors.Is(err, api.ErrNoBus):
		return "is there a system bus? `pamprompt-broker --private-bus` starts one of its own " +
			"and prints the DBUS_SYSTEM_BUS_ADDRESS to set"
	case errors.Is(err, api.ErrNoBroker):
		return "start pamprompt-broker on this bus, or `systemctl start pamprompt-broker`"
	case errors.Is(err, api.AccessDenied):
		return "root may do this, and whoever opened the session: try with sudo"
	case errors.Is(err, api.NoSuchPrompt):
		return "`pamprompt-client prompts` lists what waits"
	case errors.Is(err, api.NoSuchSession):
		return "`pamprompt-client list` lists the sessions"
	case errors.Is(err, errNoTerminal):
		return "run it on a terminal, or answer with `pamprompt-client answer` from standard input"
	}
	return ""
}
