// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// removed waits until a session is gone.
func (a *agent) removed(id uint64) {
	a.t.Helper()
	next(a, func(e api.SessionRemoved) bool { return e.ID == id })
}

// A caller at a terminal is killed at each stage of its session, which ends with it.
func TestACallerIsKilledAtEachStage(t *testing.T) {
	t.Parallel()
	stacks := map[string]string{"closes": stack(t, "probe close:info=closing [close:run=sleep 1]")}
	for _, phase := range []string{"auth", "account", "setcred", "open"} {
		stacks["ask-"+phase] = stack(t, "probe ["+phase+":ask=secret,Code: ]")
	}
	b := start(t, stacks)
	agent := b.agent(true)
	opening := func(service string) uint64 {
		return next(agent, func(p api.Prompt) bool { return p.Service == service }).Session
	}
	for _, phase := range []string{"auth", "account", "setcred", "open"} {
		for _, args := range [][]string{{"open", "ask-" + phase, "root"}, {"run", "--service", "ask-" + phase, "sleep", "1000"}} {
			if args[0] == "run" && phase == "auth" {
				continue // root does not authenticate to run
			}
			caller := b.at(args...)
			id := opening("ask-" + phase)
			caller.see("Code: ")
			caller.press("half")
			caller.dies()
			agent.removed(id)
		}
	}
	t.Run("while it closes", func(t *testing.T) {
		caller := b.at("open", "closes", "root")
		s := next(agent, func(e api.SessionChanged) bool { return e.State == api.StateOpen })
		caller.press("\x04")
		next(agent, func(m api.Message) bool { return m.Session == s.ID && m.Text.Text == "closing" })
		caller.dies()
		agent.removed(s.ID)
	})
	if lines := b.complaints(""); len(lines) > 0 {
		t.Errorf("the log complains: %q", lines)
	}
	agent.leave()
	b.unharmed()
}

// A caller is killed while its command runs: the command hangs up. With linger the
// session stays.
func TestACallerIsKilledWhileItsSessionIsOpen(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{}, "--close-timeout=2s")
	agent := b.agent(true)
	file := filepath.Join(t.TempDir(), "pid")
	caller := b.at("run", "--service", "permit", "sh", "-c", "echo $$ >"+file+".new; mv "+file+".new "+file+"; sleep 1000")
	system.AwaitFiles(t, filepath.Dir(file), func() bool { _, err := os.Stat(file); return err == nil })
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	command, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	s := next(agent, func(e api.SessionChanged) bool { return e.State == api.StateOpen })
	began := time.Now()
	caller.dies()
	agent.removed(s.ID)
	saw(t, "a session whose caller was killed while its command ran is gone after %v", time.Since(began).Round(time.Millisecond))
	if state, _ := status(command); state != "" {
		t.Errorf("its command is in state %s", state)
	}

	lingers := b.at("open", "--linger", "permit", "root")
	id := next(agent, func(e api.SessionChanged) bool { return e.State == api.StateOpen }).ID
	lingers.see(fmt.Sprint(id))
	lingers.dies()
	other := b.at("open", "permit", "root") // what comes after it has left
	next(agent, func(e api.SessionChanged) bool { return e.State == api.StateOpen && e.ID != id })
	other.dies()
	if p := agent.properties(agent.Session(id)); p.State != api.StateOpen {
		t.Errorf("the session that lingers is %s: %s", p.State, p.ResultText)
	}
	agent.close(agent.Session(id))
	b.past++ // it is listed for a while
	agent.leave()
	b.unharmed()
}

// A program that asks in a conversation of its own dies: its questions go.
func TestAnAskerIsKilled(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{})
	agent, asker := b.agent(true), b.agent(false)
	c, err := asker.OpenConversation(within(t), "ftp", "anna", api.ConversationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, answer, err := c.Ask(within(t), api.Question{Style: api.StyleSecret, Message: "Password: "})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Close() }()
	p := next(agent, func(p api.Prompt) bool { return p.Service == "ftp" })
	asker.leave()
	closed := next(agent, func(e api.PromptClosed) bool { return e.ID == p.ID })
	if closed.Outcome != api.OutcomeSessionClosed {
		t.Errorf("its question ended with %s", closed.Outcome)
	}
	agent.removed(p.Session)
	if lines := b.complaints(""); len(lines) > 0 {
		t.Errorf("the log complains: %q", lines)
	}
	agent.leave()
	b.unharmed()
}
