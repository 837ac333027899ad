// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// harden makes the process fit for answers that pass through it, and for
// running as root. The programs of a private bus inherit the limit and the
// umask.
func harden() error {
	// An answer must not be read by ptrace, /proc or in a core file.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process not dumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	// What only root may read is made so; what all may read, such as requests
	// to password agents and their directory, must not depend on who started us.
	unix.Umask(0o022)
	return nil
}

// arguments are those that follow the program's name, which whoever starts a
// program may leave out: os.Args[1:] fails then (CVE-2021-4034 of polkit).
func arguments() []string { return os.Args[min(1, len(os.Args)):] }
