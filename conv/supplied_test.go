// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

// supplies writes a directory of credentials.
func supplies(t testing.TB, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

// playSupplied is play with credentials. It returns the log, too.
func playSupplied(t testing.TB, credentials, dir string, change func(*worker.Start), replies ...convtest.Reply) (said []string, log string) {
	t.Helper()
	_, process, peer := run(t, dir, "--credentials", credentials)
	if change == nil {
		change = func(*worker.Start) {}
	}
	said = convtest.Play(peer, convtest.Start("test", "root", change), replies...)
	if end := process.Wait(); end != "exit status 0" {
		t.Errorf("the worker ended with %s", end)
	}
	return said, process.Log()
}

const (
	askOnce = "auth required {probe} [auth:ask=secret,Password: ] auth:export=A"
	used    = `msg="a credential answered the first secret question" session=4711 credential=`
	unused  = `msg="a credential cannot be used" session=4711 credential=`
)

func TestWhichCredentialAnswers(t *testing.T) {
	long := strings.Repeat("x", secret.Max)
	for _, test := range []struct {
		name   string
		files  map[string]string
		answer string // what the module got; empty when people were asked
		log    string // part of it; empty when nothing is said
	}{
		{"there is none", nil, "", ""},
		{"the one for the user", map[string]string{"pamprompt.test.root": "s3cret"}, "s3cret", used + "pamprompt.test.root"},
		{"the one for the service", map[string]string{"pam.authtok.test": "s3cret"}, "s3cret", used + "pam.authtok.test"},
		{"the one for the user comes first", map[string]string{"pamprompt.test.root": "s3cret", "pam.authtok.test": "other"}, "s3cret", used + "pamprompt.test.root"},
		{"those of others do not count", map[string]string{"pamprompt.test.anna": "a", "pamprompt.login.root": "b", "pam.authtok.login": "c", "pam.authtok": "d"}, "", ""},
		{"one newline at the end is none of it", map[string]string{"pam.authtok.test": "s3cret\n"}, "s3cret", used},
		{"a second newline is", map[string]string{"pam.authtok.test": "s3cret\n\n"}, "s3cret\n", used},
		{"a space at the end is", map[string]string{"pam.authtok.test": "s3cret "}, "s3cret ", used},
		{"the first of several candidates", map[string]string{"pam.authtok.test": "s3cret\x00other\x00"}, "s3cret", used},
		{"an empty one is as good as none", map[string]string{"pamprompt.test.root": "", "pam.authtok.test": "s3cret"}, "s3cret", used + "pam.authtok.test"},
		{"so is one of a newline", map[string]string{"pamprompt.test.root": "\n"}, "", ""},
		{"and one that begins with a NUL", map[string]string{"pamprompt.test.root": "\x00s3cret"}, "", ""},
		{"one that is too long ends the search", map[string]string{"pamprompt.test.root": long + "x", "pam.authtok.test": "other"}, "", unused + "pamprompt.test.root"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var replies []convtest.Reply
			want := []string{"entering start", "resolved 0", "entering authenticate 1"}
			answer := test.answer
			if answer == "" {
				answer = "by hand"
				replies = append(replies, convtest.Answer(answer))
				want = append(want, "prompt 0 secret Password: ", "taken 0")
			}
			want = append(want, "entering account", "entering credentials", "entering session", "opened [A="+answer+"]",
				"entering close-session", "entering delete-credentials", "entering end", "closed 0")
			said, log := playSupplied(t, supplies(t, test.files), stack(t, askOnce), nil, replies...)
			wantSaid(t, said, want...)
			if says := strings.Contains(log, "credential"); says != (test.log != "") || !strings.Contains(log, test.log) {
				t.Errorf("the log is %s", log)
			}
			if strings.Contains(log, "s3cret") || strings.Contains(log, long) || strings.Contains(log, "other") {
				t.Error("the log has the secret")
			}
		})
	}
}

func TestCredentialsThatAreNoFiles(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(t *testing.T, dir, path string)
		log  string
	}{
		{"a link", func(t *testing.T, dir, path string) {
			write(t, filepath.Join(dir, "elsewhere"), "s3cret")
			if err := os.Symlink("elsewhere", path); err != nil {
				t.Fatal(err)
			}
		}, "too many levels of symbolic links"},
		{"a pipe that nobody writes to", func(t *testing.T, _, path string) { fifo(t, path) }, "it is no regular file"},
		{"a directory", func(t *testing.T, _, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "it is no regular file"},
		{"a device", func(t *testing.T, _, path string) {
			if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))); err != nil {
				t.Skipf("only root makes devices: %v", err)
			}
		}, "it is no regular file"},
	} {
		t.Run(test.name+" is not read", func(t *testing.T) {
			dir := supplies(t, map[string]string{"pam.authtok.test": "other"})
			test.make(t, dir, filepath.Join(dir, "pamprompt.test.root"))
			said, log := playSupplied(t, dir, stack(t, askOnce), nil, convtest.Answer("by hand"))
			if !slices.Contains(said, "opened [A=by hand]") || !strings.Contains(log, unused) || !strings.Contains(log, test.log) {
				t.Errorf("the worker said %q, and in the log %s", said, log)
			}
		})
	}
}

func TestDirectoriesOfNoCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for _, test := range []struct{ name, dir, log string }{
		{"one that is gone", file + ".not", ""},
		{"a relative path", "credentials", "their directory is no absolute path"},
		{"a file", file, "not a directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			said, log := playSupplied(t, test.dir, stack(t, askOnce), nil, convtest.Answer("by hand"))
			if !slices.Contains(said, "opened [A=by hand]") || strings.Contains(log, "credential") != (test.log != "") || !strings.Contains(log, test.log) {
				t.Errorf("the worker said %q, and in the log %s", said, log)
			}
		})
	}
}

func TestACredentialAnswersOnce(t *testing.T) {
	right := map[string]string{"pam.authtok.test": "right"}
	for _, test := range []struct {
		name    string
		probe   string
		files   map[string]string
		change  func(*worker.Start)
		replies []convtest.Reply
		said    []string // from authenticate on
	}{
		{
			name:    "the second secret question is for people, and is the second question",
			probe:   "[auth:ask=secret,Password: ] [auth:ask=secret,Code: ] auth:export=B",
			files:   right,
			replies: []convtest.Reply{convtest.Answer("123456")},
			said:    []string{"prompt 1 secret Code: ", "taken 1"},
		},
		{
			name:    "a question that is visible is for people, and leaves the credential for the secret one",
			probe:   "[auth:ask=visible,Name: ] [auth:ask=secret,Password: ] auth:expect=right [auth:ask=choice,Sure? ]",
			files:   right,
			replies: []convtest.Reply{convtest.Answer("root"), convtest.Answer("yes")},
			said:    []string{"prompt 0 visible Name: ", "taken 0", "prompt 2 choice Sure?  [yes no maybe]", "taken 2"},
		},
		{
			name:    "a wrong one does not answer in the next attempt",
			probe:   "[auth:ask=secret,Password: ] auth:expect=right",
			files:   map[string]string{"pam.authtok.test": "stale"},
			change:  options(func(o *worker.Options) { o.Attempts = 3 }),
			replies: []convtest.Reply{convtest.Answer("wrong"), convtest.Answer("right")},
			said: []string{
				"error Authentication failure", "entering authenticate 2",
				"prompt 1 secret Password:  after error Authentication failure", "taken 1",
				"error Authentication failure", "entering authenticate 3",
				"prompt 2 secret Password:  after error Authentication failure", "taken 2",
			},
		},
		{
			name:  "what was said before stands above the first question that people are asked",
			probe: "auth:info=Hello [auth:ask=secret,Password: ] auth:info=Fine [auth:ask=secret,Code: ] [auth:ask=secret,More: ]",
			files: right,
			replies: []convtest.Reply{
				convtest.Answer("1"), convtest.Answer("2"),
			},
			said: []string{
				"info Hello", "info Fine", "prompt 1 secret Code:  after info Hello after info Fine", "taken 1",
				"prompt 2 secret More: ", "taken 2",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			said, _ := playSupplied(t, supplies(t, test.files), stack(t, "auth required {probe} "+test.probe), test.change, test.replies...)
			at := slices.Index(said, "entering account")
			if at < 0 {
				t.Fatalf("the session did not open: %q", said)
			}
			wantSaid(t, said[3:at], test.said...)
		})
	}
}

func TestAWrongCredentialIsAnAttempt(t *testing.T) {
	said, _ := playSupplied(t, supplies(t, map[string]string{"pam.authtok.test": "stale"}),
		stack(t, "auth required {probe} [auth:ask=secret,Password: ] auth:expect=right"), nil)
	wantSaid(t, said[3:], "entering end", "failed AuthenticationFailed 7 pam_authenticate: Authentication failure (PAM_AUTH_ERR)")
}

// TestACredentialThatComesLate: the first question found none, so nobody looks
// again.
func TestACredentialThatComesLate(t *testing.T) {
	dir := supplies(t, nil)
	supplyAndAnswer := func(p *convtest.Peer, prompt *worker.Prompt) {
		write(t, filepath.Join(dir, "pam.authtok.test"), "late")
		p.Answer(prompt.GetIndex(), "first")
	}
	said, _ := playSupplied(t, dir, stack(t, "auth required {probe} auth:ask=secret,a auth:ask=secret,b auth:export=B"), nil,
		supplyAndAnswer, convtest.Answer("second"))
	if !slices.Contains(said, "opened [B=second]") {
		t.Errorf("the worker said %q", said)
	}
}

func TestWhoseSessionsACredentialAnswers(t *testing.T) {
	dir := supplies(t, map[string]string{"pam.authtok.test": "s3cret"})
	for _, test := range []struct {
		name   string
		owner  *worker.Owner
		answer string
	}{
		{"those of root", &worker.Owner{Name: ":1.1", Uid: 0}, "s3cret"},
		{"not those of an ordinary user", &worker.Owner{Name: ":1.1", Uid: 65534}, "by hand"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var replies []convtest.Reply
			if test.answer != "s3cret" {
				replies = append(replies, convtest.Answer(test.answer))
			}
			said, _ := playSupplied(t, dir, stack(t, askOnce), func(s *worker.Start) { s.Owner = test.owner }, replies...)
			if !slices.Contains(said, "opened [A="+test.answer+"]") {
				t.Errorf("the worker said %q", said)
			}
		})
	}
	for name, owner := range map[string]*worker.Owner{"without an owner": nil, "of the uid that is none": {Uid: ^uint32(0)}} {
		if newSupply(dir, &worker.Start{Service: "test", User: "root", Owner: owner}, quiet()) != nil {
			t.Errorf("a session %s gets the credential", name)
		}
	}
}

// TestAClosedSessionTakesNoCredential: every question fails then.
func TestAClosedSessionTakesNoCredential(t *testing.T) {
	s := newSession(quiet())
	if err := s.begin(convtest.Start("test", "root")); err != nil {
		t.Fatal(err)
	}
	s.refuse()
	dir := supplies(t, map[string]string{"pam.authtok.test": "s3cret"})
	c := &conversation{own: new(belongings), session: s, supply: newSupply(dir, s.start(), quiet())}
	if _, err := c.RespondPAM(pam.PromptEchoOff, "x"); err == nil || c.lost != worker.Outcome_OUTCOME_SESSION_CLOSED {
		t.Errorf("the question ended with %v: %v", c.lost, err)
	}
	if s.questions() != 0 {
		t.Errorf("%d questions were asked", s.questions())
	}
}

func TestTheLongestCredential(t *testing.T) {
	answer, err := readCredential(supplies(t, map[string]string{"x": strings.Repeat("x", secret.Max)}), "x")
	if err != nil || answer.Len() != secret.Max {
		t.Fatalf("%d bytes were read: %v", answer.Len(), err)
	}
	answer.Wipe()
}

func TestNamesThatNoCredentialHas(t *testing.T) {
	dir := supplies(t, map[string]string{"outside": "s3cret"})
	for _, name := range []string{strings.Repeat("x", maxCredential+1), "../" + filepath.Base(dir) + "/outside", "./outside", "outside\x00"} {
		if answer, err := readCredential(dir, name); answer != nil || err != nil {
			t.Errorf("%q is read: %v", name, err)
		}
	}
}
