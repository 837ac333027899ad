// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

// misdeed is what a module does in the phase authenticate, after which another one
// asks, and a command is to run.
type misdeed struct {
	name, action string
	code         api.Code // what the session fails with; empty when all goes on
	says         string
	logs         string // the one line of the log; empty for none
}

var misdeeds = []misdeed{
	{"closes every descriptor but the first three", "close=3,-1", api.WorkerFailed, "phase authenticate", "was lost in phase authenticate"},
	{"closes every descriptor", "close=0,-1", api.WorkerFailed, "phase authenticate", "was lost in phase authenticate"},
	{"closes the first three descriptors", "close=0,2", "", "", ""},
	{"changes the directory", "directory=/tmp", "", "", ""},
	{"changes the root directory", "root=/proc", api.CommandFailed, "NSS does not know the user root", ""},
	{"changes the umask", "umask=0777", "", "", ""},
	{"empties the environment", "environment", "", "", ""},
	{"lets no more files be open", "limit=files,3", api.PAMFailed, "pam_authenticate", "left the worker no descriptor for an answer"},
	{"opens files until it may open no more", "fill", api.PAMFailed, "pam_authenticate", "left the worker no descriptor for an answer"},
	{"lets no more processes be", "limit=processes,0", "", "", ""}, // which does not count for root
	{"blocks all signals", "block", "", "", ""},
	{"takes the handlers of all signals", "handle=0,default", "", "", ""},
	{"takes the handler of SIGCHLD", "handle=17,default", "", "", ""},
	{"ignores SIGCHLD", "handle=17,ignore", "", "", ""},
	{"becomes another user", "setuid=65534", api.CommandFailed, "take on the identity of the user", ""},
	{"calls exit with 0", "exit=0", api.WorkerFailed, "phase authenticate", "was lost in phase authenticate"},
	{"calls exit with 3", "exit=3", api.WorkerFailed, "phase authenticate", "was lost in phase authenticate"},
	{"calls _exit", "quit=0", api.WorkerFailed, "phase authenticate", "was lost in phase authenticate"},
	{"calls abort", "abort", api.WorkerFailed, "phase authenticate", "was lost in phase authenticate"},
	{"jumps to nowhere", "jump", api.WorkerFailed, "phase authenticate", "was lost in phase authenticate"},
	{"uses up the stack", "overflow", api.WorkerFailed, "phase authenticate", "was lost in phase authenticate"},
	{"starts threads that go on", "threads=16", "", "", ""},
	{"returns a code that is none", "return=999", api.AuthenticationFailed, "PAM_PERM_DENIED", ""},
	{"returns a code below all", "return=-1", api.AuthenticationFailed, "PAM_PERM_DENIED", ""},
	{"leaves a process behind", "leave=LOG", "", "", ""},
}

// What modules do to the process that they run in is felt by their own session at
// most, and that says so.
func TestAModuleThat(t *testing.T) {
	t.Parallel()
	stacks := map[string]string{}
	for i, m := range misdeeds {
		stacks[fmt.Sprint("bad-", i)] = stack(t, "fault auth:"+m.action, "probe [auth:ask=secret,More: ]")
	}
	b := start(t, stacks, "--close-timeout=2s")
	for i, m := range misdeeds {
		t.Run(m.name, func(t *testing.T) { b.commit(t, m, fmt.Sprint("bad-", i)) })
	}
	b.unharmed()
}

func (b *bench) commit(t *testing.T, m misdeed, service string) {
	outer := b.t
	b.t = t
	defer func() { b.t = outer }()
	victim := b.agent(true)
	s := victim.open(service, api.Options{Command: []string{"sh", "-c", "exit 3"}})
	for ended := false; !ended; {
		switch e := next(victim, func(api.Event) bool { return true }).(type) {
		case api.Prompt:
			if e.Session == s.ID() {
				_ = victim.give(e.ID, "answer")
			}
		case api.SessionChanged:
			ended = e.ID == s.ID() && (e.State == api.StateFailed || e.State == api.StateClosed)
		}
	}
	p := victim.properties(s)
	switch {
	case m.code == "" && (p.State != api.StateClosed || p.ExitStatus != 3):
		t.Errorf("its command ended with %d, and it is %s: %s", p.ExitStatus, p.State, p.ResultText)
	case m.code != "" && (!errors.Is(p.Err(), m.code) || !strings.Contains(p.ResultText, m.says)):
		t.Errorf("it is %s: %q, not %s with %q", p.State, p.ResultText, m.code, m.says)
	}
	if m.logs != "" {
		b.saidOfModule(s, m.logs)
	} else if lines := b.complaints(fmt.Sprintf("session=%d ", s.ID())); len(lines) > 0 {
		t.Errorf("the log complains: %q", lines)
	}
	if strings.HasPrefix(m.action, "leave") {
		b.endLeft()
	}
	victim.leave()
}

// saidOfModule is said; a worker whose descriptors are gone may say so itself, where
// the broker can only say that it has ended.
func (b *bench) saidOfModule(s *api.Session, words string) {
	b.t.Helper()
	lines := b.complaints(fmt.Sprintf("session=%d ", s.ID()))
	if len(lines) == 2 && strings.Contains(lines[0]+lines[1], "a module closed descriptors of the worker") {
		return
	}
	b.said(s, words)
}

// A module that never returns, whatever it is told: Close ends it, and it alone.
func TestAModuleThatIgnoresWhatEndsOthers(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{"stuck": stack(t, "probe auth:info=here", "fault auth:block auth:stuck")}, "--close-timeout=1s")
	victim := b.agent(true)
	s := victim.open("stuck", api.Options{})
	victim.message(s, "here")
	worker := victim.leader(s)
	kill(t, worker, unix.SIGTERM)
	if err := s.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	victim.failed(s, api.WorkerFailed, "did not return within 1s of Close in phase authenticate")
	victim.leave()
	b.unharmed()
}

// A module eats all the memory that its process may have. Its session fails, or it
// goes on with what is left; nobody else feels it.
func TestAModuleThatEatsMemory(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{"eats": stack(t, "fault auth:limit=memory,2000000000 auth:eat")})
	victim := b.agent(true)
	s := victim.open("eats", api.Options{})
	err := s.Wait(within(t), api.StateOpen)
	if !errors.Is(err, api.WorkerFailed) && !errors.Is(err, api.PAMFailed) {
		t.Errorf("the session ended with %v", err)
	}
	saw(t, "a module that takes 2 GB, as much as it may: %v", err)
	victim.leave()
	b.unharmed()
}

// What a module prints is nobody's answer and no packet: it is in the log as it is.
func TestAModuleThatPrints(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{"prints": stack(t, "fault auth:write=102400", "probe [auth:error=hex:00ff1b5d0a]")})
	victim := b.agent(true)
	s := victim.open("prints", api.Options{})
	victim.wait(s, api.StateOpen)
	if n := strings.Count(b.Log()+"\n", "yyyy\n"); n != 100 {
		t.Errorf("the log has %d lines of the module, which writes 100 to standard error", n)
	}
	victim.leave()
	b.unharmed()
}
