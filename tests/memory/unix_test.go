// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// What a user of the test's own /etc has as password, and its crypt(5) hashes.
const (
	password = "pv8Tq2LmXw4RkZ7nYc3HdBf6JsGa9Ue5"
	sha512   = "$6$rounds=1000$pamprompt$G1wK4nUKDQDSZ5l8mFcI0umOP1rXp7.47Dv4EzRkkQAnvDI.GK3vdiN3rK9QFpNdudiR0bu/DbkQ.wV3YfuSd0"
	yescrypt = "$y$j75$k2XAnEHBqQ1Ct2aMXFKNa/$hWoThUTc.utnKkAo9fzCFLExzJ1DnWV.123UDzgCYa8"
)

// unixUsers makes an /etc of the test's own with the users anna and bert.
func unixUsers(t *testing.T, stacks map[string]string) []system.Mount {
	t.Helper()
	etc := t.TempDir()
	files := map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nanna:x:60001:60000::/nonexistent:/bin/sh\nbert:x:60002:60000::/nonexistent:/bin/sh\n" +
			"old:x:60003:60000::/nonexistent:/bin/sh\n",
		"shadow": "root:*:19000:0:99999:7:::\nanna:" + sha512 + ":19000:0:99999:7:::\nbert:" + yescrypt + ":19000:0:99999:7:::\n" +
			"old:" + sha512 + ":0:0:99999:7:::\n",
		"group":         "root:x:0:\nshadow:x:42:\nusers:x:60000:\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\n",
		"login.defs":    "",
	}
	for service, stack := range stacks {
		files[filepath.Join("pam.d", service)] = stack
	}
	if err := os.Mkdir(filepath.Join(etc, "pam.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return []system.Mount{{From: etc, To: "/etc"}}
}

// Modules have the password in memory of their own, which is theirs to wipe:
// what is left of it in the worker when the session is open is what is looked
// for here, and nobody else may have it in any case.
func TestModulesOfTheSystem(t *testing.T) {
	needRoot(t)
	const account = "account required pam_unix.so\npassword required pam_unix.so sha512 rounds=1000\nsession required pam_unix.so\n"
	cat := "#!/bin/sh\ncat >/dev/null\n"
	script := filepath.Join(t.TempDir(), "read")
	if err := os.WriteFile(script, []byte(cat), 0o755); err != nil {
		t.Fatal(err)
	}
	tally := t.TempDir()
	wrong, fresh := newSecret(), newSecret()
	// A PIN that pam_oath leaves to others to check, and the first code of the
	// key of RFC 4226.
	factors := forms(newSecret().text[:size-6] + "755224")
	users := filepath.Join(t.TempDir(), "users.oath")
	if err := os.WriteFile(users, []byte("HOTP anna + 3132333435363738393031323334353637383930\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, stack, user string
		answers           []string
		keeps             string // how a module keeps it
	}{
		{"pam_unix with SHA-512", "auth required pam_unix.so nodelay\n" + account, "anna", []string{password}, ""},
		{"pam_unix with yescrypt", "auth required pam_unix.so nodelay\n" + account, "bert", []string{password}, ""},
		{"pam_unix and a wrong password", "auth required pam_unix.so nodelay\n" + account, "anna", []string{wrong.text, password}, ""},
		{"pam_faillock", "auth required pam_faillock.so preauth dir=" + tally + "\nauth sufficient pam_unix.so nodelay\n" +
			"auth [default=die] pam_faillock.so authfail dir=" + tally + "\nauth required pam_deny.so\n" + account, "anna", []string{password}, ""},
		{"pam_exec that is given it", "auth required pam_unix.so nodelay\nauth required pam_exec.so expose_authtok quiet " + script + "\n" + account, "anna", []string{password},
			"it copies it to the stack, and the registers that its child's end interrupts have it"},
		{"pam_oath", "auth required " + modules.System(t, "pam_oath") + " usersfile=" + users + " window=5 digits=6\n" + account, "anna", []string{factors.text},
			"it never frees it"},
		{"a password that must be changed", "auth required pam_unix.so nodelay\n" + account, "old", []string{password, password, fresh.text, fresh.text}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := onStage(t, system.StartInNamespace(t, unixUsers(t, map[string]string{"unix": c.stack}), options(t, nil)))
			b.listen()
			s := b.open("unix", c.user)
			for _, answer := range c.answers {
				if err := b.answer(next[api.Prompt](b).ID, answer); err != nil {
					t.Fatal(err)
				}
			}
			b.wantOpen(s)
			b.keeps = c.keeps
			for _, k := range []known{forms(password), wrong, fresh, factors} {
				b.wantNowhere(k, nil)
			}
		})
	}
}
