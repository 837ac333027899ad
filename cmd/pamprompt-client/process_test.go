// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"
)

// CVE-2021-4034 of polkit: a program that is started without even its name.
func TestAProgramThatIsStartedWithoutAName(t *testing.T) {
	before := os.Args
	defer func() { os.Args = before }()
	for _, args := range [][]string{nil, {}} {
		os.Args = args
		if code := run(arguments()); code != exitUsage {
			t.Errorf("%q: it exits with %d", args, code)
		}
	}
}
