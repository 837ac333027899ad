// SPDX-License-Identifier: Apache-2.0

package surroundings

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

var buses = []struct {
	name  string
	start func(testing.TB, system.Options) *system.OnBus
}{
	{"dbus-daemon", system.StartOnBus},
	{"dbus-broker", system.StartOnDBusBroker},
}

// scene is one of everything that a bus may carry.
type scene struct {
	b                              *bench
	open, asking                   *api.Session // they linger
	bound, boundAsking             *api.Session // they do not
	command                        *api.Session // lingers
	prompt, boundPrompt, converses api.Prompt
	conversation                   *api.Conversation
	response                       *os.File
	in                             *os.File
	out                            *bufio.Reader
	waited                         chan error // of a waiter
}

func stage(b *bench) *scene {
	b.t.Helper()
	s := &scene{b: b, waited: make(chan error, 1)}
	opener := b.Client(b.t)
	s.open = b.open(opener, "permit", api.Options{Linger: true})
	s.asking = b.open(opener, "ask", api.Options{Linger: true})
	s.bound = b.open(opener, "permit", api.Options{})
	s.boundAsking = b.open(opener, "ask", api.Options{})
	s.prompt, s.boundPrompt = b.promptOf(s.asking), b.promptOf(s.boundAsking)
	s.run(opener)
	var err error
	if s.conversation, err = opener.OpenConversation(within(b.t), "ftp", "anna", api.ConversationOptions{}); err != nil {
		b.t.Fatal(err)
	}
	_, s.response, err = s.conversation.Ask(within(b.t), api.Question{Style: api.StyleSecret, Message: "Password: "})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = s.response.Close() })
	s.converses = next(b, func(p api.Prompt) bool { return p.Session == s.conversation.ID() })
	for _, session := range []*api.Session{s.open, s.bound, s.command} {
		b.wait(session, api.StateOpen)
	}
	go func() { s.waited <- s.open.Wait(within(b.t), api.StateClosed) }()
	return s
}

// run has a command read lines and say them again.
func (s *scene) run(c *api.Client) {
	t := s.b.t
	t.Helper()
	theirs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	s.in, s.out = in, bufio.NewReader(out)
	s.command = s.b.open(c, "permit", api.Options{Linger: true, Command: []string{"cat"}, Stdio: []*os.File{theirs, theirOut, theirOut}})
	_, _ = theirs.Close(), theirOut.Close()
	s.echo("one")
}

// echo sees that the command runs.
func (s *scene) echo(line string) {
	s.b.t.Helper()
	if _, err := fmt.Fprintln(s.in, line); err != nil {
		s.b.t.Fatal(err)
	}
	if said, err := s.out.ReadString('\n'); err != nil || strings.TrimSpace(said) != line {
		s.b.t.Errorf("the command says %q, %v, and not %q", said, err, line)
	}
}

// same sees that what lingers is there by the same numbers, and works.
func (s *scene) same() {
	b := s.b
	b.t.Helper()
	b.wait(s.open, api.StateOpen)
	if err := b.give(b.here, s.prompt.ID); err != nil {
		b.t.Errorf("answer prompt %d: %v", s.prompt.ID, err)
	}
	b.wait(s.asking, api.StateOpen)
	s.echo("two")
	_ = s.in.Close()
	if p, err := b.here.Session(s.command.ID()).WaitExit(within(b.t)); err != nil || p.ExitStatus != 0 {
		b.t.Errorf("the command ended with %d, %v", p.ExitStatus, err)
	}
	b.wait(s.command, api.StateClosed)
	b.close(s.open)
	b.close(s.asking)
}

// The bus ends, and with it every connection: who opened a session is not there any
// more, as whoever leaves the bus.
func TestTheBusEndsAndComesAgain(t *testing.T) {
	for _, bus := range buses {
		for _, signal := range []syscall.Signal{unix.SIGKILL, unix.SIGTERM} {
			t.Run(fmt.Sprintf("%s, %s", bus.name, unix.SignalName(signal)), func(t *testing.T) {
				b := on(t, bus.start(t, system.Options{Stacks: stacks(t)}))
				goesOn, s, journal := b.bystander(), stage(b), b.journal()
				b.EndBus(t, signal)
				then := time.Now()
				if code := b.EndedWith(t); code != 1 { // so that its unit starts it again
					t.Errorf("the broker ended with %d", code)
				}
				took := time.Since(then)
				if err := <-s.waited; !errors.Is(err, api.ErrNoBus) {
					t.Errorf("who waited for a session was told %v", err)
				}
				for range b.heard.Events() { // what came before
				}
				if err := b.heard.Err(); !errors.Is(err, api.ErrNoBus) {
					t.Errorf("the agent was told %v", err)
				}
				if _, err := api.ReadResponse(within(t), s.response); !errors.Is(err, api.ErrNoBroker) {
					t.Errorf("who asked in a conversation was told %v", err)
				}
				s.echo("while there is no bus")
				journal.says("the connection to the bus was lost")
				b.RestartBus(t)
				b.Restart(t)
				b.come()
				back := time.Since(then)
				for _, session := range []*api.Session{s.bound, s.boundAsking} {
					if err := b.here.Session(session.ID()).Wait(within(t), api.StateClosed); err != nil && !errors.Is(err, api.NoSuchSession) {
						t.Errorf("a session without its owner: %v", err)
					}
					b.AwaitLog(t, func(string) bool {
						return ended(journal.text(), session.ID(), "state=closed pam=0 why=\"its owner left the bus")
					})
				}
				if _, err := b.here.Session(s.conversation.ID()).Properties(within(t)); !errors.Is(err, api.NoSuchSession) {
					t.Errorf("the conversation: %v", err)
				}
				b.back(s.open, s.asking, s.command) // when their workers have dialled
				s.same()
				goesOn()
				saw(t, "the bus ended by %s: the broker ended with 1 after %v; with another bus and broker, after %v, 3 lingering sessions and their prompts had their numbers, "+
					"the command ran on, 2 sessions without their owner were closed in order", unix.SignalName(signal), took.Round(time.Millisecond), back.Round(time.Millisecond))
			})
		}
	}
}

// ended says whether the journal has the end of a session, and how it ended.
func ended(journal string, id uint64, how string) bool {
	for line := range strings.SplitSeq(journal, "\n") {
		if strings.Contains(line, `msg="session ended"`) && strings.Contains(line, fmt.Sprintf("session=%d ", id)) {
			return strings.Contains(line, how)
		}
	}
	return false
}

// A bus that is stopped answers nothing. The broker's watchdog asks its owner, who
// never waits for the bus, and when the bus goes on all does.
func TestTheBusStandsStill(t *testing.T) {
	for _, bus := range buses {
		t.Run(bus.name, func(t *testing.T) {
			b := on(t, bus.start(t, system.Options{Stacks: stacks(t)}))
			goesOn, s, journal := b.bystander(), stage(b), b.journal()
			late := b.open(b.Client(t), "ask", api.Options{Linger: true, Timeout: time.Second}) // it expires meanwhile
			lateQuestion := b.promptOf(late)
			b.SignalBus(t, unix.SIGSTOP)
			defer b.SignalBus(t, unix.SIGCONT) // whatever happens
			before, began := system.ProcessorTime(t, b.BrokerPID()), time.Now()
			called := make(chan error, 1)
			go func() { called <- b.give(b.here, s.boundPrompt.ID) }()
			s.echo("while the bus stands still")
			b.AwaitLog(t, func(string) bool { return ended(journal.text(), late.ID(), "state=failed") })
			stood, used := time.Since(began), system.ProcessorTime(t, b.BrokerPID())-before
			b.SignalBus(t, unix.SIGCONT)
			if err := <-called; err != nil {
				t.Errorf("an answer that was given meanwhile: %v", err)
			}
			next(b, func(e api.PromptClosed) bool { return e.ID == lateQuestion.ID && e.Outcome == api.OutcomeExpired })
			b.wait(s.boundAsking, api.StateOpen)
			b.wait(s.bound, api.StateOpen)
			if err := b.give(b.here, s.converses.ID); err != nil {
				t.Error(err)
			}
			got, err := api.ReadResponse(within(t), s.response)
			if err != nil {
				t.Errorf("the conversation has no answer: %v", err)
			}
			got.Wipe()
			s.same()
			if err := <-s.waited; err != nil {
				t.Errorf("who waited was told %v", err)
			}
			goesOn()
			saw(t, "the bus stood still for %v: the broker used %v of a processor; one prompt expired meanwhile, all else went on, the same watcher and waiter too",
				stood.Round(time.Millisecond), used)
		})
	}
}
