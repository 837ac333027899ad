// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// A worker has no descriptor left when an answer comes, which the kernel drops then. It is not
// taken for an empty one; the prompt waits, and the next answer is taken.
func TestNoDescriptorForAnAnswer(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{})
	victim := b.agent(false)
	s := victim.open("ask", api.Options{Agent: true})
	p := victim.prompt(s)
	lift := system.LimitFiles(t, victim.leader(s), 0)
	for range 3 {
		if err := victim.give(p.ID, "x"); !errors.Is(err, api.LimitExceeded) || !strings.Contains(err.Error(), "RLIMIT_NOFILE") {
			t.Errorf("an answer for which there is no descriptor: %v", err)
		}
	}
	b.said(s, "an answer is not taken", "RLIMIT_NOFILE")
	lift()
	victim.reply(p.ID, "right")
	victim.wait(s, api.StateOpen)
	if p := victim.properties(s); len(p.Environment) != 1 || p.Environment[0] != "ANSWER=right" {
		t.Errorf("the module got %q", p.Environment)
	}
	victim.leave()
	b.unharmed()
}

// The pool has no descriptor left: it can start no worker, and goes on when it has some.
func TestThePoolHasNoDescriptorLeft(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{})
	lift := system.LimitFiles(t, b.pool(), 0)
	victim := b.agent(false)
	for range 2 {
		victim.wait(victim.open("permit", api.Options{}), api.StateOpen)
	}
	b.AwaitLog(t, func(log string) bool { return strings.Contains(log, "workers cannot be started") })
	waits := make(chan error, 1)
	go func() {
		_, err := victim.Open(within(t), "permit", "root", api.Options{})
		waits <- err
	}()
	began := time.Now()
	lift()
	if err := <-waits; err != nil {
		t.Errorf("with room again OpenSession says %v", err)
	}
	saw(t, "a pool without descriptors; with room again whoever waited had a session after %v", time.Since(began).Round(10*time.Millisecond))
	b.AwaitLog(t, func(log string) bool { return strings.Contains(log, "workers can be started again") })
	if lines := b.complaints(""); len(lines) != 1 || !strings.Contains(lines[0], "too many open files") {
		t.Errorf("the log complains not once but: %q", lines)
	}
	victim.leave()
	b.unharmed()
}
