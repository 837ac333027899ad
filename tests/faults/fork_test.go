// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
)

// The pool can start no process, since its cgroup is full. Idle workers serve, whoever comes
// then waits, and is served when there is room.
func TestThePoolMayStartNoProcess(t *testing.T) {
	t.Parallel()
	full := newPidsGroup(t)
	b := start(t, map[string]string{})
	full.take(b.pool())
	full.close()
	victim := b.agent(false)
	for range 2 {
		victim.wait(victim.open("permit", api.Options{}), api.StateOpen)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := victim.Open(within(t), "permit", "root", api.Options{})
		waits <- err
	}()
	full.refused(4) // more than once for each that was taken
	select {
	case err := <-waits:
		t.Errorf("without a worker OpenSession returned: %v", err)
	default:
	}
	began := time.Now()
	full.open()
	if err := <-waits; err != nil {
		t.Errorf("with room again OpenSession says %v", err)
	}
	saw(t, "a pool that may start no process; with room again, after four tries, whoever waited had a session in %v", time.Since(began).Round(100*time.Millisecond))
	b.AwaitLog(t, func(log string) bool { return strings.Contains(log, "workers can be started again") })
	if lines := b.complaints(""); len(lines) != 1 || !strings.Contains(lines[0], "workers cannot be started") || !strings.Contains(lines[0], "resource temporarily unavailable") {
		t.Errorf("the log complains not once but: %q", lines)
	}
	victim.leave()
	b.unharmed()
}

// A worker can start no process for the command of its session: for want of room in its
// cgroup, as when a user's processes fill that of the user; and for want of memory, which
// is what the kernel says in a pid namespace whose first process has ended.
func TestNoProcessForACommand(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{
		"logged":    stack(t, asking, "probe auth:log=LOG open:log=LOG close:log=LOG"),
		"childless": stack(t, asking, "fault auth:childless", "probe auth:log=LOG open:log=LOG close:log=LOG"),
	})
	for _, c := range []struct{ service, why string }{
		{"logged", "resource temporarily unavailable"},
		{"childless", "cannot allocate memory"},
	} {
		t.Run(c.why, func(t *testing.T) {
			victim := b.agent(false)
			s := victim.open(c.service, api.Options{Agent: true, Command: []string{"true"}})
			p := victim.prompt(s)
			if c.service == "logged" {
				full := newPidsGroup(t)
				full.take(victim.leader(s))
				full.close()
			}
			victim.reply(p.ID, "x")
			victim.failed(s, api.CommandFailed, "start a process: "+c.why)
			b.said(s, "the command does not run", c.why)
			if got, err := os.ReadFile(b.log); err != nil || string(got) != "auth\nopen\nclose\nend 0\n" {
				t.Errorf("modules ran for %q, %v", got, err)
			}
			if err := os.Remove(b.log); err != nil {
				t.Error(err)
			}
			// Nobody else has to do without.
			again := victim.open("permit", api.Options{Command: []string{"sh", "-c", "exit 3"}})
			victim.wait(again, api.StateClosed)
			if p := victim.properties(again); p.ExitStatus != 3 {
				t.Errorf("the next command ended with %d: %s", p.ExitStatus, p.ResultText)
			}
			victim.leave()
		})
	}
	b.unharmed()
}

// A worker that may have no thread more than it had while it was idle: the Go runtime must
// not want one, since it would end the process.
func TestAWorkerMayHaveNoThreadMore(t *testing.T) {
	t.Parallel()
	full := newPidsGroup(t)
	b := start(t, map[string]string{"talks": stack(t, "fault auth:tell=200 auth:ask=20", asking)}, "--close-timeout=2s")
	busy := map[int]bool{b.somebody.leader(b.open): true, b.somebody.leader(b.waiting): true}
	for _, pid := range b.workers() {
		if !busy[pid] {
			full.take(pid)
		}
	}
	full.close()
	victim := b.agent(false)
	talks := victim.open("talks", api.Options{Agent: true})
	for range 20 {
		p := victim.prompt(talks)
		victim.reply(p.ID, strings.TrimPrefix(p.Message, "question "))
	}
	victim.reply(victim.prompt(talks).ID, "x")
	victim.wait(talks, api.StateOpen)
	expires := victim.open("ask", api.Options{Agent: true, Timeout: time.Millisecond})
	victim.failed(expires, api.TimedOut)
	victim.close(talks)

	full.open()
	runs := victim.open("permit", api.Options{Command: []string{"sh", "-c", "trap '' HUP; sleep 1000"}})
	victim.wait(runs, api.StateOpen)
	if lines := b.complaints(""); len(lines) > 0 {
		t.Errorf("the log complains: %q", lines)
	}
	victim.close(runs)
	victim.leave()
	b.unharmed()
}
