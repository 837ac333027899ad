// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

// closings is a session closed in each phase: how often the module asks before,
// what it sees of it, what is said of the teardown.
var closings = []struct {
	phase    string // as the probe calls it
	function string
	name     string // as a text of the worker calls it
	pam      []string
	teardown []string
}{
	{"auth", "pam_authenticate", "authenticate", []string{"auth", "end 19"}, nil},
	{"account", "pam_acct_mgmt", "account", []string{"auth", "account", "end 19"}, nil},
	{"chauthtok", "pam_chauthtok", "change-token", []string{"auth", "account", "chauthtok", "end 19"}, nil},
	{"setcred", "pam_setcred", "credentials", []string{"auth", "account", "chauthtok", "setcred", "end 19"}, nil},
	{
		"open", "pam_open_session", "session", []string{"auth", "account", "chauthtok", "setcred", "open", "delcred", "end 0"},
		[]string{"entering delete-credentials"},
	},
}

func TestCloseWhileAQuestionWaits(t *testing.T) {
	for _, test := range closings {
		t.Run("in "+test.function, func(t *testing.T) {
			dir := stack(t, logged("account:result=PAM_NEW_AUTHTOK_REQD")...)
			ask(t, dir, test.phase, "ask=secret,x")
			said := play(t, dir, nil, convtest.Close)
			at := slices.Index(said, "prompt 0 secret x")
			wantSaid(t, said[at+1:], slices.Concat([]string{"withdrawn 0 session-closed"}, test.teardown,
				[]string{"entering end", "closed 0 closed before it opened"})...)
			if got := lines(t, filepath.Join(dir, "log")); !slices.Equal(got, test.pam) {
				t.Errorf("the module saw %q, not %q", got, test.pam)
			}
		})
	}
}

// ask puts an action of one phase before the results of the probe in a stack
// made by logged.
func ask(t testing.TB, dir, phase, action string) {
	t.Helper()
	path := filepath.Join(dir, "test")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	log := fmt.Sprintf("%s:log=%s/log", phase, dir)
	write(t, path, strings.ReplaceAll(string(text), log, log+" "+phase+":"+action))
}

func TestQuestionsAfterCloseFailAtOnce(t *testing.T) {
	dir := stack(t, "auth required {probe} auth:converr=PAM_SUCCESS auth:ask=secret,a auth:ask=secret,b auth:ask=visible,c")
	said := play(t, dir, nil, convtest.Close)
	wantSaid(t, said[3:], "prompt 0 secret a", "withdrawn 0 session-closed", "entering end", "closed 0 closed before it opened")
}

// TestCloseWhileAModuleWorks closes the session while a module does something
// of its own: what it is at ends, and no further phase begins.
func TestCloseWhileAModuleWorks(t *testing.T) {
	for _, test := range []struct {
		name, stack string
		teardown    []string
	}{
		{"in pam_authenticate", "auth required {exec} {dir}/wait", []string{"entering end"}},
		{"in pam_open_session", "session required {exec} type=open_session {dir}/wait", []string{"entering close-session", "entering delete-credentials", "entering end"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := stack(t, test.stack, "session required {permit}")
			fifo(t, filepath.Join(dir, "here"))
			fifo(t, filepath.Join(dir, "go"))
			script(t, filepath.Join(dir, "wait"), "echo > "+dir+"/here; read -r line < "+dir+"/go; exit 0")
			_, process, peer := run(t, dir)
			peer.Start(convtest.Start("test", "root"))
			lines(t, filepath.Join(dir, "here")) // waits until the module works
			peer.Close()
			peer.Answer(7, "x") // is replied to when Close has been taken
			for convtest.Describe(peer.Next()) != "taken 7 NoSuchPrompt" {
			}
			write(t, filepath.Join(dir, "go"), "\n")
			wantSaid(t, convtest.Continue(peer), append(test.teardown, "closed 0 closed before it opened")...)
			process.Wait()
		})
	}
}

func fifo(t testing.TB, path string) {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

func script(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestAModuleThatNeverReturns(t *testing.T) {
	for _, test := range append(closings, struct {
		phase, function, name string
		pam, teardown         []string
	}{phase: "close", name: "close-session"}) {
		t.Run("in the phase "+test.name, func(t *testing.T) {
			dir := stack(t, logged("account:result=PAM_NEW_AUTHTOK_REQD")...)
			ask(t, dir, test.phase, "info=here "+test.phase+":hang")
			_, process, peer := run(t, dir)
			peer.Start(convtest.Start("test", "root", func(s *worker.Start) { s.CloseTimeoutUsec = 50_000 }))
			for {
				said := convtest.Describe(peer.Next())
				if strings.HasPrefix(said, "opened") {
					peer.Close()
				}
				if said == "info here" {
					break
				}
			}
			if test.phase != "close" {
				peer.Close()
			}
			wantSaid(t, convtest.Continue(peer),
				"failed WorkerFailed 4 a module did not return within 50ms of Close in phase "+test.name+"; PAM was not closed")
			if end := process.Wait(); end != "exit status 1" {
				t.Errorf("the worker ended with %s", end)
			}
		})
	}
}

func TestWhatAHangingModuleStartedEndsWithTheWorker(t *testing.T) {
	dir := stack(t, "auth required {exec} {dir}/hang")
	fifo(t, filepath.Join(dir, "pid"))
	script(t, filepath.Join(dir, "hang"), "echo $$ > "+dir+"/pid; exec sleep 1000")
	_, process, peer := run(t, dir)
	peer.Start(convtest.Start("test", "root", func(s *worker.Start) { s.CloseTimeoutUsec = 50_000 }))
	pid, err := strconv.Atoi(lines(t, filepath.Join(dir, "pid"))[0])
	if err != nil {
		t.Fatal(err)
	}
	helper, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(helper) }()
	peer.Close()
	process.Wait()
	poll := []unix.PollFd{{Fd: int32(helper), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 10_000); n != 1 {
		t.Errorf("what pam_exec started still runs (%v)", err)
	}
}

func TestSIGTERMIsAClose(t *testing.T) {
	t.Run("while a question waits", func(t *testing.T) {
		_, process, peer := run(t, stack(t, "auth required {probe} auth:ask=secret,x"))
		peer.Start(convtest.Start("test", "root"))
		peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret x")
		process.Signal(unix.SIGTERM)
		peer.Expect("withdrawn 0 session-closed", "entering end", "closed 0 closed before it opened")
		process.Wait()
	})
	t.Run("while the session is open", func(t *testing.T) {
		_, process, peer := run(t, stack(t))
		peer.Start(convtest.Start("test", "root"))
		peer.Expect(everyPhase[:7]...)
		process.Signal(unix.SIGTERM)
		peer.Expect(everyPhase[7:]...)
		process.Wait()
	})
	t.Run("and ends an idle worker", func(t *testing.T) {
		_, process, _ := run(t, stack(t))
		process.Signal(unix.SIGTERM)
		if end := process.Wait(); end != "exit status 0" {
			t.Errorf("the worker ended with %s", end)
		}
	})
}

func TestAWorkerDoesNotWaitForeverForABroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSession(quiet())
		if err := s.begin(convtest.Start("test", "root")); err != nil {
			t.Fatal(err)
		}
		s.end(pam.Error(0), "")
		before := time.Now()
		if err := s.waitTold(); err == nil {
			t.Error("a broker that is not there was told")
		}
		if waited := time.Since(before); waited != farewell {
			t.Errorf("the worker waited %v, not %v", waited, farewell)
		}
	})
}

func TestCloseComesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSession(quiet())
		if err := s.begin(convtest.Start("test", "root")); err != nil {
			t.Fatal(err)
		}
		s.close()
		s.close()
		s.end(pam.Error(0), "")
		s.close()
		s.fail(&failure{code: pamFailed})
		if s.state.GetFailed() != nil {
			t.Error("a session that is closed failed")
		}
		time.Sleep(2 * closeTimeout) // of synctest: the watchdog finds that all is over
	})
}
