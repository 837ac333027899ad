// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// harden keeps answers from other processes of the same user, which could
// attach to this one or read its core file.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process not dumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	return nil
}

// arguments are those that follow the program's name, which whoever starts a
// program may leave out: os.Args[1:] fails then (CVE-2021-4034 of polkit). They
// are not nil, for which cobra would take os.Args.
func arguments() []string { return append([]string{}, os.Args[min(1, len(os.Args)):]...) }
