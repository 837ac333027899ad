// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Opening is what the caller of OpenSession wants besides service and user.
type Opening struct {
	Environment []string // NAME=value
	Phases      []string // the words of the D-Bus interface, in any order; none are all four
	TTY         string   // empty is not given; so are the next three
	Rhost       string
	Ruser       string
	XDisplay    string
}

// phases are those of PAM, in their order.
var phases = []string{"authenticate", "account", "credentials", "session"}

// CheckOpening says whether a caller who may open a session may do it like
// this; the error says what to leave out, and is for the caller to read. It
// holds names of variables and never a value.
//
// The admin stands for a login program: it says where the user sits, and has
// authenticated it itself if it leaves that out. For anybody else, these are
// claims that modules would take for facts.
func CheckOpening(admin bool, o Opening) error {
	for _, entry := range o.Environment {
		if err := checkVariable(admin, entry); err != nil {
			return err
		}
	}
	if admin {
		return nil
	}
	for _, item := range []struct{ option, given, why string }{
		// pam_securetty, pam_access and pam_time decide by it, and
		// pam_systemd takes it for the terminal of the session.
		{"tty", o.TTY, "the terminal"},
		// pam_access and pam_faillock decide by it, and it is in audit records.
		{"rhost", o.Rhost, "the remote host"},
		// pam_rhosts and pam_succeed_if believe it. The worker sets the
		// caller's own name.
		{"ruser", o.Ruser, "the asking user"},
		// pam_systemd takes it for the display of the session.
		{"xdisplay", o.XDisplay, "the display"},
	} {
		if item.given != "" {
			return fmt.Errorf("option %s is root's: modules trust what it says of %s", item.option, item.why)
		}
	}
	return checkPhases(o.Phases)
}

// checkPhases wants phases without a gap from authenticate on: account says
// nothing of who is there, and a session for somebody who never authenticated
// was CVE-2020-27837.
func checkPhases(given []string) error {
	last := -1
	for i, phase := range phases {
		if !slices.Contains(given, phase) {
			continue
		}
		if i != last+1 {
			return fmt.Errorf("option phases leaves out %s: only root may open a session that was not authenticated, "+
				"or skip a phase; start at %s and leave none out", phases[last+1], phases[0])
		}
		last = i
	}
	if len(given) > 0 && last < 0 {
		return errors.New("option phases has none of " + strings.Join(phases, ", "))
	}
	return nil
}
