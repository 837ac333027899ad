// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
)

// many is a stack that asks n times; each answer is put into the environment as
// A and the number of the question. A question that fails is passed over.
func many(t testing.TB, n int) string {
	probe := modules.Probe(t)
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "auth [default=ignore] %s [auth:ask=secret,Question %d: ] auth:export=A%d\n", probe, i, i)
	}
	return b.String() + "auth required pam_permit.so\n" + rest
}

// together runs functions that are let go at the same instant, and returns
// their errors.
func together(first ...func() error) []error {
	var ready, done sync.WaitGroup
	gate := make(chan struct{})
	errs := make([]error, len(first))
	for i, f := range first {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-gate
			errs[i] = f()
		})
	}
	ready.Wait()
	close(gate)
	done.Wait()
	return errs
}

// contest is one question and all who want to end it.
type contest struct {
	*stage
	t       *testing.T
	prompt  api.Prompt
	request request
}

// see waits for the request of the prompt. It is false when the prompt expires
// before it can be read.
func (c *contest) see(message string) bool {
	c.t.Helper()
	found, expired := false, false
	until(c.t, c.dir, func() bool {
		for _, name := range names(c.t, c.dir, ours) {
			r, err := tryLoad(c.dir, name)
			if found = err == nil && r.Message == message; found {
				c.request = r
				return true
			}
		}
		left, expires := c.prompt.Remaining()
		expired = expires && left == 0
		return expired
	})
	return found
}

// overBus answers over D-Bus, with a word that says who did.
func (c *contest) overBus(l *listener, word string) func() error {
	return func() error { return l.give(c.prompt.ID, word) }
}

// byAgent answers as an agent. That an agent could send something says nothing.
func (c *contest) byAgent(word string) func() error {
	return func() error {
		_ = c.request.send("+" + word + "\x00")
		return nil
	}
}

// byProgram answers by a real one, which reads the end of its answer when it is
// let go. It reads by then: a pipe holds a page, and the answer is longer.
func (c *contest) byProgram(word string) func() error {
	c.t.Helper()
	cmd := c.command(replyPassword, "1", c.request.Socket)
	r, w, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd.Stdin = r
	_, err = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
	err = errors.Join(err, cmd.Start(), r.Close())
	c.t.Cleanup(func() {
		_ = w.Close()
		_ = cmd.Wait() // it may have come too late
	})
	if err == nil {
		_, err = w.WriteString(word + "\n")
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return w.Close
}

// rounds runs n contests about the questions of one session, and checks who
// won: in each round of those that the contest names by a word, exactly the
// one whose answer the module got was told so.
func rounds(t *testing.T, n int, o api.Options, round func(c *contest) (words []string, errs []error)) map[string]int {
	t.Helper()
	b := one(t, many(t, n))
	s := b.open(o)
	said := make([]map[string]error, n) // by the word
	ends := make([]string, n)
	for i := range n {
		c := &contest{stage: b, t: t, prompt: b.bus.promptOf(s)}
		said[i] = make(map[string]error)
		if c.see(line("", "", fmt.Sprintf("Question %d:", i))) {
			words, errs := round(c)
			for k, word := range words {
				said[i][word] = errs[k]
			}
		}
		ends[i] = next(b.bus, func(e api.PromptClosed) bool { return e.ID == c.prompt.ID }).Outcome
		c.request.wantGone(t)
	}
	environment := b.bus.environment(s)
	b.wantNothingOfOurs()
	wins := make(map[string]int)
	for i := range n {
		won, answered := environment[fmt.Sprint("A", i)]
		if answered != (ends[i] == api.OutcomeAnswered) {
			t.Errorf("round %d: it ended as %s, and the module got %q", i, ends[i], won)
		}
		if !answered {
			won = ends[i]
		}
		wins[won[:min(len(won), 10)]]++
		wantVerdicts(t, i, won, ends[i], said[i])
	}
	t.Logf("of %d rounds were won: %v", n, wins)
	return wins
}

// wantVerdicts checks what those heard who answered over D-Bus.
func wantVerdicts(t *testing.T, round int, won, outcome string, said map[string]error) {
	t.Helper()
	lost := map[string]api.Code{
		api.OutcomeAnswered: api.AlreadyAnswered, api.OutcomeCancelled: api.Cancelled, api.OutcomeExpired: api.TimedOut,
	}[outcome]
	for word, err := range said {
		switch {
		case word == won && err != nil:
			t.Errorf("round %d: the module got the answer %q, and whoever gave it heard %v", round, word, err)
		case word != won && errors.Is(err, api.AlreadyAnswered) && outcome != api.OutcomeAnswered:
			// Somebody else's answer was on its way, and came too late as well.
		case word != won && !errors.Is(err, lost):
			t.Errorf("round %d: the module got %q, it ended as %s, and whoever gave %q heard %v", round, won, outcome, word, err)
		}
	}
}

// wantBoth fails a test in which one side has no chance, so that it tests nothing.
func wantBoth(t *testing.T, wins map[string]int, words ...string) {
	t.Helper()
	for _, word := range words {
		if wins[word] == 0 {
			t.Errorf("%q has never won: %v", word, wins)
		}
	}
}

func TestAnAnswerOverDBusAndOneOfAnAgentAtTheSameInstant(t *testing.T) {
	wins := rounds(t, 200, api.Options{}, func(c *contest) ([]string, []error) {
		return []string{"bus"}, together(c.overBus(c.bus, "bus"), c.byAgent("agent"))
	})
	wantBoth(t, wins, "bus", "agent")
}

func TestAnAnswerOverDBusAndOneOfReplyPasswordAtTheSameInstant(t *testing.T) {
	word := strings.Repeat("agent", os.Getpagesize()/5+1)
	const n = 12 // an environment holds no more
	wins := rounds(t, n, api.Options{}, func(c *contest) ([]string, []error) {
		program := c.byProgram(word)
		return []string{"bus"}, together(c.overBus(c.bus, "bus"), program)
	})
	if wins["bus"]+wins["agentagent"] != n {
		t.Errorf("somebody else has won: %v", wins)
	}
}

func TestFourAnswersAtTheSameInstant(t *testing.T) {
	var other *listener
	rounds(t, 100, api.Options{}, func(c *contest) ([]string, []error) {
		if other == nil {
			other = c.listen()
		}
		return []string{"one", "two"}, together(c.overBus(c.bus, "one"), c.overBus(other, "two"), c.byAgent("three"), c.byAgent("four"))
	})
}

func TestAnAnswerAndACancelAtTheSameInstant(t *testing.T) {
	for _, test := range []struct {
		name string
		ends func(c *contest) ([]string, []error)
	}{
		{"an agent answers, D-Bus cancels", func(c *contest) ([]string, []error) {
			together(c.byAgent("agent"), func() error { return c.bus.Cancel(within(c.t), c.prompt.ID) })
			return nil, nil
		}},
		{"D-Bus answers, an agent cancels", func(c *contest) ([]string, []error) {
			return []string{"bus"}, together(c.overBus(c.bus, "bus"), func() error { _ = c.request.send("-"); return nil })
		}},
		{"an agent answers, another cancels", func(c *contest) ([]string, []error) {
			together(c.byAgent("agent"), func() error { _ = c.request.send("-"); return nil })
			return nil, nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) { rounds(t, 50, api.Options{}, test.ends) })
	}
}

func TestAnswersAtTheInstantWhenAQuestionExpires(t *testing.T) {
	rounds(t, 30, api.Options{Timeout: 50 * time.Millisecond}, func(c *contest) ([]string, []error) {
		left, _ := c.prompt.Remaining()
		expires := time.After(left) // the instant is what this is about
		return []string{"bus"}, together(func() error {
			<-expires
			return c.overBus(c.bus, "bus")()
		}, func() error {
			<-time.After(left)
			return c.byAgent("agent")()
		})
	})
}

// A session that is closed when its question is answered: the module got the
// answer if that is what everybody was told.
func TestAnswersAtTheInstantWhenTheSessionIsClosed(t *testing.T) {
	got := filepath.Join(t.TempDir(), "got")
	b := one(t, asks(t, "ask=secret,Password: ; log="+got))
	answered := 0
	const n = 40
	for range n {
		s, p, r := b.ask(api.Options{})
		c := &contest{stage: b, t: t, prompt: p, request: r}
		heard := together(c.overBus(b.bus, "bus"), c.byAgent("agent"), func() error { return s.Close(within(t)) })
		outcome := next(b.bus, func(e api.PromptClosed) bool { return e.ID == p.ID }).Outcome
		r.wantGone(t)
		if outcome == api.OutcomeAnswered {
			answered++
		} else if outcome != api.OutcomeSessionClosed || heard[0] == nil {
			t.Errorf("it ended as %s, and whoever answered over D-Bus heard %v", outcome, heard[0])
		}
		if err := s.Wait(within(t), api.StateClosed); err != nil {
			t.Error(err)
		}
	}
	text, _ := os.ReadFile(got)
	if took := strings.Count(string(text), "auth\n"); took != answered {
		t.Errorf("%d prompts were answered, and modules got %d answers", answered, took)
	}
	t.Logf("%d of %d prompts were answered", answered, n)
}
