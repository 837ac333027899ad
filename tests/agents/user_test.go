// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
)

// userBench is a system where nobody has a runtime directory, and questions
// about nobody go there too.
type userBench struct {
	*stage
	runtime string
	dir     string // of the user's requests
}

func startForUsers(t *testing.T) *userBench {
	t.Helper()
	b := start(t, options{
		stacks: map[string]string{
			"one": asks(t, "ask=secret,Password: ; export=ANSWER"),
			"two": asks(t, "ask=secret,Password: ", "ask=visible,Code: ; export=ANSWER"),
		},
		args: []string{"--user-ask-password=yes"},
	})
	u := &userBench{stage: b, runtime: filepath.Join(b.run, "user", fmt.Sprint(nobody))}
	u.dir = filepath.Join(u.runtime, "systemd", "ask-password")
	b.must(os.MkdirAll(u.runtime, 0o755), os.Chown(u.runtime, nobody, nobody), os.Chmod(u.runtime, 0o700))
	return u
}

// about opens a session for a user, and returns its prompt and the request for
// the system's agents.
func (u *userBench) about(user string, o api.Options) (*api.Session, api.Prompt, request) {
	u.t.Helper()
	s, err := u.bus.Open(within(u.t), "one", user, o)
	if err != nil {
		u.t.Fatal(err)
	}
	return s, u.bus.promptOf(s), u.request()
}

// theirs waits for the request in the user's own directory.
func (u *userBench) theirs() request {
	u.t.Helper()
	for _, dir := range []string{filepath.Dir(u.dir), u.dir} {
		until(u.t, filepath.Dir(dir), func() bool { _, err := os.Stat(dir); return err == nil })
	}
	return requestsIn(u.t, u.dir, 1)[0]
}

func TestAUsersOwnAgentIsAskedToo(t *testing.T) {
	u := startForUsers(t)
	for _, test := range []struct {
		name    string
		end     func(s *api.Session, p api.Prompt, system, user request)
		outcome string
		answer  string
	}{
		{"the user's agent answers", func(_ *api.Session, _ api.Prompt, _, user request) {
			cmd := u.commandAs(nobody, replyPassword, "1", user.Socket)
			cmd.Stdin = strings.NewReader("by the user\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}, api.OutcomeAnswered, "by the user"},
		{"the user's agent cancels", func(_ *api.Session, _ api.Prompt, _, user request) {
			if out, err := u.commandAs(nobody, replyPassword, "0", user.Socket).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}, api.OutcomeCancelled, ""},
		{"an agent of the system answers", func(_ *api.Session, _ api.Prompt, system, _ request) {
			u.reply(system, "1", "by root\n")
		}, api.OutcomeAnswered, "by root"},
		{"D-Bus answers", func(_ *api.Session, p api.Prompt, _, _ request) { u.bus.answer(p, "over D-Bus") }, api.OutcomeAnswered, "over D-Bus"},
		{"D-Bus cancels", func(_ *api.Session, p api.Prompt, _, _ request) { u.bus.cancel(p) }, api.OutcomeCancelled, ""},
		{"the session is closed", func(s *api.Session, _ api.Prompt, _, _ request) { u.bus.end(s) }, api.OutcomeSessionClosed, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			u.during(t)
			s, p, system := u.about("nobody", api.Options{Timeout: time.Minute})
			user := u.theirs()
			u.wantSame(system, user)
			test.end(s, p, system, user)
			u.bus.closed(p, test.outcome)
			system.wantGone(t)
			user.wantGone(t)
			if test.answer == "by the user" {
				u.wantAudited("event=answer", fmt.Sprintf("prompt=%d", p.ID), "channel=user-agent", fmt.Sprintf("caller-uid=%d", nobody))
			}
			if test.outcome == api.OutcomeAnswered {
				if got := u.bus.opened(s); got != test.answer {
					t.Errorf("the module got %q", got)
				}
			}
		})
	}
}

// wantSame checks that the user's request says what the system's says, and is
// the user's.
func (u *userBench) wantSame(system, user request) {
	u.t.Helper()
	want := user.Request
	want.Socket, want.PID = system.Socket, system.PID
	if want != system.Request || user.PID == system.PID || user.Socket != fmt.Sprintf("/run/user/%d/systemd/ask-password/%s", nobody, filepath.Base(user.socket)) {
		u.t.Errorf("the system is asked %+v\nand the user      %+v", system.Request, user.Request)
	}
	for path, mode := range map[string]os.FileMode{
		user.path: 0o644, user.socket: 0o600 | os.ModeSocket, u.dir: 0o755 | os.ModeDir, filepath.Dir(u.dir): 0o755 | os.ModeDir,
	} {
		st, err := os.Lstat(path)
		if err != nil {
			u.t.Fatal(err)
		}
		if owner := st.Sys().(*syscall.Stat_t); st.Mode() != mode || owner.Uid != nobody || owner.Gid != nobody {
			u.t.Errorf("%s has mode %v and belongs to %d:%d", path, st.Mode(), owner.Uid, owner.Gid)
		}
	}
}

// An agent that looks into the user's directory, run by the user. Where systemd
// is older than that, the directory stands in the place of the system's.
func TestAnAgentOfTheUserOnATerminal(t *testing.T) {
	needs(t, ttyAgent, "setpriv")
	u := startForUsers(t)
	s, p, _ := u.about("nobody", api.Options{})
	user := u.theirs()
	a := u.at("sh", "-c", "mount --bind "+filepath.Dir(user.Socket)+" /run/systemd/ask-password && "+
		"exec setpriv --reuid=65534 --regid=65534 --clear-groups "+ttyAgent+" --query")
	a.see("nobody (one): Password:" + hint)
	a.press("by the user\n")
	u.bus.closed(p, api.OutcomeAnswered)
	a.ended()
	if got := u.bus.opened(s); got != "by the user" {
		t.Errorf("the module got %q", got)
	}
}

// Each question of a session is a request of its own.
func TestAUsersAgentIsAskedEveryQuestion(t *testing.T) {
	u := startForUsers(t)
	s, err := u.bus.Open(within(t), "two", "nobody", api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range []string{"nobody (two): Password:", "nobody (two): Code:"} {
		p, r := u.bus.promptOf(s), u.theirs()
		if r.Message != message || r.Echo != (p.Style == api.StyleVisible) {
			t.Errorf("the user is asked %+v", r.Request)
		}
		r.say(t, "+"+message)
		u.bus.closed(p, api.OutcomeAnswered)
		r.wantGone(t)
	}
	if got := u.bus.opened(s); got != "nobody (two): Code:" {
		t.Errorf("the module got %q", got)
	}
}

func TestWhoHasNoAgentsOfTheirOwn(t *testing.T) {
	u := startForUsers(t)
	for _, test := range []struct {
		name, user string
		options    api.Options
	}{
		{"root, whose agents are those of the system", "root", api.Options{}},
		{"a user without a runtime directory", "daemon", api.Options{}},
		{"a user whom nobody knows", "anna", api.Options{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			u.during(t)
			s, p, _ := u.about(test.user, test.options)
			u.bus.answer(p, "over D-Bus")
			u.bus.opened(s)
			all, err := filepath.Glob(u.run + "/user/*/*")
			if err != nil || len(all) > 0 {
				t.Errorf("there is %q: %v", all, err)
			}
		})
	}
	t.Run("a session that asks no agents", func(t *testing.T) {
		u.during(t)
		s, err := u.bus.Open(within(t), "one", "nobody", api.Options{AskPassword: api.AskPasswordNo})
		if err != nil {
			t.Fatal(err)
		}
		u.bus.answer(u.bus.promptOf(s), "over D-Bus")
		u.bus.opened(s)
		if _, err := os.Lstat(filepath.Dir(u.dir)); !os.IsNotExist(err) {
			t.Errorf("there is something: %v", err)
		}
	})
}

// A user who puts a link where the directory should be leads us nowhere.
func TestALinkInTheUsersDirectoryIsNotFollowed(t *testing.T) {
	for _, link := range []string{"systemd", "systemd/ask-password"} {
		t.Run(link, func(t *testing.T) {
			u := startForUsers(t)
			elsewhere := filepath.Join(u.run, "elsewhere")
			path := filepath.Join(u.runtime, link)
			u.must(os.MkdirAll(filepath.Join(elsewhere, "ask-password"), 0o777), os.Chmod(elsewhere, 0o777),
				os.Chmod(filepath.Join(elsewhere, "ask-password"), 0o777),
				os.MkdirAll(filepath.Dir(path), 0o755), os.Chown(filepath.Dir(path), nobody, nobody),
				os.Symlink("/run/elsewhere", path), os.Lchown(path, nobody, nobody))
			s, p, r := u.about("nobody", api.Options{})
			u.logged("a question does not stand in the user's own ask-password directory")
			u.reply(r, "1", "by root\n")
			u.bus.closed(p, api.OutcomeAnswered)
			u.bus.opened(s)
			if left := append(names(t, elsewhere, "ask."), names(t, filepath.Join(elsewhere, "ask-password"), "")...); len(left) > 0 {
				t.Errorf("it was followed: %q", left)
			}
		})
	}
}

// The user's request is the worker's, and needs no broker. One that a killed
// worker left is swept by another.
func TestAUsersRequestWhileThereIsNoBroker(t *testing.T) {
	u := startForUsers(t)
	s, _, _ := u.about("nobody", api.Options{Linger: true})
	user := u.theirs()
	u.Kill(t)
	user.say(t, "+by the user")
	u.Restart(t)
	if got := u.bus.opened(s); got != "by the user" {
		t.Errorf("the module got %q", got)
	}
	user.wantGone(t)

	s, p, _ := u.about("nobody", api.Options{})
	user = u.theirs()
	u.killWorker(s)
	u.bus.closed(p, api.OutcomeSessionClosed)
	until(t, u.dir, user.gone)
	s, p, _ = u.about("nobody", api.Options{})
	again := u.theirs()
	u.bus.answer(p, "over D-Bus")
	u.bus.opened(s)
	again.wantGone(t)
}

// The user's request goes with the system's when somebody on D-Bus may answer.
func TestAUsersAgentAsAFallback(t *testing.T) {
	u := startForUsers(t)
	u.bus.leave()
	s, err := u.bus.Open(within(t), "one", "nobody", api.Options{AskPassword: api.AskPasswordFallback})
	if err != nil {
		t.Fatal(err)
	}
	first, user := u.request(), u.theirs()
	other := u.listen()
	first.wantGone(t)
	until(t, u.dir, user.gone) // the worker is told, and not waited for
	other.leave()
	u.anotherThan(first)
	second := requestsIn(t, u.dir, 1)[0]
	second.say(t, "+by the user")
	if got := u.bus.opened(s); got != "by the user" {
		t.Errorf("the module got %q", got)
	}
	second.wantGone(t)
}
