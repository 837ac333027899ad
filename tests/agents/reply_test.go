// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/pamprompt/pamprompt/api"
)

func TestAnAnswerOfReplyPassword(t *testing.T) {
	b := one(t, asks(t, "ask=secret,Password: ; export=ANSWER"))
	for _, test := range []struct{ name, answer string }{
		{"a word", "horse"},
		{"spaces around words, and signs of many languages", "  pässwörd пароль 密码 🔑 "},
		{"nothing", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.during(t)
			s, p, r := b.ask(api.Options{})
			b.reply(r, "1", test.answer+"\n")
			b.bus.closed(p, api.OutcomeAnswered)
			r.wantGone(t)
			if got := b.bus.opened(s); got != test.answer {
				t.Errorf("the module got %q", got)
			}
		})
	}
}

func TestACancelOfReplyPassword(t *testing.T) {
	b := one(t, asks(t, "ask=secret,Password: ; export=ANSWER"))
	s, p, r := b.ask(api.Options{})
	b.reply(r, "0", "")
	b.bus.closed(p, api.OutcomeCancelled)
	r.wantGone(t)
	b.bus.failed(s, api.Cancelled, "PAM_CONV_ERR")
}

// What an agent may say: candidates of a cache, of which the first counts; no
// NUL at the end; and as much as fits.
func TestWhatIsTakenForAnAnswer(t *testing.T) {
	b := one(t, asks(t, "ask=secret,Password: ; export=ANSWER"))
	long := strings.Repeat("x", 60<<10) // as much as an environment takes
	for _, test := range []struct{ name, says, answer string }{
		{"without a NUL", "+horse", "horse"},
		{"several answers", "+horse\x00battery\x00staple\x00", "horse"},
		{"an empty one before another", "+\x00battery\x00", ""},
		{"no more than the sign", "+", ""},
		{"a sign in the answer", "++-\x00", "+-"},
		{"a long one", "+" + long, long},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.during(t)
			s, p, r := b.ask(api.Options{})
			r.say(t, test.says)
			b.bus.closed(p, api.OutcomeAnswered)
			if got := b.bus.opened(s); got != test.answer {
				t.Errorf("the module got %d bytes: %.40q", len(got), got)
			}
		})
	}
}

// What is no answer counts for nothing, and the question waits on.
func TestWhatIsNoAnswer(t *testing.T) {
	b := one(t, password(t))
	for _, test := range []struct{ name, says, why string }{
		{"nothing", "", "it is empty"},
		{"no sign", "horse", "neither + nor -"},
		{"64 KiB and a byte", "+" + strings.Repeat("x", 64<<10), "longer than 65535 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.during(t)
			s, p, r := b.ask(api.Options{})
			r.say(t, test.says)
			r.say(t, test.says) // and again, of which nobody need hear
			r.say(t, "+"+answer)
			b.bus.closed(p, api.OutcomeAnswered)
			b.bus.opened(s)
			if lines := b.lines("is no answer", test.why); len(lines) != 1 {
				t.Errorf("the log says %d times that it is no answer: %q", len(lines), lines)
			}
		})
	}
}

// Whoever is not root cannot even write to the socket; and if somebody opens
// it to all, what they send is not taken.
func TestAnAnswerOfSomebodyWhoIsNotRoot(t *testing.T) {
	b := one(t, password(t))
	s, p, r := b.ask(api.Options{})
	asNobody := func() *exec.Cmd {
		cmd := b.commandAs(nobody, replyPassword, "1", r.Socket)
		cmd.Stdin = strings.NewReader(answer + "\n")
		return cmd
	}
	if out, err := asNobody().CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("nobody could write to the socket: %v %s", err, out)
	}
	if err := syscall.Chmod(r.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if out, err := asNobody().CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	b.logged("is no answer", "it came from uid 65534")
	if r.gone() || len(b.bus.pending()) != 1 {
		t.Error("the question has ended")
	}
	b.bus.answer(p, answer)
	b.bus.opened(s)
}

// A refused answer over D-Bus is nothing to an agent: it asks on. But one whose
// answer came while that one was on its way, and so to no avail, asks nobody
// any more: it has to find another request.
func TestAnAnswerThatMissedIsAskedForAgain(t *testing.T) {
	const n = 100
	b := one(t, many(t, n+1)) // the last one says that the one before has ended
	s := b.open(api.Options{})
	missed := 0
	for i := range n {
		c := &contest{stage: b, t: t, prompt: b.bus.promptOf(s), request: b.request()}
		refused := together(c.overBus(b.bus, "a\x00b"), c.byAgent(fmt.Sprint("agent ", i)))[0]
		if !errors.Is(refused, api.InvalidArgument) && !errors.Is(refused, api.AlreadyAnswered) {
			t.Fatalf("an answer with a NUL byte: %v", refused)
		}
		if r := b.anotherThan(c.request); r.Message == c.request.Message {
			missed++
			r.say(t, fmt.Sprintf("+agent %d", i))
		}
		b.bus.closed(c.prompt, api.OutcomeAnswered)
	}
	t.Logf("%d of %d answers came while another was on its way", missed, n)
	b.bus.answer(b.bus.promptOf(s), "the last")
	for i, environment := 0, b.bus.environment(s); i < n; i++ {
		if got, want := environment[fmt.Sprint("A", i)], fmt.Sprint("agent ", i); got != want {
			t.Errorf("question %d got %q", i, got)
		}
	}
}
