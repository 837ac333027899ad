// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/conv/convtest"
)

// supply makes a directory of credentials and names it in the environment.
func supply(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pam.authtok.test"), []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(credentials, dir)
}

// TestCredentialsAreForTheWorkerAlone: modules, and what they start, see
// neither the credential nor where it is.
func TestCredentialsAreForTheWorkerAlone(t *testing.T) {
	supply(t)
	dir := stack(t, "auth:ask=secret,x auth:expect=s3cret auth:facts={dir}/facts")
	service := filepath.Join(dir, "test")
	text, err := os.ReadFile(service)
	if err != nil {
		t.Fatal(err)
	}
	env := filepath.Join(dir, "env")
	script := "#!/bin/sh\n/usr/bin/env > " + env + "\n"
	if err := os.WriteFile(filepath.Join(dir, "write-env"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	text = append(text, "auth required pam_exec.so "+dir+"/write-env\n"...)
	if err := os.WriteFile(service, text, 0o644); err != nil {
		t.Fatal(err)
	}
	process, peer := idle(t, dir)
	said := convtest.Play(peer, convtest.Start("test", "root"))
	process.Wait()
	if !slices.Contains(said, "opened []") || slices.Contains(said, "prompt 0 secret x") {
		t.Fatalf("the worker said %q", said)
	}
	for _, file := range []string{env, filepath.Join(dir, "facts")} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "s3cret") || strings.Contains(string(text), credentials) {
			t.Errorf("modules and their commands see %s", text)
		}
		if strings.HasSuffix(file, "facts") && !strings.Contains(string(text), "variables 0\n") {
			t.Errorf("modules have an environment: %s", text)
		}
	}
	if log := process.Log(); strings.Contains(log, "s3cret") || !strings.Contains(log, "credential=pam.authtok.test") {
		t.Errorf("the log is %s", log)
	}
}

func TestThePoolPassesCredentialsOn(t *testing.T) {
	supply(t)
	t.Setenv("NOT_TO_BE", "inherited")
	broker, _ := startPool(t, 1, "auth:ask=secret,x auth:expect=s3cret")
	said := convtest.Play(broker.Accept(), convtest.Start("test", "root"))
	if !slices.Contains(said, "opened []") {
		t.Errorf("the worker said %q", said)
	}
}

func TestAWorkerGetsNothingElseOfTheEnvironment(t *testing.T) {
	t.Setenv("NOT_TO_BE", "inherited")
	for _, name := range []string{credentials, journalStream} {
		t.Setenv(name, "") // has it restored
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	if got := environment(); !slices.Equal(got, []string{tunables}) {
		t.Errorf("a worker gets %q", got)
	}
	t.Setenv(credentials, "/somewhere")
	t.Setenv(journalStream, "1:2")
	if got := environment(); !slices.Equal(got, []string{tunables, credentials + "=/somewhere", journalStream + "=1:2"}) {
		t.Errorf("a worker gets %q", got)
	}
}
