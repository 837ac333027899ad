// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
)

const (
	forced   = "error You are required to change your password immediately (administrator enforced)."
	aged     = "error You are required to change your password immediately (password expired)."
	changing = "info Changing password for forced."

	asksCurrent = "secret Current password: "
	asksNew     = "secret New password: "
	asksRetype  = "secret Retype new password: "

	newPassword = "Battery-Stäple 9"
)

func TestAnExpiredPasswordIsChanged(t *testing.T) {
	s, etc := namespace(t, nil)
	for _, test := range []struct{ name, user, said string }{
		{"the administrator wants a new one", "forced", forced},
		{"it is too old", "old", aged},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, before, files := newAgent(t, s.System), entry(t, etc, test.user), accountFiles(t, etc)
			e := a.run("unix", test.user, api.Options{},
				question(asksPassword, password),
				turn{asksCurrent, password, []string{test.said, "info Changing password for " + test.user + "."}},
				question(asksNew, newPassword),
				question(asksRetype, newPassword))
			for i, phase := range []string{"authenticate", "change-token", "change-token", "change-token"} {
				if e.prompts[i].Phase != phase {
					t.Errorf("question %d came in phase %s, not %s", i, e.prompts[i].Phase, phase)
				}
			}
			a.want(e, result{})
			if after := entry(t, etc, test.user); after == before || !strings.HasPrefix(after, test.user+":$6$rounds=1000$") {
				t.Errorf("the entry was\n%sand is\n%s", before, after)
			}
			if accountFiles(t, etc) == files {
				t.Error("a checksum that does not see this watches over the machine's own /etc")
			}
			a.want(a.run("unix", test.user, api.Options{}, question(asksPassword, newPassword)), result{})
			a.want(a.run("unix", test.user, api.Options{}, question(asksPassword, password)), wrong)
		})
	}
}

func TestAnExpiredPasswordIsNotChanged(t *testing.T) {
	s, etc := namespace(t, nil)
	const weak = "error BAD PASSWORD: The password is shorter than 10 characters"
	proven := question(asksPassword, password)
	current := turn{asksCurrent, password, []string{forced, changing}}
	for _, test := range []struct {
		name   string
		turns  []turn
		result result
		said   []string
	}{
		{
			"the new one is weak, twice",
			[]turn{proven, current, question(asksNew, "abc"), {asksNew, "abd", []string{weak}}},
			result{api.AccountUnavailable, 11, "pam_chauthtok: Have exhausted maximum number of retries for service (PAM_MAXTRIES)"},
			[]string{forced, changing, weak, weak},
		},
		{
			"the two new ones differ, and then nobody knows a good one",
			[]turn{
				proven, current, question(asksNew, newPassword), question(asksRetype, "another"),
				{asksNew, "abc", []string{"error Sorry, passwords do not match."}},
			},
			result{api.AccountUnavailable, 11, "(PAM_MAXTRIES)"},
			[]string{forced, changing, "error Sorry, passwords do not match.", weak},
		},
		{
			"the current one is wrong", []turn{proven, {asksCurrent, "wrong", []string{forced, changing}}},
			result{api.AccountUnavailable, 7, "pam_chauthtok: Authentication failure (PAM_AUTH_ERR)"},
			[]string{forced, changing},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, before := newAgent(t, s.System), entry(t, etc, "forced")
			e := a.run("unix", "forced", api.Options{}, test.turns...)
			a.wantSaid(e, test.said...)
			a.want(e, test.result)
			if after := entry(t, etc, "forced"); after != before {
				t.Errorf("the entry was\n%sand is\n%s", before, after)
			}
		})
	}
}

func TestTheChangeOfAnExpiredPasswordIsCancelled(t *testing.T) {
	s, etc := namespace(t, nil)
	a, before := newAgent(t, s.System), entry(t, etc, "forced")
	session := a.open("unix", "forced", api.Options{})
	a.take(question(asksPassword, password), a.promptOf(session))
	a.take(turn{asksCurrent, password, []string{forced, changing}}, a.promptOf(session))
	if err := a.Cancel(within(t), a.promptOf(session).ID); err != nil {
		t.Fatal(err)
	}
	e := a.follow(session)
	a.want(e, result{api.Cancelled, e.PAMResult, "pam_chauthtok"})
	if after := entry(t, etc, "forced"); after != before {
		t.Errorf("the entry was\n%sand is\n%s", before, after)
	}
}
