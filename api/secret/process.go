// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ProtectProcess is for the start of a program that holds secrets: nobody but
// root can attach to it or read its memory (see NotDumpable), and it leaves no
// core file, nor does what it starts.
func ProtectProcess() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	return NotDumpable()
}

// NotDumpable keeps ptrace, /proc and core files off the process
// (PR_SET_DUMPABLE of prctl(2)). Each change of its identity, modules' own too,
// makes the process what fs.suid_dumpable says, which is 2 where
// systemd-coredump is installed: call it again then.
func NotDumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process not dumpable: %w", err)
	}
	return nil
}
