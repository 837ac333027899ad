// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
)

// locking is the stack of pam_faillock(8), which locks after some failures.
func locking(t *testing.T, dir string, failures int) string {
	faillock := modules.System(t, "pam_faillock")
	options := fmt.Sprintf(" dir=%s deny=%d unlock_time=600 nodelay\n", dir, failures)
	return "auth requisite " + faillock + " preauth" + options +
		"auth [success=1 default=bad] pam_unix.so nodelay\n" +
		"auth [default=die] " + faillock + " authfail" + options +
		"auth sufficient " + faillock + " authsucc" + options +
		"auth required pam_deny.so\n" +
		"account required " + faillock + "\naccount required pam_unix.so\n" +
		"password required pam_unix.so\nsession required pam_unix.so\n"
}

func TestFaillock(t *testing.T) {
	dir := t.TempDir()
	s, _ := namespace(t, map[string]string{"locking": locking(t, dir, 3)})
	a := newAgent(t, s.System)
	right, bad := question(asksPassword, password), question(asksPassword, "wrong")
	locked := []string{"info The account is locked due to 3 failed logins.", "info (10 minutes left to unlock)"}
	a.want(a.run("locking", "anna", api.Options{}, bad), wrong)
	a.want(a.run("locking", "anna", api.Options{}, right), result{}) // and the count starts again
	for range 3 {
		e := a.run("locking", "anna", api.Options{}, bad)
		a.wantSaid(e)
		a.want(e, wrong)
	}
	e := a.run("locking", "anna", api.Options{})
	a.wantSaid(e, locked...)
	a.want(e, wrong)
	a.want(a.run("locking", "odd", api.Options{}, question(asksPassword, oddPassword)), result{})
	unlock(t, dir, "anna")
	a.want(a.run("locking", "anna", api.Options{}, right), result{})
}

func unlock(t *testing.T, dir, user string) {
	t.Helper()
	if out, err := exec.Command("faillock", "--dir", dir, "--user", user, "--reset").CombinedOutput(); err != nil {
		t.Fatalf("faillock: %v\n%s", err, out)
	}
}

// The attempts of one session count, each for itself.
func TestFaillockLocksBetweenTwoAttempts(t *testing.T) {
	dir := t.TempDir()
	s, _ := namespace(t, map[string]string{"locking": locking(t, dir, 2)})
	a := newAgent(t, s.System)
	const failure = "error Authentication failure"
	e := a.run("locking", "anna", api.Options{Attempts: 3}, question(asksPassword, "wrong"),
		turn{asksPassword, "wrong", []string{failure}})
	a.wantSaid(e, failure, failure, "info The account is locked due to 2 failed logins.", "info (10 minutes left to unlock)")
	a.want(e, wrong)
}

// pam_unix itself wants no fourth attempt in one transaction.
func TestAModuleWantsNoFurtherAttempt(t *testing.T) {
	s, _ := namespace(t, nil)
	a := newAgent(t, s.System)
	again := turn{asksPassword, "wrong", []string{"error Authentication failure"}}
	e := a.run("unix", "anna", api.Options{Attempts: 16}, question(asksPassword, "wrong"), again, again)
	a.want(e, result{api.MaxTries, 11, "pam_authenticate: Have exhausted maximum number of retries for service (PAM_MAXTRIES)"})
}
