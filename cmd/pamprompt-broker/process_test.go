// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// CVE-2021-4034 of polkit: a program that is started without even its name.
func TestAProgramThatIsStartedWithoutAName(t *testing.T) {
	before := os.Args
	defer func() { os.Args = before }()
	for _, args := range [][]string{nil, {}, {"pamprompt-broker"}} {
		os.Args = args
		if got := arguments(); len(got) != 0 {
			t.Errorf("the arguments of %q are %q", args, got)
		}
		if _, err := parseFlags(arguments()); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	os.Args = []string{"pamprompt-broker", "--version"}
	if got := arguments(); len(got) != 1 || got[0] != "--version" {
		t.Errorf("the arguments of %q are %q", os.Args, got)
	}
}

func TestTheUmaskDoesNotDependOnWhoStartsUs(t *testing.T) {
	before := unix.Umask(0)
	defer unix.Umask(before)
	defer func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }()
	if err := harden(); err != nil {
		t.Fatal(err)
	}
	if mask := unix.Umask(0); mask != 0o022 {
		t.Errorf("the umask is %03o", mask)
	}
}
