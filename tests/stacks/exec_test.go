// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// rest is pam_permit for the groups that a test is not about.
func rest(groups ...string) string {
	var b strings.Builder
	for _, group := range groups {
		b.WriteString(group + " required pam_permit.so\n")
	}
	return b.String()
}

// script writes a shell script and returns how a stack runs it by pam_exec.
func script(t *testing.T, name, text string) string {
	t.Helper()
	return " /bin/sh " + write(t, filepath.Join(t.TempDir(), name), text)
}

// TestTheAnswerArrives has pam_exec write down what it was given. It takes 511
// bytes at most; some versions put a NUL after them.
func TestTheAnswerArrives(t *testing.T) {
	got := filepath.Join(t.TempDir(), "got")
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{"exec": "auth required " + modules.System(t, "pam_exec") +
		" expose_authtok quiet" + script(t, "keep", "umask 077\ncat > "+got+"\n") + "\n" +
		rest("auth", "account", "password", "session")}})
	for _, test := range []struct{ name, answer string }{
		{"a word", "horse"},
		{"nothing", ""},
		{"one space", " "},
		{"spaces and tabs around words", "  correct \t horse \t "},
		{"a line end in the middle and one at the end", "correct\nhorse\n"},
		{"what a shell would take for its own", `$(id) "$HOME" 'x' \n %s * ; & | #`},
		{"letters and signs of many languages", "pässwörd пароль 密码 🔑 \u200d\u0301"},
		{"bytes that are no UTF-8", "p\xe4ssw\xf6rd\xff\xfe\x80"},
		{"every byte but NUL", everyByte()},
		{"as much as pam_exec takes", strings.Repeat("äb c", 511/5) + "x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAgent(t, s.System)
			a.want(a.run("exec", "anna", api.Options{}, question(asksPassword, test.answer)), result{})
			if text := strings.TrimSuffix(read(t, got), "\x00"); text != test.answer {
				t.Errorf("pam_exec was given %q, not %q", text, test.answer)
			}
		})
	}
}

func everyByte() string {
	var b []byte
	for c := 1; c < 256; c++ {
		b = append(b, byte(c))
	}
	return string(b)
}

// What is longer than pam_exec takes goes to a module that has no limit.
func TestALongAnswerArrives(t *testing.T) {
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{"long": "auth required " + modules.Probe(t) +
		" [auth:ask=secret,Passphrase: ] auth:export=ANSWER\n" + rest("account", "password", "session")}})
	for _, test := range []struct{ name, answer string }{
		{"4096 bytes", strings.Repeat("ä 密\t", 4096/7) + "x"},
		{"nearly all of the environment", strings.Repeat("z", 60<<10)},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAgent(t, s.System)
			e := a.run("long", "anna", api.Options{}, question("secret Passphrase: ", test.answer))
			if !slices.Contains(e.Environment, "ANSWER="+test.answer) {
				t.Error("the environment does not have the answer")
			}
			a.want(e, result{})
		})
	}
}

// pam_exec exports what PAM knows of the caller to the command that it runs.
func TestWhatModulesSeeOfTheCaller(t *testing.T) {
	got := filepath.Join(t.TempDir(), "got")
	line := " required " + modules.System(t, "pam_exec") + script(t, "env", "env | grep ^PAM_ | sort > "+got+".$PAM_TYPE\n") + "\n"
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{
		"items": "auth" + line + "account" + line + "session" + line + rest("auth", "account", "password", "session"),
	}})
	full := api.Options{TTY: "tty9", Rhost: "host.example", Ruser: "mallory", XDisplay: ":7"}
	all := []string{"PAM_RHOST=host.example", "PAM_RUSER=mallory", "PAM_SERVICE=items", "PAM_TTY=tty9", "", "PAM_USER=anna"}
	few := []string{"PAM_SERVICE=items", "", "PAM_USER=anna"}
	for _, test := range []struct {
		name    string
		options api.Options
		want    []string
	}{
		{"all that can be said", full, all},
		{"nothing but the user and the service", api.Options{}, few},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAgent(t, s.System)
			a.want(a.run("items", "anna", test.options), result{})
			for _, kind := range []string{"auth", "account", "open_session", "close_session"} {
				want := slices.Clone(test.want)
				want[slices.Index(want, "")] = "PAM_TYPE=" + kind
				if got := strings.Fields(read(t, got+"."+kind)); !slices.Equal(got, want) {
					t.Errorf("%s sees %q, not %q", kind, got, want)
				}
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	conf := write(t, filepath.Join(dir, "conf"), "GREETING DEFAULT=\"hello world\"\nWHO OVERRIDE=@{PAM_USER}\nFROM DEFAULT=${LANG}/x\n")
	file := write(t, filepath.Join(dir, "file"), "EDITOR=ed\nPLACE=\"a b\"\n")
	env := modules.System(t, "pam_env") + " conffile=" + conf + " envfile=" + file + "\n"
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{
		"session":     rest("auth", "account", "password") + "session required " + env,
		"credentials": "auth required " + env + rest("auth", "account", "password", "session"),
	}})
	for _, test := range []struct {
		service string
		given   []string
		want    string
	}{
		{"session", nil, "EDITOR=ed FROM=/x GREETING=hello world PLACE=a b WHO=anna"},
		{"session", []string{"LANG=C.UTF-8", "EDITOR=vi"}, "EDITOR=ed FROM=C.UTF-8/x GREETING=hello world LANG=C.UTF-8 PLACE=a b WHO=anna"},
		{"credentials", []string{"ÜMLAUT=no"}, ""},
		{"credentials", []string{"UMLAUT=ä=ö"}, "EDITOR=ed FROM=/x GREETING=hello world PLACE=a b UMLAUT=ä=ö WHO=anna"},
	} {
		t.Run(test.service+" with "+strings.Join(test.given, " "), func(t *testing.T) {
			a := newAgent(t, s.System)
			if test.want == "" {
				if _, err := a.Open(within(t), test.service, "anna", api.Options{Environment: test.given}); err == nil {
					t.Error("it was taken")
				}
				return
			}
			e := a.run(test.service, "anna", api.Options{Environment: test.given})
			if got := strings.Join(e.Environment, " "); got != test.want {
				t.Errorf("the environment is\n%s\nnot\n%s", got, test.want)
			}
			a.want(e, result{})
		})
	}
}
