// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	protocol "github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// stage is a system whose broker, and all programs that are run on it, have a
// /run of their own.
type stage struct {
	*system.OnBus
	t       *testing.T
	run     string // that /run, as the test finds it
	dir     string // and in it the directory of requests
	network string // where to run programs; empty for the machine's own
	bus     *listener
}

// options of start.
type options struct {
	stacks  map[string]string
	args    []string // of the broker
	network string   // the file of a network namespace
	alone   bool     // nobody listens on D-Bus
}

func start(t *testing.T, o options) *stage {
	t.Helper()
	needs(t)
	run, err := os.MkdirTemp("", "run") // its name is short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	b := &stage{t: t, run: run, dir: filepath.Join(run, "systemd", "ask-password"), network: o.network}
	t.Cleanup(func() {
		b.wantNothingOfOurs()
		_ = os.RemoveAll(run)
	})
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(run, 0o755); err != nil {
		t.Fatal(err)
	}
	stacks := t.TempDir()
	for service, stack := range o.stacks {
		if err := os.WriteFile(filepath.Join(stacks, service), []byte(stack), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.OnBus = system.StartInNamespace(t, []system.Mount{{From: run, To: "/run"}}, system.Options{
		Network:    o.network,
		BrokerArgs: append([]string{"--pam-dir", stacks, "--ask-password=" + protocol.System, "--user-ask-password=no"}, o.args...),
	})
	if !o.alone {
		b.bus = b.listen()
	}
	return b
}

// during has a subtest fail instead of the whole test.
func (b *stage) during(t *testing.T) {
	before := b.t
	set := func(t *testing.T) {
		b.t = t
		if b.bus != nil {
			b.bus.t = t
		}
	}
	set(t)
	t.Cleanup(func() { set(before) })
}

// rest is pam_permit for the groups that a test is not about.
const rest = "account required pam_permit.so\npassword required pam_permit.so\nsession required pam_permit.so\n"

// asks is a stack of questions, each a line of pam_probe's arguments for the
// phase auth.
func asks(t testing.TB, questions ...string) string {
	t.Helper()
	probe := modules.Probe(t)
	var b strings.Builder
	for _, question := range questions {
		b.WriteString("auth requisite " + probe)
		for _, argument := range strings.Split(question, "; ") {
			b.WriteString(" [auth:" + argument + "]")
		}
		b.WriteString("\n")
	}
	return b.String() + rest
}

const answer = "correct horse"

// password is a stack that wants the answer.
func password(t testing.TB) string {
	return asks(t, "ask=secret,Password: ; expect="+answer)
}

// one is a system with this stack as its only service, "one".
func one(t *testing.T, stack string) *stage {
	t.Helper()
	return start(t, options{stacks: map[string]string{"one": stack}})
}

// open opens a session of service "one" for anna.
func (b *stage) open(o api.Options) *api.Session { b.t.Helper(); return b.bus.open("one", o) }

// ask opens such a session, and returns its first prompt and that prompt's
// request.
func (b *stage) ask(o api.Options) (*api.Session, api.Prompt, request) {
	b.t.Helper()
	s := b.open(o)
	p := b.bus.promptOf(s)
	return s, p, b.request()
}

// line is the line that agents show of a question of service "one".
func line(reason, said, question string) string {
	head := "anna (one"
	if reason != "" {
		head += fmt.Sprintf(", %q", reason)
	}
	if said != "" {
		said += ". "
	}
	return head + "): " + said + question
}
