// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

// The worker dies in each phase, of itself or killed.
func TestAWorkerDiesInEachPhase(t *testing.T) {
	t.Parallel()
	phases := map[string]string{"auth": "authenticate", "account": "account", "setcred": "credentials",
		"open": "session", "close": "close-session", "delcred": "delete-credentials"}
	stacks := map[string]string{}
	for phase := range phases {
		for _, signal := range []string{"KILL", "SEGV", "ABRT"} {
			stacks[strings.ToLower(phase+"-"+signal)] = stack(t, "probe "+phase+":crash="+signal)
		}
	}
	b := start(t, stacks)
	victim := b.agent(false)
	for phase, name := range phases {
		for _, signal := range []string{"KILL", "SEGV", "ABRT"} {
			s := victim.open(strings.ToLower(phase+"-"+signal), api.Options{})
			if phase == "close" || phase == "delcred" {
				victim.wait(s, api.StateOpen)
				if err := s.Close(within(t)); err != nil {
					t.Fatal(err)
				}
			}
			victim.failed(s, api.WorkerFailed, "phase "+name)
			b.buried(s, "was killed by SIG"+signal)
			b.said(s, "was lost in phase "+name)
		}
	}
	victim.leave()
	b.unharmed()
}

// leader is the worker of a session.
func (a *agent) leader(s *api.Session) int {
	a.t.Helper()
	p := a.properties(s)
	pid := int(p.Leader)
	if pid == 0 {
		a.t.Fatal("the session has no leader")
	}
	return pid
}

func kill(t testing.TB, pid int, signal unix.Signal) {
	t.Helper()
	if err := unix.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
}

// A worker that is killed while its question waits, and one whose session is open.
func TestAWorkerIsKilledWhileItWaits(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{})
	victim := b.agent(false)
	asking := victim.open("ask", api.Options{Agent: true})
	p := victim.prompt(asking)
	kill(t, victim.leader(asking), unix.SIGKILL)
	if closed := next(victim, func(c api.PromptClosed) bool { return c.ID == p.ID }); closed.Outcome != api.OutcomeSessionClosed {
		t.Errorf("its prompt ended with %s", closed.Outcome)
	}
	victim.failed(asking, api.WorkerFailed, "phase authenticate")
	b.said(asking, "was lost in phase authenticate")
	open := victim.open("permit", api.Options{})
	victim.wait(open, api.StateOpen)
	kill(t, victim.leader(open), unix.SIGKILL)
	victim.failed(open, api.WorkerFailed, "phase open")
	b.said(open, "was lost in phase open")
	victim.leave()
	b.unharmed()
}

// The worker of a command is killed: the command gets SIGHUP, and what it has started
// goes on, as when a login program is killed.
func TestTheWorkerOfACommandIsKilled(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{})
	victim := b.agent(false)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	script := "trap 'echo hangup; exit' HUP; sleep 1000 & echo $! $PPID; wait; wait"
	s := victim.open("permit", api.Options{Command: []string{"sh", "-c", script}, Stdio: []*os.File{null, w, w}})
	_, _ = w.Close(), null.Close()
	victim.wait(s, api.StateOpen)
	said := bufio.NewReader(r)
	var child, worker int
	if _, err := fmt.Fscan(said, &child, &worker); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(child, unix.SIGKILL); _ = r.Close() })
	kill(t, worker, unix.SIGKILL)
	var word string
	if _, err := fmt.Fscan(said, &word); err != nil || word != "hangup" {
		t.Errorf("the command got %q, %v", word, err)
	}
	victim.failed(s, api.WorkerFailed, "phase open")
	b.said(s, "was lost in phase open")
	if state, _ := status(child); state == "" || state == "Z" {
		t.Error("what the command had started has ended, which the documentation does not say")
	}
	victim.leave()
	b.unharmed()
}

// A process that a module left behind holds the worker's end of the connection: that
// the worker has died is noticed nevertheless.
func TestAWorkerDiesAndItsConnectionDoesNot(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{"left": stack(t, "fault auth:leave=LOG", "probe auth:crash=KILL")})
	victim := b.agent(false)
	s := victim.open("left", api.Options{})
	victim.failed(s, api.WorkerFailed, "phase authenticate")
	b.said(s, "was lost in phase authenticate")
	b.endLeft()
	victim.leave()
	b.unharmed()
}

// endLeft ends the process that the module has left behind, which must run.
func (b *bench) endLeft() {
	b.t.Helper()
	text, err := os.ReadFile(b.log)
	pid, bad := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || bad != nil {
		b.t.Fatalf("the module has left %q, %v", text, err)
	}
	kill(b.t, pid, unix.SIGKILL)
}
