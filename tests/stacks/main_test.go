// SPDX-License-Identifier: Apache-2.0

// Package stacks tests the whole of pamprompt on the modules and stacks that
// real systems have. It holds nothing but tests.
//
//	main_test.go        what stands around all tests
//	agent_test.go       an agent that answers by a script, and fails on what is not in it
//	etc_test.go         an /etc of the test's own, in a mount namespace
//	unix_test.go        pam_unix: right, wrong and unknown, locked and expired
//	expired_test.go     pam_unix and pam_pwquality change an expired password
//	factors_test.go     pam_oath and pam_google_authenticator after a password
//	faillock_test.go    pam_faillock, and attempts that end otherwise
//	exec_test.go        what pam_exec and pam_env are given, and give
//	wrapper_test.go     pam_chatty, pam_matrix and pam_get_items of libpam-wrapper
//	options_test.go     phases, silence, locale
//	linger_test.go      the opener leaves the bus
//	command_test.go     a process inside the session
//	alternatives_test.go several services side by side
//	restart_test.go     the broker is killed at every stage
//	buses_test.go       the same on dbus-daemon and dbus-broker
//	dist_test.go        the stacks of dist/pam.d
package stacks

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// within is a context that ends a test that hangs.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// needRoot is for what the kernel allows root alone.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this needs root: a mount namespace with an /etc of its own, whose shadow file pam_unix reads and writes")
	}
}

// write writes a file that only root may read.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
