// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

// asked starts a session of nobody and waits for its first question, of a
// module with these arguments.
func asked(t testing.TB, probe string, change ...func(*worker.Start)) (*convtest.Process, *convtest.Peer) {
	t.Helper()
	_, process, peer := run(t, stack(t, "auth required {probe} "+probe))
	peer.Start(convtest.Start("test", "nobody", change...))
	peer.Expect("entering start", "resolved 65534", "entering authenticate 1")
	for peer.Next().GetPrompt() == nil {
	}
	return process, peer
}

// opens plays the rest of a session and fails the test unless it opens with
// this answer in A.
func opens(t testing.TB, peer *convtest.Peer, answer string) {
	t.Helper()
	if said := convtest.Continue(peer); !slices.Contains(said, "opened [A="+answer+"]") {
		t.Errorf("the worker said %q", said)
	}
}

const askSecret = "[auth:ask=secret,Password: ] auth:export=A"

func TestTheUsersAgentAnswers(t *testing.T) {
	for _, test := range []struct {
		name, probe, answer string
		echo                string
	}{
		{"a secret question", askSecret, "p w=ä", "0"},
		{"a visible question", "[auth:ask=visible,Password: ] auth:export=A", "anna", "1"},
		{"an empty answer", askSecret, "", "0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHome(t)
			process, peer := asked(t, "auth:info=Hello [auth:error=That was wrong] "+test.probe, options(func(o *worker.Options) {
				o.Reason, o.TimeoutUsec = "nightly backup", 3600e6
			}))
			peer.Mirror(0, true)
			file := h.posted()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			socket := h.socket(file)
			want := fmt.Sprintf("PID=%d\nSocket=%s\nAcceptCached=0\nEcho=%s\n", process.Pid, socket, test.echo) +
				"NotAfter=N\nSilent=0\nIcon=dialog-password\nId=pamprompt:test:nobody\n" +
				"Message=nobody (test, \"nightly backup\"): Hello. That was wrong. Password:\n"
			if got := regexp.MustCompile(`NotAfter=[1-9]\d+`).ReplaceAllString(string(text), "NotAfter=N"); got != "[Ask]\n"+want {
				t.Errorf("the request is\n%s\nnot\n%s", got, want)
			}
			if out := h.reply(nobody, "1", socket, test.answer); out != "" {
				t.Errorf("systemd-reply-password says %s", out)
			}
			peer.Expect("withdrawn 0 answered")
			h.empty()
			opens(t, peer, test.answer)
			if end := process.Wait(); end != "exit status 0" {
				t.Errorf("the worker ended with %s", end)
			}
			if log := process.Log(); test.answer != "" && strings.Contains(log, test.answer) {
				t.Error("the log has the answer")
			}
		})
	}
}

// TestWhatIsMadeIsTheUsers: the directories, the request and its socket.
func TestWhatIsMadeIsTheUsers(t *testing.T) {
	h := newHome(t)
	_, peer := asked(t, askSecret)
	peer.Mirror(0, true)
	file := h.posted()
	for path, mode := range map[string]os.FileMode{
		filepath.Dir(h.agents): os.ModeDir | 0o755,
		h.agents:               os.ModeDir | 0o755,
		file:                   0o644,
		h.socket(file):         os.ModeSocket | 0o600,
	} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		if st.Uid != nobody || st.Gid != nobody || info.Mode() != mode {
			t.Errorf("%s belongs to %d:%d and has the mode %v, not %v", path, st.Uid, st.Gid, info.Mode(), mode)
		}
	}
	if n := len(tree(t, h.agents)); n != 2 {
		t.Errorf("there are %d files", n)
	}
}

// TestOneThreadHasTheUsersIdentity, and that only for accesses to files: the
// user may not send it signals. It ends with the question.
func TestOneThreadHasTheUsersIdentity(t *testing.T) {
	h := newHome(t)
	process, peer := asked(t, askSecret)
	peer.Mirror(0, true)
	h.posted()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var theirs []int
	ids := regexp.MustCompile(`(?s)\nUid:\t0\t0\t0\t(\d+)\nGid:\t0\t0\t0\t(\d+)\n.*\nGroups:\t([^\n]*)\n`)
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		m := ids.FindStringSubmatch(string(text))
		switch {
		case m == nil:
			t.Errorf("%s: %s", list, text)
		case m[1] == "0" && m[2] == "0":
		case m[1] == "65534" && m[2] == "65534" && strings.TrimSpace(m[3]) == "" && !strings.Contains(list, fmt.Sprintf("/task/%d/", process.Pid)):
			thread, _ := strconv.Atoi(filepath.Base(filepath.Dir(list)))
			theirs = append(theirs, thread)
		default:
			t.Errorf("%s: %s", list, text)
		}
	}
	if len(theirs) != 1 {
		t.Fatalf("the threads %v have the user's identity", theirs)
	}
	thread, err := unix.PidfdOpen(theirs[0], unix.PIDFD_THREAD)
	if err != nil {
		t.Skipf("before Linux 6.9 nobody can wait for a thread: %v", err)
	}
	defer func() { _ = unix.Close(thread) }()
	peer.Answer(0, "x")
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(thread), Events: unix.POLLIN}}, 30_000); n != 1 {
		t.Errorf("the thread lives on: %v", err)
	}
}

// TestAReplyThatComesTooLate, when the broker has taken the copy back, counts
// for nothing.
func TestAReplyThatComesTooLate(t *testing.T) {
	s := newSession(quiet())
	if err := s.begin(convtest.Start("test", "nobody")); err != nil {
		t.Fatal(err)
	}
	q := s.ask(&worker.Prompt{Style: worker.Style_STYLE_SECRET})
	answer, err := secret.New(1)
	if err != nil {
		t.Fatal(err)
	}
	s.replied(&mirror{taken: true}, askpassword.Reply{Answer: answer})
	s.replied(&mirror{taken: true}, askpassword.Reply{})
	s.replied(&mirror{index: 1}, askpassword.Reply{})
	if len(q.reply) != 0 || answer.Len() != 0 {
		t.Errorf("%d replies were taken, and %d bytes are left", len(q.reply), answer.Len())
	}
}

func TestTheUsersAgentCancels(t *testing.T) {
	h := newHome(t)
	_, peer := asked(t, askSecret)
	peer.Mirror(0, true)
	h.reply(nobody, "0", h.socket(h.posted()), "")
	peer.Expect("withdrawn 0 cancelled")
	h.empty()
	wantSaid(t, convtest.Continue(peer), "entering end", "failed Cancelled 19 a question of pam_authenticate was cancelled (PAM_CONV_ERR)")
}

// TestTheEndOfAQuestion takes the files away before the broker hears of it.
func TestTheEndOfAQuestion(t *testing.T) {
	expires := options(func(o *worker.Options) { o.TimeoutUsec = 1e6 })
	for _, test := range []struct {
		name   string
		change func(*worker.Start)
		end    func(*convtest.Process, *convtest.Peer)
		said   string
	}{
		{"an answer", nil, func(_ *convtest.Process, p *convtest.Peer) { p.Answer(0, "x") }, "taken 0"},
		{"a cancel", nil, func(_ *convtest.Process, p *convtest.Peer) { p.Cancel(0) }, "withdrawn 0 cancelled"},
		{"its deadline", expires, func(*convtest.Process, *convtest.Peer) {}, "withdrawn 0 expired"},
		{"the end of the session", nil, func(_ *convtest.Process, p *convtest.Peer) { p.Close() }, "withdrawn 0 session-closed"},
		{"the end of the worker", nil, func(w *convtest.Process, _ *convtest.Peer) { w.Signal(unix.SIGTERM) }, "withdrawn 0 session-closed"},
	} {
		t.Run("by "+test.name, func(t *testing.T) {
			h := newHome(t)
			var changes []func(*worker.Start)
			if test.change != nil {
				changes = append(changes, test.change)
			}
			process, peer := asked(t, askSecret, changes...)
			peer.Mirror(0, true)
			h.posted()
			test.end(process, peer)
			peer.Expect(test.said)
			h.empty()
			convtest.Continue(peer)
			process.Wait()
			h.empty()
		})
	}
}

func TestTheBrokerTakesTheCopyBack(t *testing.T) {
	h := newHome(t)
	_, peer := asked(t, askSecret)
	peer.Mirror(0, false) // there is none
	peer.Mirror(0, true)
	first := h.posted()
	peer.Mirror(0, true) // stands already
	peer.Mirror(7, true) // is not asked yet
	peer.Mirror(7, false)
	peer.Answer(7, "x")
	peer.Expect("taken 7 NoSuchPrompt")
	if got := h.posted(); got != first {
		t.Errorf("%s became %s", first, got)
	}
	peer.Mirror(0, false)
	peer.Mirror(0, false)
	peer.Answer(7, "x")
	peer.Expect("taken 7 NoSuchPrompt")
	h.empty()
	peer.Mirror(0, true)
	h.reply(nobody, "1", h.socket(h.posted()), "late")
	peer.Expect("withdrawn 0 answered")
	peer.Mirror(0, true) // is over
	h.empty()
	opens(t, peer, "late")
}

func TestTheLoserHearsThatItLost(t *testing.T) {
	h := newHome(t)
	_, peer := asked(t, askSecret)
	peer.Mirror(0, true)
	h.reply(nobody, "1", h.socket(h.posted()), "first")
	peer.Expect("withdrawn 0 answered")
	peer.Answer(0, "second")
	for convtest.Describe(peer.Next()) != "taken 0 AlreadyAnswered" {
	}
}

// TestTheUserAnswersWhileTheBrokerIsAway, who finds the session open.
func TestTheUserAnswersWhileTheBrokerIsAway(t *testing.T) {
	h := newHome(t)
	broker, _, peer := run(t, stack(t, "auth required {probe} "+askSecret))
	peer.Start(convtest.Start("test", "nobody"))
	peer.Expect("entering start", "resolved 65534", "entering authenticate 1", "prompt 0 secret Password: ")
	peer.Mirror(0, true)
	socket := h.socket(h.posted())
	broker.Leave()
	peer.Leave()
	h.reply(nobody, "1", socket, "x")
	h.until("the question is gone", func() bool { return len(tree(t, h.agents)) == 0 })
	broker.Return()
	if got := broker.Accept().Hello.GetSession(); got.GetPrompt() != nil {
		t.Errorf("the question is still there: %s", convtest.DescribeSession(got))
	}
}

func TestQuestionsThatNoAgentCanShow(t *testing.T) {
	for _, style := range []string{"choice,Sure?", "binary,hex:0000000501"} {
		h := newHome(t).ready()
		_, peer := asked(t, "auth:ask="+style)
		peer.Mirror(0, true)
		peer.Answer(0, "")
		peer.Next()
		h.empty()
	}
}

func TestUsersWithoutADirectory(t *testing.T) {
	t.Run("root has that of the system", func(t *testing.T) {
		h := newHome(t)
		h.mkdir(runtimeDirs+"/0", 0)
		_, process, peer := run(t, stack(t, "auth required {probe} "+askSecret))
		peer.Start(convtest.Start("test", "root"))
		peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret Password: ")
		peer.Mirror(0, true)
		peer.Answer(0, "x")
		opens(t, peer, "x")
		process.Wait()
		if got := tree(t, runtimeDirs+"/0"); len(got) > 0 || strings.Contains(process.Log(), "WARN") {
			t.Errorf("there is %q, and in the log %s", got, process.Log())
		}
	})
	t.Run("somebody who is not logged in", func(t *testing.T) {
		h := newHome(t)
		h.must(unix.Unmount(h.dir, unix.MNT_DETACH))
		h.must(os.Remove(h.dir))
		process, peer := asked(t, askSecret)
		peer.Mirror(0, true)
		process.Says("level=DEBUG msg=\"the user has no runtime directory")
		peer.Answer(0, "x")
		opens(t, peer, "x")
		if strings.Contains(process.Log(), "WARN") {
			t.Errorf("the log is %s", process.Log())
		}
	})
}

// TestOnlyTheUserAnswers: others cannot write to the socket, and if they could,
// that would not count.
func TestOnlyTheUserAnswers(t *testing.T) {
	const somebody = 1
	h := newHome(t)
	process, peer := asked(t, askSecret)
	peer.Mirror(0, true)
	socket := h.socket(h.posted())
	h.must(os.Chmod(h.dir, 0o755))
	if out := h.reply(somebody, "1", socket, "wrong"); !strings.Contains(out, "Permission denied") {
		t.Errorf("systemd-reply-password says %q", out)
	}
	h.must(os.Chmod(socket, 0o666))
	if out := h.reply(somebody, "1", socket, "wrong"); out != "" {
		t.Errorf("systemd-reply-password says %q", out)
	}
	process.Says("it came from uid 1")
	h.reply(nobody, "1", socket, "right")
	peer.Expect("withdrawn 0 answered")
	opens(t, peer, "right")
}

// TestWhatAKilledWorkerLeaves is removed by the next one, and what belongs to
// others is not.
func TestWhatAKilledWorkerLeaves(t *testing.T) {
	h := newHome(t)
	killed, peer := asked(t, askSecret)
	peer.Mirror(0, true)
	left := h.posted()
	killed.Signal(unix.SIGKILL)
	killed.Wait()
	foreign := filepath.Join(h.agents, "ask.pamprompt-0000000000000000")
	write(t, foreign, "root's")
	_, peer = asked(t, askSecret)
	peer.Mirror(0, true)
	h.until("there is another question", func() bool {
		_, err := os.Lstat(left)
		found, _ := filepath.Glob(h.agents + "/ask.pamprompt-*")
		return errors.Is(err, os.ErrNotExist) && len(found) == 2
	})
	if text, err := os.ReadFile(foreign); err != nil || string(text) != "root's" {
		t.Errorf("what is not the user's is %q: %v", text, err)
	}
}

// TestOneWinner lets the user's agent and the broker answer at the same time.
func TestOneWinner(t *testing.T) {
	const rounds = 200
	h := newHome(t).ready()
	var questions []string
	for i := range rounds + 1 { // one more, before which everything is said
		questions = append(questions, fmt.Sprintf("auth required {probe} auth:ask=secret,x auth:export=A%03d", i))
	}
	_, _, peer := run(t, stack(t, questions...))
	peer.Start(convtest.Start("test", "nobody"))
	peer.Expect("entering start", "resolved 65534", "entering authenticate 1", "prompt 0 secret x")
	var environment []string
	wins := make(map[string]int)
	for i := range rounds {
		peer.Mirror(uint32(i), true)
		winner := race(t, peer, h.socket(h.posted()), i)
		wins[winner]++
		environment = append(environment, fmt.Sprintf("A%03d=%s", i, winner))
		h.empty()
	}
	t.Log(wins)
	environment = append(environment, fmt.Sprintf("A%03d=end", rounds))
	peer.Answer(rounds, "end")
	if said := convtest.Continue(peer); !slices.Contains(said, fmt.Sprintf("opened %s", environment)) {
		t.Errorf("the worker said %q, not %q", said, environment)
	}
}

// race answers question i in two ways at once, and says which one the worker
// took. The question after it is asked then.
func race(t *testing.T, peer *convtest.Peer, socket string, i int) (winner string) {
	t.Helper()
	agent, err := net.Dial("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = agent.Close() }()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = agent.Write([]byte("+user")) // refused when the socket is gone
	}()
	peer.Answer(uint32(i), "broker")
	<-sent
	next := fmt.Sprintf("prompt %d secret x", i+1)
	first := convtest.Describe(peer.Next())
	switch first {
	case fmt.Sprintf("taken %d", i):
		peer.Expect(next)
		return "broker"
	case fmt.Sprintf("withdrawn %d answered", i):
		// The module asks on while the worker looks at the broker's answer.
		rest := []string{convtest.Describe(peer.Next()), convtest.Describe(peer.Next())}
		if slices.Sort(rest); slices.Equal(rest, []string{next, fmt.Sprintf("taken %d AlreadyAnswered", i)}) {
			return "user"
		}
		t.Fatalf("in round %d the worker said %q, %q", i, first, rest)
	}
	t.Fatalf("in round %d the worker said %q", i, first)
	return ""
}

// TestAWorkerThatIsTheUser needs no other identity, and serves nobody else.
func TestAWorkerThatIsTheUser(t *testing.T) {
	h := newHome(t).ready()
	h.mkdir("/run/user/1", 1)
	broker := convtest.Listen(t)
	dir := stack(t, "auth required {probe} "+askSecret)
	// Everything is in directories that are root's alone.
	for _, path := range []string{broker.Socket, dir, os.Args[0]} {
		for ; path != "/tmp" && path != "/"; path = filepath.Dir(path) {
			info, err := os.Stat(path)
			h.must(err)
			if info.Mode().Perm()&0o005 != 0o005 || path == broker.Socket {
				h.must(os.Chmod(path, info.Mode().Perm()|0o007))
			}
		}
	}
	for user, posts := range map[string]bool{"nobody": true, "daemon": false} {
		process := convtest.RunAs(t, nobody, "--idle", "--socket", broker.Socket, "--pam-dir", dir)
		peer := broker.Accept()
		peer.Start(convtest.Start("test", user))
		for peer.Next().GetPrompt() == nil {
		}
		peer.Mirror(0, true)
		if posts {
			h.reply(nobody, "1", h.socket(h.posted()), "x")
		} else {
			peer.Answer(0, "x")
		}
		opens(t, peer, "x")
		process.Wait()
		h.empty()
		if strings.Contains(process.Log(), "WARN") {
			t.Errorf("the log is %s", process.Log())
		}
	}
	if got := tree(t, "/run/user/1"); len(got) > 0 {
		t.Errorf("there is %q", got)
	}
}
