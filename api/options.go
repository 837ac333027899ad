// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/godbus/dbus/v5"
)

// Options of Client.Open. The zero value asks for the defaults; a field that
// is zero is not sent.
type Options struct {
	TTY         string        // PAM_TTY
	Rhost       string        // PAM_RHOST
	Ruser       string        // PAM_RUSER
	XDisplay    string        // PAM_XDISPLAY
	Environment []string      // NAME=value, for the PAM environment
	Phases      []string      // any of authenticate, account, credentials, session; none means all
	Reason      string        // shown to whoever answers, as the caller's words
	Timeout     time.Duration // how long a prompt waits; rounded up to microseconds
	Attempts    uint32        // how often to authenticate after PAM_AUTH_ERR
	Linger      bool          // the session outlives the Client
	Agent       bool          // the Client's watchers are told of this session's prompts
	Silent      bool          // PAM_SILENT
	Locale      string        // the language of the modules
	AskPassword string        // AskPasswordYes, AskPasswordNo or AskPasswordFallback

	Command             []string   // what to run in the session, with its arguments
	Stdio               []*os.File // its standard input, output and error, which stay the caller's, and wait from then on (File.Fd); none is /dev/null
	WorkingDirectory    string     // where it runs: absolute, or ~ or ~/x for the user's home or below it
	ControllingTerminal bool       // Stdio[0] becomes its controlling terminal
	LoginShell          bool       // run the user's shell as a login shell, instead of Command
	CommandEnvironment  []string   // NAME=value, over the PAM environment, for what runs alone
	Authenticate        string     // AuthenticateAlways or AuthenticateUnlessPermitted, instead of Phases

	// Alternatives are up to MaxAlternatives further services, each with a transaction
	// beside that of the session's own: the first that succeeds opens the session.
	Alternatives []string
}

// variants are the options as OpenSession takes them.
func (o Options) variants() (map[string]dbus.Variant, error) {
	if o.Timeout < 0 {
		return nil, &Error{Code: InvalidArgument, Text: fmt.Sprintf("option timeout is negative: %v", o.Timeout)}
	}
	set := map[string]dbus.Variant{}
	for name, value := range map[string]string{
		OptionTTY: o.TTY, OptionRhost: o.Rhost, OptionRuser: o.Ruser, OptionXDisplay: o.XDisplay,
		OptionReason: o.Reason, OptionLocale: o.Locale, OptionAskPassword: o.AskPassword,
		OptionWorkingDirectory: o.WorkingDirectory, OptionAuthenticate: o.Authenticate,
	} {
		if value != "" {
			set[name] = dbus.MakeVariant(value)
		}
		if err := sendable("option "+name, value); err != nil {
			return nil, err
		}
	}
	for name, list := range map[string][]string{
		OptionEnvironment: o.Environment, OptionPhases: o.Phases,
		OptionCommand: o.Command, OptionCommandEnvironment: o.CommandEnvironment, OptionAlternatives: o.Alternatives,
	} {
		if len(list) > 0 {
			set[name] = dbus.MakeVariant(list)
		}
		if err := sendable("option "+name, list...); err != nil {
			return nil, err
		}
	}
	for name, value := range map[string]bool{
		OptionLinger: o.Linger, OptionAgent: o.Agent, OptionSilent: o.Silent, OptionControllingTerminal: o.ControllingTerminal,
		OptionLoginShell: o.LoginShell,
	} {
		if value {
			set[name] = dbus.MakeVariant(true)
		}
	}
	if o.Timeout > 0 {
		set[OptionTimeout] = dbus.MakeVariant(uint64((o.Timeout + time.Microsecond - 1) / time.Microsecond))
	}
	if o.Attempts > 0 {
		set[OptionAttempts] = dbus.MakeVariant(o.Attempts)
	}
	if len(o.Stdio) > 0 {
		indexes := make([]dbus.UnixFDIndex, len(o.Stdio))
		for i := range indexes {
			indexes[i] = dbus.UnixFDIndex(i)
		}
		set[OptionStdio] = dbus.MakeVariant(indexes)
	}
	return set, nil
}

// sendable refuses what D-Bus cannot carry. godbus lets a NUL through, and the
// bus ends the whole connection for it, with every session that it owns.
func sendable(what string, values ...string) error {
	for _, value := range values {
		if strings.IndexByte(value, 0) >= 0 {
			return &Error{Code: InvalidArgument, Text: what + " holds a NUL byte"}
		}
		if !utf8.ValidString(value) {
			return &Error{Code: InvalidArgument, Text: what + " is not UTF-8"}
		}
	}
	return nil
}
