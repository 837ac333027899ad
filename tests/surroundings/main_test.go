// SPDX-License-Identifier: Apache-2.0

// Package surroundings takes from pamprompt what it stands on, and gives it back:
// the bus, whoever takes its log, descriptors, the clock since boot. Each time somebody
// else has a session whose question waits meanwhile, and must get its answer afterwards.
// It holds nothing but tests.
//
//	main_test.go    what stands around all tests; the bystander
//	people_test.go  people at terminals
//	bus_test.go     the bus ends and comes again, or answers nothing for a while
//	clients_test.go ... under the programs of people and scripts
//	log_test.go     nobody takes what is logged
//	files_test.go   descriptors run out
//	start_test.go   no worker can be started, the pool is killed
//	run_test.go     /run is full or read-only
//	memory_test.go  no memory can be locked
//	clock_test.go   another clock since boot
//	wall_test.go    a clock of the day that nobody can rely on
package surroundings

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// patience bounds what must happen; nothing waits for it to pass.
const patience = 60 * time.Second

const answer = "correct horse"

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// needRoot is for what the kernel allows root alone.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this needs root: for mounts, limits and clocks of a process's own")
	}
}

// saw keeps what a test has measured, for the summary of make test.
func saw(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Attr("saw", fmt.Sprintf(format, args...))
}

// stacks are service "permit", and "ask", which wants the answer.
func stacks(t testing.TB) map[string]string {
	t.Helper()
	const rest = "account required pam_permit.so\npassword required pam_permit.so\nsession required pam_permit.so\n"
	return map[string]string{
		"permit": system.Permit(),
		"ask":    "auth required " + modules.Probe(t) + " [auth:ask=secret,Password: ] [auth:expect=" + answer + "]\n" + rest,
	}
}

// bench is a system, and somebody at its bus.
type bench struct {
	*system.OnBus
	t     testing.TB
	here  *api.Client
	heard *api.Watcher
	held  []api.Event
}

// on has somebody come to the bus of a system.
func on(t testing.TB, s *system.OnBus) *bench {
	t.Helper()
	b := &bench{OnBus: s, t: t}
	b.come()
	return b
}

// start is a dbus-daemon and all that belongs to it.
func start(t testing.TB, through ...string) *bench {
	t.Helper()
	return on(t, system.StartOnBus(t, system.Options{Stacks: stacks(t), Through: through}))
}

// come connects anew, as an agent.
func (b *bench) come() {
	b.t.Helper()
	b.here, b.held = b.Client(b.t), nil
	var err error
	if b.heard, err = b.here.Watch(context.Background(), api.WatchOptions{Agent: true}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(b.heard.Close)
}

// next is the next event that wanted accepts; the others are kept.
func next[E api.Event](b *bench, wanted func(E) bool) E {
	b.t.Helper()
	for i, event := range b.held {
		if e, ok := event.(E); ok && wanted(e) {
			b.held = slices.Delete(b.held, i, i+1)
			return e
		}
	}
	for late := time.After(patience); ; {
		select {
		case event, more := <-b.heard.Events():
			if !more {
				b.t.Fatalf("the watcher has ended: %v", b.heard.Err())
			}
			if e, ok := event.(E); ok && wanted(e) {
				return e
			}
			b.held = append(b.held, event)
		case <-late:
			b.t.Fatalf("no %T has come", *new(E))
		}
	}
}

func (b *bench) open(c *api.Client, service string, o api.Options) *api.Session {
	b.t.Helper()
	s, err := c.Open(within(b.t), service, "root", o)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) promptOf(s *api.Session) api.Prompt {
	b.t.Helper()
	return next(b, func(p api.Prompt) bool { return p.Session == s.ID() })
}

// give answers a prompt.
func (b *bench) give(c *api.Client, prompt uint64) error {
	b.t.Helper()
	s, err := secret.Read(strings.NewReader(answer))
	if err != nil {
		b.t.Fatal(err)
	}
	defer s.Wipe()
	return c.Answer(within(b.t), prompt, s)
}

// wait waits for a state of a session, which must come.
func (b *bench) wait(s *api.Session, state string) {
	b.t.Helper()
	if err := b.here.Session(s.ID()).Wait(within(b.t), state); err != nil {
		b.t.Errorf("wait for session %d to be %s: %v", s.ID(), state, err)
	}
}

// close closes a session, in order.
func (b *bench) close(s *api.Session) {
	b.t.Helper()
	if err := b.here.Session(s.ID()).Close(within(b.t)); err != nil {
		b.t.Errorf("close session %d: %v", s.ID(), err)
	}
	b.wait(s, api.StateClosed)
}

// works opens a session and closes it.
func (b *bench) works() {
	b.t.Helper()
	s := b.open(b.here, "permit", api.Options{})
	b.wait(s, api.StateOpen)
	b.close(s)
}

// bystander has a session whose question waits while something else happens. What it
// returns sees that the same question can be answered, and that sessions can be opened.
func (b *bench) bystander() (goesOn func()) {
	b.t.Helper()
	s := b.open(b.Client(b.t), "ask", api.Options{Linger: true, Reason: "bystander"})
	p := b.promptOf(s)
	return func() {
		b.t.Helper()
		if err := b.give(b.here, p.ID); err != nil {
			b.t.Errorf("the bystander's prompt %d cannot be answered: %v", p.ID, err)
		}
		b.wait(s, api.StateOpen)
		b.close(s)
		b.works()
	}
}

// journal is what has been logged since.
type journal struct {
	b     *bench
	start int
}

func (b *bench) journal() journal { return journal{b, len(b.Log())} }

func (j journal) text() string { return j.b.Log()[j.start:] }

// trouble is a line that is more than a note of what goes on.
var trouble = regexp.MustCompile(`level=(WARN|ERROR)|^pamprompt-`)

// says wants a line of trouble that says this, and no other line of trouble.
func (j journal) says(what string) {
	j.b.t.Helper()
	j.b.AwaitLog(j.b.t, func(string) bool { return strings.Contains(j.text(), what) })
	found := slices.DeleteFunc(strings.Split(j.text(), "\n"), func(line string) bool { return !trouble.MatchString(line) })
	if len(found) != 1 || !strings.Contains(found[0], what) {
		j.b.t.Errorf("not one line of the journal but %d say what happened, %q:\n%s", len(found), what, strings.Join(found, "\n"))
	}
}
