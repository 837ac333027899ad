// SPDX-License-Identifier: Apache-2.0

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/tests/modules"
)

// Every makes a stack of one module for all four groups.
func Every(module string, args ...string) string {
	var b strings.Builder
	for _, group := range []string{"auth", "account", "password", "session"} {
		b.WriteString(group + " required " + strings.Join(append([]string{module}, args...), " ") + "\n")
	}
	return b.String()
}

// Permit is a stack that asks nothing and lets anybody in.
func Permit() string { return Every("pam_permit.so") }

// Deny is a stack that lets nobody in.
func Deny() string { return Every("pam_deny.so") }

// Matrix is a stack that asks for a password and lets the given users in
// where it stands under the name of service. pam_matrix speaks only when it
// asks: its option verbose calls the conversation in a way that PAM forbids.
func Matrix(t testing.TB, service string, passwords map[string]string) string {
	t.Helper()
	var b strings.Builder
	for user, password := range passwords {
		b.WriteString(user + ":" + password + ":" + service + "\n")
	}
	passdb := filepath.Join(t.TempDir(), "passdb")
	if err := os.WriteFile(passdb, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return Every(modules.System(t, "pam_matrix"), "passdb="+passdb)
}

// write puts stacks into a directory for pam_start_confdir(3).
func write(t testing.TB, dir string, stacks map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for service, stack := range stacks {
		if err := os.WriteFile(filepath.Join(dir, service), []byte(stack), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
