// SPDX-License-Identifier: Apache-2.0

package pammodule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/tests/modules"
)

// TestInForeignProcesses has programs do to the module what programs do.
func TestInForeignProcesses(t *testing.T) {
	const (
		works = "authenticate PAM_SUCCESS"
		got   = "GOT secret"
		alone = "children none"
		ends  = "end PAM_SUCCESS"
		clean = "descriptors 0"
	)
	for _, test := range []struct {
		name, words string
		want        []string
	}{
		{"several calls", "authenticate authenticate children end descriptors", []string{works, works, alone, ends, clean}},
		{"SIGCHLD is ignored", "ignore authenticate env=GOT children end descriptors", []string{works, got, alone, ends, clean}},
		{"a handler reaps all children", "reap authenticate env=GOT children end descriptors", []string{works, got, alone, ends, clean}},
		{"standard input, output and error are closed", "low authenticate env=GOT children end descriptors", []string{works, got, alone, ends, clean}},
		{"another thread", "thread authenticate env=GOT children end descriptors", []string{works, got, alone, ends, clean}},
		{"each call in a thread of its own", "authenticate thread authenticate thread end descriptors", []string{works, works, ends, clean}},
		// What the program has by the number of our socket is not ours to use or to close.
		{"descriptors are closed, and others have their numbers", "authenticate close-descriptors authenticate env=GOT end",
			[]string{works, works, got, ends}},
		{"a forked process goes on", "authenticate fork authenticate env=GOT children end descriptors", []string{works, works, got, alone, ends, clean}},
		{"a forked process ends it", "authenticate fork end descriptors", []string{works, ends, clean}},
		{"both go on", "authenticate fork authenticate thread authenticate end", []string{works, works, works, ends}},
		{"it refuses, and leaves an answer that is none", "conv=dirty authenticate env=GOT end descriptors", []string{works, got, ends, clean}},
		{"it replaces the conversation meanwhile", "authenticate conv=null authenticate env=GOT end descriptors", []string{works, works, got, ends, clean}},
		{"it asks for another user", "authenticate user=bob authenticate end descriptors", []string{works, works, ends, clean}},
		{"it ends nothing", "authenticate", []string{works}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := on(t, sanitized())
			s.env = append(s.env, "ASAN_OPTIONS=detect_leaks=0") // a process that ends nothing has leaks
			s.fake("answers")
			s.stack("", asks)
			want(t, s.run("anna", strings.Fields(test.words)...), test.want...)
		})
	}
	t.Run("the helper has gone meanwhile", func(t *testing.T) {
		s := on(t, sanitized())
		s.fake("answers-and-leaves") // before it answers, so that what is said next meets no helper
		s.stack("", asks)
		want(t, s.run("anna", "authenticate", "authenticate", "env=GOT", "end", "descriptors"), works, works, got, ends, clean)
	})
	t.Run("a broker that comes back is asked again", func(t *testing.T) {
		s := on(t, sanitized())
		s.fake("loses-once")
		s.stack("", asks)
		want(t, s.run("anna", "authenticate", "env=GOT", "end"), works, got, ends)
	})
}

// TestTheProgramsOwnConversation has it answer where it can, and is what it was when
// the transaction ends.
func TestTheProgramsOwnConversation(t *testing.T) {
	for _, test := range []struct {
		name, options, probe, words string
		want                        []string
	}{
		{"it answers", "", asks, "conv=answer,own authenticate env=GOT end",
			[]string{"authenticate PAM_SUCCESS", "GOT own", "end PAM_SUCCESS"}},
		{"it refuses", "", asks, "authenticate env=GOT end",
			[]string{"authenticate PAM_SUCCESS", "GOT secret", "end PAM_SUCCESS"}},
		{"it comes second", "fallback", asks, "conv=answer,own authenticate env=GOT end",
			[]string{"authenticate PAM_SUCCESS", "GOT secret", "end PAM_SUCCESS"}},
		{"it says that it worked, and answers nothing", "", asks, "conv=nothing authenticate env=GOT end",
			[]string{"authenticate PAM_SUCCESS", "GOT secret", "end PAM_SUCCESS"}},
		{"it hears texts", "", "auth:info=hello auth:error=no", "conv=nothing authenticate end",
			[]string{"told hello", "told no", "authenticate PAM_SUCCESS", "end PAM_SUCCESS"}},
		{"it hears none that the broker has", "fallback", "auth:info=hello", "conv=nothing authenticate end",
			[]string{"authenticate PAM_SUCCESS", "end PAM_SUCCESS"}},
		{"a batch that it refuses is the broker's as a whole", "", "auth:batch=info,hello|secret,P:|error,no|visible,Q: auth:export=GOT", "authenticate env=GOT end",
			[]string{"authenticate PAM_SUCCESS", "GOT secret", "end PAM_SUCCESS"}},
		{"a style that nobody knows", "", "auth:ask=99,P:", "authenticate end",
			[]string{refusal, "end PAM_SUCCESS"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := on(t, sanitized())
			s.fake("answers")
			s.stack(test.options, test.probe)
			want(t, s.run("anna", strings.Fields(test.words)...), test.want...)
		})
	}
}

// TestAfterTheEnd has a module of the stack talk when ours has gone already.
func TestAfterTheEnd(t *testing.T) {
	s := on(t, sanitized())
	s.fake("answers")
	s.stack("fallback", "auth:ask=secret,P:")
	text, err := os.ReadFile(filepath.Join(s.stacks, "test"))
	if err != nil {
		t.Fatal(err)
	}
	before := "auth required " + modules.Probe(t) + " [auth:at-end=good bye]\n"
	if err := os.WriteFile(filepath.Join(s.stacks, "test"), append([]byte(before), text...), 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, s.run("anna", "conv=nothing", "authenticate", "end", "descriptors"),
		"authenticate PAM_SUCCESS", "told good bye", "end PAM_SUCCESS", "descriptors 0")
}

// TestOptionsThatAreWrong are said to be, and change nothing.
func TestOptionsThatAreWrong(t *testing.T) {
	const says = "log err pam_pamprompt(test:auth): "
	for option, why := range map[string]string{
		"timeout=0":                    "timeout=0 is no number of seconds from 1 to 86400: it is taken for 120",
		"timeout=":                     "timeout= is no number of seconds from 1 to 86400: it is taken for 120",
		"timeout=-1":                   "timeout=-1 is no number of seconds from 1 to 86400: it is taken for 120",
		"timeout=5s":                   "timeout=5s is no number of seconds from 1 to 86400: it is taken for 120",
		"timeout=86401":                "timeout=86401 is no number of seconds from 1 to 86400: it is taken for 120",
		"timeout=99999999999999999999": "timeout=99999999999999999999 is no number of seconds from 1 to 86400: it is taken for 120",
		"fallback=yes":                 "there is no option fallback=yes: there are service=, reason=, timeout=, fallback, quiet and debug",
		"Quiet":                        "there is no option Quiet: there are service=, reason=, timeout=, fallback, quiet and debug",
	} {
		t.Run(option, func(t *testing.T) {
			s := on(t, sanitized())
			s.fake("answers")
			s.stack(option, asks)
			want(t, s.run("anna", "authenticate", "end"), says+why, "authenticate PAM_SUCCESS", "end PAM_SUCCESS")
		})
	}
}
