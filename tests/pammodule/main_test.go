// SPDX-License-Identifier: Apache-2.0

// Package pammodule tests pam_pamprompt.so in a program that knows nothing of it,
// with AddressSanitizer and UndefinedBehaviorSanitizer, and with valgrind. program.c is
// the program; fake_test.go has helpers that do what the real one never does.
package pammodule

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "fake" {
		fake(os.Args[2], len(os.Args) > 3)
		return
	}
	system.Main(m)
}

// tooLong bounds what a test waits for.
const tooLong = 60 * time.Second

// build is the module, and the program, in a directory of their own, where the
// module finds its helper.
type build struct {
	dir string
	err error
}

var strict = []string{"-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion"}

// compile makes both with further flags of the compiler.
func compile(flags ...string) build {
	dir, err := os.MkdirTemp("", "pamprompt-module-")
	if err != nil {
		return build{err: err}
	}
	b := build{dir: dir}
	flags = append(append([]string{}, strict...), flags...)
	sources, err := filepath.Glob("../../pam/*.c")
	if err != nil || len(sources) == 0 {
		return build{err: fmt.Errorf("there are no sources: %v", err)}
	}
	var shared []string
	for _, source := range sources {
		if !strings.HasPrefix(filepath.Base(source), "fuzz_") {
			shared = append(shared, source)
		}
	}
	for _, args := range [][]string{
		append([]string{"-fPIC", "-shared", "-fvisibility=hidden",
			"-DPAMPROMPT_CONV=" + strconv.Quote(filepath.Join(dir, "helper")), "-o", filepath.Join(dir, "pam_pamprompt.so"), "-lpam"}, shared...),
		{"-rdynamic", "-Wno-missing-prototypes", "-o", filepath.Join(dir, "program"), "program.c", "-lpam", "-lpthread"},
	} {
		cmd := exec.Command("gcc", append(flags, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("gcc %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return b
}

var sanitizers = []string{"-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"}

var (
	sanitized = sync.OnceValue(func() build { return compile(sanitizers...) })
	// hasty waits for a second where the others wait for ten.
	hasty = sync.OnceValue(func() build { return compile(append([]string{"-DPAMPROMPT_PATIENCE=1"}, sanitizers...)...) })
	plain = sync.OnceValue(func() build { return compile() })
)

// stage is where a program runs with the module.
type stage struct {
	t      *testing.T
	b      build
	stacks string
	runner []string // what runs the program
	env    []string
	tries  bool // the helper is started several times
}

func on(t *testing.T, b build) *stage {
	t.Helper()
	if b.err != nil {
		t.Fatal(b.err)
	}
	t.Cleanup(func() { _ = os.Remove(filepath.Join(b.dir, "helper")) })
	return &stage{t: t, b: b, stacks: t.TempDir(), env: []string{"ASAN_OPTIONS=detect_leaks=1", "UBSAN_OPTIONS=print_stacktrace=1"}}
}

// helper puts a script where the module finds its helper.
func (s *stage) helper(script string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.b.dir, "helper"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// fake has a helper that behaves in some way.
func (s *stage) fake(behaviour string) {
	s.t.Helper()
	binary, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	s.helper(fmt.Sprintf(`[ $# = 0 ] && echo >>%s/started; GORACE=atexit_sleep_ms=0 exec %s fake %s "$@"`, s.stacks, binary, behaviour))
}

// stack writes the stack of the service test: ours first in a group, with options,
// and a module that does things.
func (s *stage) stack(options, probe string) {
	s.t.Helper()
	var b strings.Builder
	for _, group := range []string{"auth", "account", "session"} {
		fmt.Fprintf(&b, "%s optional %s %s\n%s required %s %s\n", group, filepath.Join(s.b.dir, "pam_pamprompt.so"), options,
			group, modules.Probe(s.t), probe)
	}
	for name, text := range map[string]string{"test": b.String(), "other": "auth required pam_deny.so\n"} {
		if err := os.WriteFile(filepath.Join(s.stacks, name), []byte(text), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
}

// command is the program as somebody, with what it is to do.
func (s *stage) command(user string, words ...string) *exec.Cmd {
	args := append(append([]string{}, s.runner...), filepath.Join(s.b.dir, "program"), s.stacks, "test", user)
	cmd := exec.CommandContext(s.t.Context(), args[0], append(args[1:], words...)...)
	cmd.Env = append(os.Environ(), s.env...)
	return cmd
}

// run runs it to its end, and returns the lines that it said.
func (s *stage) run(user string, words ...string) string {
	s.t.Helper()
	cmd := s.command(user, words...)
	var out, wrong bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &wrong
	late := time.AfterFunc(tooLong, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	if err := cmd.Run(); err != nil || wrong.Len() > 0 && len(s.runner) == 0 {
		s.t.Errorf("%s: %v\n%s\n%s", strings.Join(words, " "), err, &out, &wrong)
	}
	return out.String()
}
