// SPDX-License-Identifier: Apache-2.0

// Package modules finds or builds the PAM modules that tests put into their
// stacks. pam_probe.c and pam_fault.c are our own, whose heads say what they do on
// command; the others are the system's. audit_notes.c is no module: it writes
// down what libpam tells the kernel's audit system; nor is child_hold.c, which holds
// the child of a worker before it is a program. A module that is not there fails the
// test with the name of the Debian package that has it. Only tests import this
// package.
package modules

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var (
	//go:embed pam_probe.c
	probeSource []byte
	//go:embed pam_fault.c
	faultSource []byte
	//go:embed audit_notes.c
	auditSource []byte
	//go:embed child_hold.c
	holdSource []byte
)

var (
	probe = sync.OnceValues(func() ([]byte, error) { return compile(probeSource, "-lpam") })
	fault = sync.OnceValues(func() ([]byte, error) { return compile(faultSource, "-lpam") })
	audit = sync.OnceValues(func() ([]byte, error) { return compile(auditSource, "-ldl") })
	hold  = sync.OnceValues(func() ([]byte, error) { return compile(holdSource, "-lc") })
)

// Probe returns the path of a pam_probe.so that lasts as long as the test. It is
// compiled once for each test binary.
func Probe(t testing.TB) string {
	t.Helper()
	return place(t, "pam_probe.so", probe)
}

// Fault is Probe for pam_fault.so, which does to its process what no module should.
func Fault(t testing.TB) string {
	t.Helper()
	return place(t, "pam_fault.so", fault)
}

// AuditNotes is Probe for audit_notes.so.
func AuditNotes(t testing.TB) string {
	t.Helper()
	return place(t, "audit_notes.so", audit)
}

// ChildHold is Probe for child_hold.so.
func ChildHold(t testing.TB) string {
	t.Helper()
	return place(t, "child_hold.so", hold)
}

func place(t testing.TB, name string, compiled func() ([]byte, error)) string {
	t.Helper()
	object, err := compiled()
	if err != nil {
		t.Fatalf("build %s: %v (the Debian packages gcc and libpam0g-dev have what it needs)", name, err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, object, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func compile(text []byte, library string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "pamprompt-module-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	source, object := filepath.Join(dir, "source.c"), filepath.Join(dir, "object.so")
	if err := os.WriteFile(source, text, 0o644); err != nil {
		return nil, err
	}
	gcc := exec.Command("gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-fPIC", "-shared",
		"-o", object, source, library)
	if out, err := gcc.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return os.ReadFile(object)
}

// packages has the Debian package of each module that tests use.
var packages = map[string]string{
	"pam_permit":               "libpam-modules",
	"pam_deny":                 "libpam-modules",
	"pam_env":                  "libpam-modules",
	"pam_exec":                 "libpam-modules",
	"pam_group":                "libpam-modules",
	"pam_keyinit":              "libpam-modules",
	"pam_limits":               "libpam-modules",
	"pam_loginuid":             "libpam-modules",
	"pam_namespace":            "libpam-modules",
	"pam_faillock":             "libpam-modules",
	"pam_faildelay":            "libpam-modules",
	"pam_unix":                 "libpam-modules",
	"pam_pwquality":            "libpam-pwquality",
	"pam_matrix":               "libpam-wrapper",
	"pam_chatty":               "libpam-wrapper",
	"pam_oath":                 "libpam-oath",
	"pam_google_authenticator": "libpam-google-authenticator",
}

// System returns the path of a module of the system, such as "pam_matrix".
func System(t testing.TB, name string) string {
	t.Helper()
	for _, pattern := range []string{
		"/usr/lib/*/security/", "/lib/*/security/", "/usr/lib64/security/", "/usr/lib/security/",
		"/usr/lib/*/pam_wrapper/", "/usr/lib64/pam_wrapper/", "/usr/lib/pam_wrapper/",
	} {
		if found, _ := filepath.Glob(pattern + name + ".so"); len(found) > 0 {
			return found[0]
		}
	}
	t.Fatalf("%s.so is not on this machine: the Debian package %s has it", name, packages[name])
	return ""
}
