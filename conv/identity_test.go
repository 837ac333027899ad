// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

// asAnna makes anna the user, and her uid the one that policy allowed.
func asAnna(s *worker.Start) { s.User, s.UserUid = "anna", proto.Uint32(annaUID) }

// unknownUser is what is said of one, once PAM has started.
var unknownUser = []string{
	"entering authenticate 1", "entering end",
	"failed AuthenticationFailed 7 pam_authenticate: Authentication failure (PAM_AUTH_ERR)",
}

func TestModulesAreToldWhoOpensTheSession(t *testing.T) {
	for _, test := range []struct {
		name  string
		owner uint32
		ruser string
		want  string // PAM_RUSER; or how the session fails
	}{
		{"root says what it likes", 0, "otto", "PAM_RUSER=otto"},
		{"root need not say anything", 0, "", ""},
		{"an ordinary user is named", annaUID, "", "PAM_RUSER=anna"},
		{"an ordinary user is not believed", annaUID, "root", "PAM_RUSER=anna"},
		{"a user without an account opens nothing", 60009, "root", "failed PAMFailed 4 uid 60009, who opens the session, has no account"},
		{"a user whose name is a path opens nothing", 60002, "", `failed PAMFailed 4 look up who opens the session, uid 60002: "../root" is not`},
		{"a user whose name is two lines opens nothing", 60003, "", `failed PAMFailed 4 look up who opens the session, uid 60003: the name of a user has a control character`},
	} {
		t.Run(test.name, func(t *testing.T) {
			newEtc(t).write("passwd", "root:x:0:0::/:/bin/sh\nanna:x:60001:60000::/:/bin/sh\n../root:x:60002:0::/:/bin/sh\nr\x1bt:x:60003:0::/:/bin/sh\n")
			env := " required {exec} log={dir}/env type=%s /usr/bin/env"
			dir := stack(t, "auth"+fmt.Sprintf(env, "auth"), "auth required {permit}", "session"+fmt.Sprintf(env, "open_session"), "session required {permit}")
			said := play(t, dir, func(s *worker.Start) { s.Owner.Uid, s.Options.Ruser = test.owner, test.ruser })
			if strings.HasPrefix(test.want, "failed") {
				if last := said[len(said)-1]; !strings.HasPrefix(last, test.want) {
					t.Errorf("the worker ended with %q, not %q", last, test.want)
				}
				if _, err := os.Stat(filepath.Join(dir, "env")); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a module ran: %v", err)
				}
				return
			}
			var got []string
			for _, line := range lines(t, filepath.Join(dir, "env")) {
				if strings.HasPrefix(line, "PAM_RUSER=") {
					got = append(got, line)
				}
			}
			want := []string{test.want, test.want} // in both phases
			if test.want == "" {
				want = nil
			}
			if !slices.Equal(got, want) {
				t.Errorf("modules are told %q, not %q", got, want)
			}
		})
	}
}

func TestTheUserMustBeTheOneThatPolicyAllowed(t *testing.T) {
	accounts := func(t *testing.T) {
		newEtc(t).write("passwd", "root:x:0:0::/:/bin/sh\nanna:x:60001:60000::/:/bin/sh\nnone:x:4294967295:60000::/:/bin/sh\n")
	}
	dir := stack(t, "auth required {probe} auth:log={dir}/log auth:ask=secret,x")
	reference := play(t, stack(t, "auth required {probe} auth:result=PAM_USER_UNKNOWN"), func(s *worker.Start) { s.User = "nobody-has-this-name" })
	wantSaid(t, reference[1:], unknownUser...)
	for _, test := range []struct {
		name string
		user string
		uid  uint32
	}{
		{"another uid", "anna", 60002},
		{"root's uid", "anna", 0},
		{"a user whom NSS does not know", "otto", annaUID},
		{"a user whose uid is none", "none", annaUID},
	} {
		t.Run(test.name, func(t *testing.T) {
			accounts(t)
			said := play(t, dir, func(s *worker.Start) { s.User, s.UserUid = test.user, proto.Uint32(test.uid) })
			wantSaid(t, said[len(said)-len(unknownUser):], unknownUser...)
			if _, err := os.Stat(filepath.Join(dir, "log")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a module ran: %v", err)
			}
		})
	}
	t.Run("the right one", func(t *testing.T) {
		accounts(t)
		said := play(t, dir, asAnna, convtest.Answer("x"))
		if !slices.Contains(said, "opened []") || !slices.Contains(said, "resolved 60001") {
			t.Errorf("the worker said %q", said)
		}
	})
	t.Run("root, whose uid is 0 and not absent", func(t *testing.T) {
		said := play(t, dir, func(s *worker.Start) { s.UserUid = proto.Uint32(0) }, convtest.Answer("x"))
		if !slices.Contains(said, "opened []") {
			t.Errorf("the worker said %q", said)
		}
	})
}

// TestNSSThatChangesItsMind between two phases: the next one does not begin, and
// what was reached is undone.
func TestNSSThatChangesItsMind(t *testing.T) {
	const now = "root:x:0:0::/:/bin/sh\nanna:x:60005:60000::/:/bin/sh\n"
	for _, test := range []struct {
		in   string // the phase in which NSS changes, as the probe calls it
		said []string
	}{
		{"auth", []string{"entering account", "entering end"}},
		{"account", []string{"entering change-token", "entering end"}},
		{"chauthtok", []string{"entering credentials", "entering end"}},
		{"setcred", []string{"entering session", "entering delete-credentials", "entering end"}},
	} {
		t.Run("in "+test.in, func(t *testing.T) {
			e := newEtc(t)
			dir := stack(t, logged("account:result=PAM_NEW_AUTHTOK_REQD")...)
			ask(t, dir, test.in, "run="+dir+"/change")
			script(t, filepath.Join(dir, "change"), "cat > "+e.dir+"/passwd <<.\n"+now+".")
			said := play(t, dir, asAnna)
			at := slices.Index(said, test.said[0])
			if at < 0 {
				t.Fatalf("the worker said %q", said)
			}
			wantSaid(t, said[at:], append(test.said, unknownUser[2])...)
		})
	}
	t.Run("of a user whose uid policy need not know", func(t *testing.T) {
		e := newEtc(t)
		dir := stack(t, "auth required {probe} auth:run={dir}/change")
		script(t, filepath.Join(dir, "change"), "cat > "+e.dir+"/passwd <<.\n"+now+".")
		said := play(t, dir, func(s *worker.Start) { s.User = "anna" })
		if got, want := said[len(said)-1], "failed PAMFailed 4 initgroups: the uid of anna was 60001 and is 60005"; got != want {
			t.Errorf("the worker ended with %q, not %q", got, want)
		}
	})
}

// TestAModuleThatChangesTheUser, in whatever phase and whatever else it says,
// fails the session: that one user authenticates and PAM_USER is another one in
// the end was CVE-2024-9313.
func TestAModuleThatChangesTheUser(t *testing.T) {
	const changed = `failed PAMFailed 4 a module changed the user from "root" to "nobody"`
	for _, test := range []struct {
		name    string
		probe   []string
		pam     []string // what the module saw
		attempt uint32
		replies []convtest.Reply
		ended   string
	}{
		{name: "in pam_authenticate", probe: []string{"auth:setuser=nobody"}, pam: []string{"auth", "end 0"}},
		{
			name:  "in an attempt that failed, before one that works",
			probe: []string{"auth:setuser=nobody", "auth:ask=secret,x", "auth:expect=right"}, attempt: 2,
			replies: []convtest.Reply{convtest.Answer("wrong"), convtest.Answer("right")},
			pam:     []string{"auth", "auth", "end 0"},
		},
		{name: "in pam_acct_mgmt", probe: []string{"account:setuser=nobody"}, pam: []string{"auth", "account", "end 0"}},
		{
			name:  "in pam_acct_mgmt, with the wish for a new password",
			probe: []string{"account:setuser=nobody", "account:result=PAM_NEW_AUTHTOK_REQD"},
			pam:   []string{"auth", "account", "end 0"},
		},
		{
			name:  "in pam_chauthtok",
			probe: []string{"account:result=PAM_NEW_AUTHTOK_REQD", "chauthtok:setuser=nobody"},
			pam:   []string{"auth", "account", "chauthtok", "end 0"},
		},
		{name: "in pam_setcred", probe: []string{"setcred:setuser=nobody"}, pam: []string{"auth", "account", "setcred", "delcred", "end 0"}},
		{
			name: "in pam_open_session", probe: []string{"open:setuser=nobody"},
			pam: []string{"auth", "account", "setcred", "open", "close", "delcred", "end 0"},
		},
		{
			name: "to nobody at all", probe: []string{"auth:setuser="}, pam: []string{"auth", "end 0"},
			ended: `failed PAMFailed 4 a module changed the user from "root" to ""`,
		},
		{
			name: "to what C takes for the same", probe: []string{"auth:setuser=ROOT"}, pam: []string{"auth", "end 0"},
			ended: `failed PAMFailed 4 a module changed the user from "root" to "ROOT"`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := stack(t, logged(test.probe...)...)
			said := play(t, dir, options(func(o *worker.Options) { o.Attempts = max(1, test.attempt) }), test.replies...)
			want := changed
			if test.ended != "" {
				want = test.ended
			}
			if got := said[len(said)-1]; got != want {
				t.Errorf("the worker ended with %q, not %q", got, want)
			}
			if got := lines(t, filepath.Join(dir, "log")); !slices.Equal(got, test.pam) {
				t.Errorf("the module saw %q, not %q", got, test.pam)
			}
		})
	}
}

// TestASessionHasTheGroupsOfItsUser and none of root's, whenever the user comes
// to be: a first session had root's group when that stood in the record that NSS
// had before the user was authenticated (CVE-2025-5689).
func TestASessionHasTheGroupsOfItsUser(t *testing.T) {
	const (
		root  = "root:x:0:0::/:/bin/sh\n"
		users = root + "anna:x:60001:60000::/:/bin/sh\n"
		guess = root + "anna:x:60001:0::/:/bin/sh\n"
		group = "root:x:0:\nadm:x:4:\nusers:x:60000:\nstaff:x:60010:anna\nbackup:x:60011:root,anna\n"
	)
	for _, test := range []struct {
		name   string
		before string // /etc/passwd at first
		in     string // when it becomes users, as the probe calls the phase
		groups string
	}{
		{"who was always there", users, "auth", "60000 60010 60011"},
		{"for whom NSS had guessed root's group", guess, "auth", "60000 60010 60011"},
		{"who exists from pam_authenticate on", root, "auth", "60000 60010 60011"},
		{"who exists from pam_acct_mgmt on", root, "account", "60000 60010 60011"},
		{"who exists from pam_setcred on, too late", root, "setcred", ""},
		{"who never exists", root, "never", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEtc(t)
			e.write("passwd", test.before)
			e.write("group", group)
			// The worker starts with groups of root's, as a service may.
			if err := unix.Setgroups([]int{0, 4, 42, 60011}); err != nil {
				t.Fatal(err)
			}
			change := "required {probe} " + test.in + ":run={dir}/change"
			dir := stack(t, "auth "+change, "account "+change, "session required {exec} type=open_session {dir}/groups", "session required {permit}")
			script(t, filepath.Join(dir, "change"), "cat > "+e.dir+"/passwd <<.\n"+users+".")
			script(t, filepath.Join(dir, "groups"), "grep ^Groups: /proc/self/status > "+dir+"/command")
			_, process, peer := run(t, dir)
			peer.Start(convtest.Start("test", "anna"))
			for peer.Next().GetOpened() == nil {
			}
			for who, path := range map[string]string{
				"modules":            fmt.Sprintf("/proc/%d/task/%d/status", process.Pid, process.Pid),
				"a module's command": filepath.Join(dir, "command"),
			} {
				if got := groupsIn(t, path); got != test.groups {
					t.Errorf("%s have the groups %q, not %q", who, got, test.groups)
				}
			}
			peer.Close()
			convtest.Continue(peer)
			process.Wait()
		})
	}
}

// groupsIn is what a /proc/PID/status says of supplementary groups.
func groupsIn(t testing.TB, path string) string {
	t.Helper()
	for _, line := range lines(t, path) {
		if groups, ok := strings.CutPrefix(line, "Groups:"); ok {
			return strings.TrimSpace(groups)
		}
	}
	t.Fatalf("%s says nothing about groups", path)
	return ""
}
