// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
)

const asksPassword = "secret Password: "

// wrong is how a session ends whose user did not prove who he is.
var wrong = result{api.AuthenticationFailed, 7, "pam_authenticate: Authentication failure (PAM_AUTH_ERR)"}

func TestUnix(t *testing.T) {
	s, _ := namespace(t, nil)
	right, bad := question(asksPassword, password), question(asksPassword, "battery staple")
	again := turn{asksPassword, password, []string{"error Authentication failure"}}
	for _, test := range []struct {
		name     string
		user     string
		attempts uint32
		turns    []turn
		result   result
		said     []string
	}{
		{"the right password", "anna", 1, []turn{right}, result{}, nil},
		{"a password with a space at the end and more than ASCII", "odd", 1, []turn{question(asksPassword, oddPassword)}, result{}, nil},
		{"that password without its space", "odd", 1, []turn{question(asksPassword, "correct hörse")}, wrong, nil},
		{"a wrong password", "anna", 1, []turn{bad}, wrong, nil},
		{"an empty password", "anna", 1, []turn{question(asksPassword, "")}, wrong, nil},
		{"a user whom nobody knows", "nobody-knows", 1, []turn{right}, wrong, nil},
		{"the second attempt is right", "anna", 2, []turn{bad, again}, result{}, []string{"error Authentication failure"}},
		{"two attempts of a user whom nobody knows", "nobody-knows", 2, []turn{bad, again}, wrong, []string{"error Authentication failure"}},
		{"a locked password", "locked", 1, []turn{right}, wrong, nil},
		{"no password at all", "none", 1, []turn{right}, wrong, nil},
		{
			"an account that has expired", "gone", 1, []turn{right},
			result{api.AccountUnavailable, 13, "pam_acct_mgmt: User account has expired (PAM_ACCT_EXPIRED)"},
			[]string{"error Your account has expired; please contact your system administrator."},
		},
		{
			"a password that was not changed for too long", "idle", 1, []turn{right},
			result{api.AccountUnavailable, 27, "(PAM_AUTHTOK_EXPIRED)"},
			[]string{"error Your account has expired; please contact your system administrator."},
		},
		{
			"a password that expires soon", "warned", 1, []turn{right}, result{},
			[]string{"info Warning: your password will expire in 5 days."},
		},
		{
			"a user without an entry in the shadow file", "forgotten", 1, []turn{right},
			result{api.Unavailable, 9, "(PAM_AUTHINFO_UNAVAIL)"}, nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAgent(t, s.System)
			e := a.run("unix", test.user, api.Options{Attempts: test.attempts}, test.turns...)
			a.wantSaid(e, test.said...)
			a.want(e, test.result)
		})
	}
}

// What an agent and the opener see must not tell whether there is such a user.
// The uid is what NSS says of the name, and not of the answer.
func TestAnUnknownUserIsToldFromAWrongPasswordByNothing(t *testing.T) {
	s, _ := namespace(t, map[string]string{"locking": locking(t, t.TempDir(), 5)})
	again := turn{asksPassword, "x", []string{"error Authentication failure"}}
	for _, service := range []string{"unix", "locking"} {
		t.Run(service, func(t *testing.T) {
			a := newAgent(t, s.System)
			seen := func(user string) ending {
				return nameless(a.run(service, user, api.Options{Attempts: 3, Reason: "a test"}, question(asksPassword, "x"), again, again))
			}
			if known, unknown := seen("anna"), seen("nobody-knows"); !reflect.DeepEqual(known, unknown) {
				t.Errorf("a user who exists: %+v\none who does not: %+v", known, unknown)
			}
		})
	}
}

// nameless is an ending without what differs from session to session, and what
// is said of the name and not of the answer.
func nameless(e ending) ending {
	e.session, e.ID, e.User, e.UID = nil, 0, "", nil
	for i := range e.prompts {
		p := &e.prompts[i]
		p.ID, p.Session, p.Path, p.User, p.UID = 0, 0, "", "", nil
	}
	return e
}

// What an agent is told to judge a question by.
func TestDetailsOfAQuestion(t *testing.T) {
	s, etc := namespace(t, nil)
	a := newAgent(t, s.System)
	session := a.open("unix", "anna", api.Options{Reason: "nightly backup", Timeout: time.Hour, Agent: true})
	p := a.promptOf(session)
	if p.Service != "unix" || p.User != "anna" || p.Reason != "nightly backup" || p.Phase != "authenticate" || p.Source != "pam" ||
		p.Index != 0 || p.Attempt != 1 || p.Expires == 0 || len(p.Messages) != 0 || p.Style != api.StyleSecret {
		t.Errorf("the question is %+v", p)
	}
	if p.UID == nil || !strings.Contains(read(t, filepath.Join(etc, "passwd")), fmt.Sprintf("\nanna:x:%d:", *p.UID)) {
		t.Errorf("the uid is not that of /etc/passwd: %+v", p)
	}
	if p.OwnerUID == nil || *p.OwnerUID != uint32(os.Geteuid()) || p.OwnerPID != uint32(os.Getpid()) || p.OwnerComm == "" {
		t.Errorf("the owner is not this test: %+v", p)
	}
	a.reply(p.ID, password)
	a.want(a.follow(session), result{})
}
