// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
)

// harden makes the process fit for answers that pass through it, and for
// running as root. The programs of a private bus inherit the limit and the
// umask.
func harden() error {
	if err := secret.ProtectProcess(); err != nil {
		return err
	}
	// What only root may read is made so; what all may read, such as requests
	// to password agents and their directory, must not depend on who started us.
	unix.Umask(0o022)
	// A log that nobody reads any more is no reason to end. It is caught and not set
	// to SIG_IGN, which our children would inherit.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	return nil
}

// arguments are those that follow the program's name, which whoever starts a
// program may leave out: os.Args[1:] fails then (CVE-2021-4034 of polkit).
func arguments() []string { return os.Args[min(1, len(os.Args)):] }
