// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

// everyPhase is what a worker says of a session of root that nothing asks in.
var everyPhase = []string{
	"entering start", "resolved 0", "entering authenticate 1", "entering account", "entering credentials",
	"entering session", "opened []", "entering close-session", "entering delete-credentials", "entering end", "closed 0",
}

// logged is a stack that writes down every phase, with more for the probe.
func logged(more ...string) []string {
	probe := " required {probe} auth:log={dir}/log setcred:log={dir}/log delcred:log={dir}/log account:log={dir}/log" +
		" chauthtok:log={dir}/log open:log={dir}/log close:log={dir}/log " + strings.Join(more, " ")
	return []string{"auth" + probe, "account" + probe, "password" + probe, "session" + probe}
}

func TestPhases(t *testing.T) {
	for _, test := range []struct {
		name   string
		probe  []string
		change func(*worker.Start)
		said   []string
		pam    []string // what the module saw; "end" has the last status
	}{
		{
			name: "everything works",
			said: everyPhase,
			pam:  []string{"auth", "account", "setcred", "open", "close", "delcred", "end 0"},
		},
		{
			name:   "only the phases that the caller names run",
			change: options(func(o *worker.Options) { o.Phases = []worker.Phase{worker.Phase_PHASE_SESSION} }),
			said: []string{
				"entering start", "resolved 0", "entering session", "opened []", "entering close-session", "entering end", "closed 0",
			},
			pam: []string{"open", "close", "end 0"},
		},
		{
			name:  "a failed authentication is undone by pam_end alone",
			probe: []string{"auth:result=PAM_AUTH_ERR"},
			said: []string{
				"entering start", "resolved 0", "entering authenticate 1", "entering end",
				"failed AuthenticationFailed 7 pam_authenticate: Authentication failure (PAM_AUTH_ERR)",
			},
			pam: []string{"auth", "end 7"},
		},
		{
			name:  "an unknown user looks like a wrong answer",
			probe: []string{"auth:result=PAM_USER_UNKNOWN"},
			said: []string{
				"entering start", "resolved 0", "entering authenticate 1", "entering end",
				"failed AuthenticationFailed 7 pam_authenticate: Authentication failure (PAM_AUTH_ERR)",
			},
			pam: []string{"auth", "end 10"},
		},
		{
			name:  "an account that expired",
			probe: []string{"account:result=PAM_ACCT_EXPIRED"},
			said: []string{
				"entering start", "resolved 0", "entering authenticate 1", "entering account", "entering end",
				"failed AccountUnavailable 13 pam_acct_mgmt: User account has expired (PAM_ACCT_EXPIRED)",
			},
			pam: []string{"auth", "account", "end 13"},
		},
		{
			name:  "a password that has to be changed, and is",
			probe: []string{"account:result=PAM_NEW_AUTHTOK_REQD"},
			said:  slices.Insert(slices.Clone(everyPhase), 4, "entering change-token"),
			pam:   []string{"auth", "account", "chauthtok", "setcred", "open", "close", "delcred", "end 0"},
		},
		{
			name:  "a password that has to be changed, and is not",
			probe: []string{"account:result=PAM_NEW_AUTHTOK_REQD", "chauthtok:result=PAM_AUTHTOK_ERR"},
			said: []string{
				"entering start", "resolved 0", "entering authenticate 1", "entering account", "entering change-token", "entering end",
				"failed AccountUnavailable 20 pam_chauthtok: Authentication token manipulation error (PAM_AUTHTOK_ERR)",
			},
			pam: []string{"auth", "account", "chauthtok", "end 20"},
		},
		{
			name:  "credentials that were not established are not deleted",
			probe: []string{"setcred:result=PAM_CRED_ERR"},
			said: []string{
				"entering start", "resolved 0", "entering authenticate 1", "entering account", "entering credentials", "entering end",
				"failed PAMFailed 17 pam_setcred: Failure setting user credentials (PAM_CRED_ERR)",
			},
			pam: []string{"auth", "account", "setcred", "end 17"},
		},
		{
			name:  "a session that did not open is not closed, and its credentials are deleted",
			probe: []string{"open:result=PAM_SESSION_ERR"},
			said: []string{
				"entering start", "resolved 0", "entering authenticate 1", "entering account", "entering credentials",
				"entering session", "entering delete-credentials", "entering end",
				"failed PAMFailed 14 pam_open_session: Cannot make/remove an entry for the specified session (PAM_SESSION_ERR)",
			},
			pam: []string{"auth", "account", "setcred", "open", "delcred", "end 0"},
		},
		{
			name:  "nobody is asked while a session that failed is torn down",
			probe: []string{"open:result=PAM_SESSION_ERR", "delcred:converr=PAM_SUCCESS", "delcred:ask=secret,x"},
			said: []string{
				"entering start", "resolved 0", "entering authenticate 1", "entering account", "entering credentials",
				"entering session", "entering delete-credentials", "entering end",
				"failed PAMFailed 14 pam_open_session: Cannot make/remove an entry for the specified session (PAM_SESSION_ERR)",
			},
			pam: []string{"auth", "account", "setcred", "open", "delcred", "end 0"},
		},
		{
			name:  "teardown goes on when a step of it fails",
			probe: []string{"close:result=PAM_SESSION_ERR", "delcred:result=PAM_CRED_ERR"},
			said: append(slices.Clone(everyPhase[:len(everyPhase)-1]),
				"closed 14 pam_close_session: Cannot make/remove an entry for the specified session (PAM_SESSION_ERR)"),
			pam: []string{"auth", "account", "setcred", "open", "close", "delcred", "end 17"},
		},
		{
			name:   "a user whom nobody knows is not resolved, and modules decide",
			change: func(s *worker.Start) { s.User = "nobody-has-this-name" },
			said:   slices.Delete(slices.Clone(everyPhase), 1, 2),
			pam:    []string{"auth", "account", "setcred", "open", "close", "delcred", "end 0"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := stack(t, logged(test.probe...)...)
			said := play(t, dir, test.change)
			wantSaid(t, said, test.said...)
			if got := lines(t, filepath.Join(dir, "log")); !slices.Equal(got, test.pam) {
				t.Errorf("the module saw %q, not %q", got, test.pam)
			}
		})
	}
}

func TestItemsAndEnvironmentReachTheModules(t *testing.T) {
	// pam_exec gives a command the items as variables.
	dir := stack(t, "session required {exec} seteuid log={dir}/env /usr/bin/env",
		"session required {env} conffile={dir}/pam_env.conf envfile=/dev/null", "auth required {probe} auth:putenv=B=from=module")
	write(t, filepath.Join(dir, "pam_env.conf"), "FROM_TTY DEFAULT=@{PAM_TTY}\n")
	said := play(t, dir, options(func(o *worker.Options) {
		o.Tty, o.Rhost, o.Ruser, o.Xdisplay = "tty7", "example.org", "anna", ":7"
		o.Environment = []string{"C=3", "A=a b"}
	}))
	if want := "opened [A=a b B=from=module C=3 FROM_TTY=tty7]"; !slices.Contains(said, want) {
		t.Errorf("the worker said %q, and not %q", said, want)
	}
	env := lines(t, filepath.Join(dir, "env"))
	for _, want := range []string{"PAM_TTY=tty7", "PAM_RHOST=example.org", "PAM_RUSER=anna", "PAM_USER=root", "PAM_SERVICE=test", "A=a b"} {
		if !slices.Contains(env, want) {
			t.Errorf("the command of pam_exec has no %s: %q", want, env)
		}
	}
}

func TestAnEnvironmentThatDoesNotFitFails(t *testing.T) {
	dir := stack(t, "session required {probe} open:putenv=A=$(x)", "auth required {probe} auth:ask=secret,Long: auth:export=LONG")
	var replies []convtest.Reply
	replies = append(replies, convtest.Answer(strings.Repeat("x", 64<<10)))
	said := play(t, dir, nil, replies...)
	if got, want := said[len(said)-1], "failed PAMFailed 4 the PAM environment is over 65536 bytes"; got != want {
		t.Errorf("the worker ended with %q, not %q", got, want)
	}
}

func TestAttempts(t *testing.T) {
	const ask = "auth required {probe} [auth:ask=secret,Password: ] auth:expect=right"
	wrong := "error Authentication failure"
	for _, test := range []struct {
		name    string
		stack   string
		answers []string
		said    []string // from authenticate on, up to the next phase
	}{
		{
			name:    "a second attempt that is right",
			stack:   ask,
			answers: []string{"wrong", "right"},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0", wrong,
				"entering authenticate 2", "prompt 1 secret Password:  after " + wrong, "taken 1",
				"entering account",
			},
		},
		{
			name:    "no attempt that is right",
			stack:   ask,
			answers: []string{"wrong", "wrong", "wrong"},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0", wrong,
				"entering authenticate 2", "prompt 1 secret Password:  after " + wrong, "taken 1", wrong,
				"entering authenticate 3", "prompt 2 secret Password:  after " + wrong, "taken 2",
				"entering end", "failed AuthenticationFailed 7 pam_authenticate: Authentication failure (PAM_AUTH_ERR)",
			},
		},
		{
			name:    "an unknown user gets as many",
			stack:   "auth required {probe} [auth:ask=secret,Password: ] auth:result=PAM_USER_UNKNOWN",
			answers: []string{"a", "b", "c"},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0", wrong,
				"entering authenticate 2", "prompt 1 secret Password:  after " + wrong, "taken 1", wrong,
				"entering authenticate 3", "prompt 2 secret Password:  after " + wrong, "taken 2",
				"entering end", "failed AuthenticationFailed 7 pam_authenticate: Authentication failure (PAM_AUTH_ERR)",
			},
		},
		{
			name:    "a module that says it is enough",
			stack:   "auth required {probe} [auth:ask=secret,Password: ] auth:result=PAM_MAXTRIES",
			answers: []string{"wrong"},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0",
				"entering end", "failed MaxTries 11 pam_authenticate: Have exhausted maximum number of retries for service (PAM_MAXTRIES)",
			},
		},
		{
			name:  "an attempt that asked nothing is the last",
			stack: "auth required {deny}",
			said: []string{
				"entering authenticate 1", "entering end",
				"failed AuthenticationFailed 7 pam_authenticate: Authentication failure (PAM_AUTH_ERR)",
			},
		},
		{
			name:    "a module that cannot check is no failed attempt",
			stack:   "auth required {probe} [auth:ask=secret,Password: ] auth:result=PAM_AUTHINFO_UNAVAIL",
			answers: []string{"right"},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0",
				"entering end", "failed Unavailable 9 pam_authenticate: Authentication service cannot retrieve authentication info (PAM_AUTHINFO_UNAVAIL)",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var replies []convtest.Reply
			for _, answer := range test.answers {
				replies = append(replies, convtest.Answer(answer))
			}
			said := play(t, stack(t, test.stack), options(func(o *worker.Options) { o.Attempts = 3 }), replies...)
			said = said[2:]
			if i := slices.Index(said, "entering account"); i >= 0 {
				said = said[:i+1]
			}
			wantSaid(t, said, test.said...)
		})
	}
}

func TestACancelledAttemptIsTheLast(t *testing.T) {
	dir := stack(t, "auth required {probe} auth:converr=PAM_AUTH_ERR [auth:ask=secret,Password: ]")
	said := play(t, dir, options(func(o *worker.Options) { o.Attempts = 3 }), convtest.Cancel)
	wantSaid(t, said[2:],
		"entering authenticate 1", "prompt 0 secret Password: ", "withdrawn 0 cancelled",
		"entering end", "failed Cancelled 7 a question of pam_authenticate was cancelled (PAM_AUTH_ERR)")
}

func TestAStartThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*worker.Start)
		text   string
	}{
		{"a service that is none", func(s *worker.Start) { s.Service = "none" }, `there is no PAM service "none": put a file of that name into `},
		{"a service that is a path", func(s *worker.Start) { s.Service = "../test" }, `"../test" is not the name of a PAM service`},
		{"a service that is a directory", func(s *worker.Start) { s.Service = ".." }, `".." is not the name of a PAM service`},
		{"a service that libpam would read as another", func(s *worker.Start) { s.Service = "Test" }, `the name of the PAM service "Test" has capital letters, which libpam takes for small ones: is it "test"?`},
		{"a service with a newline", func(s *worker.Start) { s.Service = "te\nst" }, `the name of a PAM service has a control character: "te\nst"`},
		{"a user that is a path", func(s *worker.Start) { s.User = "../root" }, `"../root" is not the name of a user`},
		{"a user with a newline", func(s *worker.Start) { s.User = "ro\not" }, `the name of a user has a control character: "ro\not"`},
		{"a phase that a caller cannot choose", options(func(o *worker.Options) { o.Phases = []worker.Phase{worker.Phase_PHASE_OPEN} }), "the phase 70 is none of authenticate"},
		{"a phase named twice", options(func(o *worker.Options) {
			o.Phases = []worker.Phase{worker.Phase_PHASE_SESSION, worker.Phase_PHASE_SESSION}
		}), "the phase session is named twice"},
		{"a locale that is a path", options(func(o *worker.Options) { o.Locale = "../de_DE" }), `"../de_DE" is not the name of a locale`},
		{"a locale that this system does not have", options(func(o *worker.Options) { o.Locale = "xx_XX.UTF-8" }), `this system has no locale "xx_XX.UTF-8"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			said := play(t, stack(t), test.change)
			if len(said) != 1 || !strings.HasPrefix(said[0], "failed InvalidArgument 0 "+test.text) {
				t.Errorf("the worker said %q, not InvalidArgument: %s", said, test.text)
			}
		})
	}
}

func TestALocaleThatIsThere(t *testing.T) {
	wantSaid(t, play(t, stack(t), options(func(o *worker.Options) { o.Locale = "C.UTF-8" })), everyPhase...)
}
