// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
)

// busy is an error that says nothing of what polkit thinks.
const busy = "org.freedesktop.DBus.Error.LimitsExceeded"

// known is what is known of the agent and the stage's session, in the owner.
func (v *vettingStage) known(e *ear, look func(c *client, k *vetted)) {
	v.do(func() {
		if c := v.clients[e.peer.Name]; c != nil {
			look(c, c.vetting.of[v.t])
		}
	})
}

// longPause has polkit not asked again by itself while the test goes on.
func (v *vettingStage) longPause(e *ear) {
	v.known(e, func(c *client, k *vetted) {
		k.rest()
		k.pause = longestPause
		v.postpone(c, v.t, k)
	})
}

// What waits while polkit is away is told when polkit has come again and says yes, in
// its order; nobody has to wait for the end of a pause.
func TestWhatWaitsIsToldWhenPolkitComes(t *testing.T) {
	v := startVetting(t)
	if err := v.Broker.polkit.Watch(t.Context(), v.polkitChanged); err != nil {
		t.Fatal(err)
	}
	e := newEar(t, v.Broker, v.address)
	v.polkit.leave()
	v.text("first")
	v.ask(1)
	e.settle()
	v.known(e, func(_ *client, k *vetted) {
		k.pause = longestPause // it has been away for long
		if k.approved {
			t.Error("without polkit the agent hears")
		}
	})
	v.text("second")
	e.settle()
	e.wantHeard()
	v.polkit.come()
	v.polkit.wantAsked(answerAny)
	e.wantHeard()
	v.polkit.say(true)
	e.settle()
	e.wantHeard("first", "second", "prompt 1")
	v.known(e, func(c *client, k *vetted) {
		if !k.approved || k.pause != 0 || k.again != nil || c.vetting.size != 0 {
			t.Errorf("afterwards is known %+v", k)
		}
	})
}

// A no is a no, also of a polkit that has just come, and what was owed is lost.
func TestPolkitThatComesAndSaysNo(t *testing.T) {
	v := startVetting(t)
	if err := v.Broker.polkit.Watch(t.Context(), v.polkitChanged); err != nil {
		t.Fatal(err)
	}
	e := newEar(t, v.Broker, v.address)
	v.polkit.leave()
	v.text("a text")
	v.ask(1)
	e.settle()
	v.longPause(e)
	v.polkit.come()
	v.polkit.wantAsked(answerAny)
	v.polkit.say(false)
	e.settle()
	e.wantHeard()
	v.known(e, func(c *client, k *vetted) {
		if k.approved || k.again != nil || k.pause != 0 || len(k.owed)+c.vetting.size != 0 {
			t.Errorf("after a no is known %+v", k)
		}
	})
}

// polkit that hangs and goes on tells nobody: it is asked again after a pause.
func TestPolkitThatSaidNothingIsAskedAgain(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.text("a text")
	v.polkit.wantAsked(answerAny)
	v.polkit.fail(busy)
	v.polkit.wantAsked(answerAny) // after a pause
	v.ask(1)
	v.polkit.fail(busy)
	e.settle()
	e.wantHeard()
	v.known(e, func(_ *client, k *vetted) {
		if k.pause != 2*shortestPause {
			t.Errorf("the second pause is %v", k.pause)
		}
		k.owed = nil
	})
	v.polkit.wantAsked(answerAny) // after a longer one
	v.polkit.say(true)
	e.settle()
	e.wantHeard("prompt 1")
}

// What polkit itself says is its word, also that it failed.
func TestAnErrorOfPolkitsIsANo(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.text("a text")
	v.polkit.wantAsked(answerAny)
	v.polkit.fail("org.freedesktop.PolicyKit1.Error.Failed")
	e.settle()
	v.known(e, func(_ *client, k *vetted) {
		if k.again != nil || k.owed != nil {
			t.Errorf("after an error is known %+v", k)
		}
	})
}

// The second action is not asked about when the first had no answer: the agent would
// be told no sooner.
func TestWhoIsSilentIsNotAskedMore(t *testing.T) {
	v := startVetting(t)
	v.do(func() { v.t.s.resolved, v.t.s.uid = true, stranger })
	e := newEar(t, v.Broker, v.address)
	v.ask(1)
	v.polkit.wantAsked("org.pamprompt.answer-own vault anna")
	v.polkit.fail(busy)
	e.settle()
	if n := len(v.polkit.asked); n != 0 {
		t.Errorf("polkit was asked %d times more", n)
	}
	v.longPause(e)
	v.do(v.review)
	v.polkit.wantAsked("org.pamprompt.answer-own vault anna")
	v.polkit.say(false)
	v.polkit.wantAsked(answerAny)
	v.polkit.say(true)
	e.settle()
	e.wantHeard("prompt 1")
}

// One question tells that polkit is away, and not one for each of a thousand sessions.
func TestWhoIsAwayIsNotAskedForEach(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.ask(1)
	v.polkit.wantAsked(answerAny)
	second := v.another(8)
	second.text("of the second")
	second.ask(2)
	v.another(9).ask(3)
	v.polkit.fail(busy)
	e.settle()
	if n := len(v.polkit.asked); n != 0 {
		t.Errorf("polkit is asked %d times more", n)
	}
	v.known(e, func(c *client, _ *vetted) {
		for a, k := range c.vetting.of {
			if k.pause != shortestPause || k.again == nil || k.queued {
				t.Errorf("of %v is known %+v", a.about(), k)
			}
		}
		if len(c.vetting.of) != 3 || len(c.vetting.of[second.t].owed) != 1 {
			t.Errorf("%d are known", len(c.vetting.of))
		}
	})
	for range 3 { // after the pause
		v.polkit.wantAsked(answerAny)
		v.polkit.say(true)
	}
	e.settle()
	e.b.do(func() {
		for number, q := range v.prompts {
			if q.told[e.peer.Name] == nil {
				t.Errorf("the agent is not told of prompt %d", number)
			}
		}
	})
}

// The pauses grow, and have a bound at either end.
func TestThePausesOfPolkit(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.polkit.leave()
	v.ask(1)
	e.settle()
	var pauses []time.Duration
	v.known(e, func(c *client, k *vetted) {
		for range 7 {
			pauses = append(pauses, k.pause)
			k.rest()
			v.postpone(c, v.t, k)
		}
		k.rest()
	})
	want := fmt.Sprint([]time.Duration{shortestPause, 2 * shortestPause, 4 * shortestPause, 8 * shortestPause, 16 * shortestPause, longestPause, longestPause})
	if got := fmt.Sprint(pauses); got != want {
		t.Errorf("the pauses are %s, not %s", got, want)
	}
}

// Nobody is asked about any more when there is nothing to tell, and each end stops the
// pause: of the agent, and of the session.
func TestAPauseOfPolkitThatIsForNothing(t *testing.T) {
	for name, end := range map[string]func(v *vettingStage, e *ear){
		"the prompt has ended": func(v *vettingStage, e *ear) { v.end() },
		"the agent is none any more": func(v *vettingStage, e *ear) {
			v.do(func() { v.retire(v.clients[e.peer.Name]) })
		},
		"the session has ended": func(v *vettingStage, e *ear) {
			v.do(func() { v.forget(v.t) })
		},
		"polkit has said no meanwhile": func(v *vettingStage, e *ear) {
			v.do(v.review)
			v.polkit.wantAsked(answerAny)
			v.polkit.say(false)
			e.settle()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := startVetting(t)
			e := newEar(t, v.Broker, v.address)
			v.ask(1)
			v.polkit.wantAsked(answerAny)
			v.polkit.fail(busy)
			e.settle()
			end(v, e)
			// One that is longer, and begun later, is over after it.
			over := make(chan struct{})
			time.AfterFunc(3*shortestPause/2, func() { v.post(func() { close(over) }) })
			select {
			case <-over:
			case <-time.After(patience):
				t.Fatal("the owner does nothing")
			}
			e.settle()
			if n := len(v.polkit.asked); n != 0 {
				t.Errorf("polkit is asked %d times more", n)
			}
		})
	}
}

// A broker keeps so much for an agent while polkit says nothing, and no more.
func TestSoMuchIsOwedToAnAgent(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.polkit.leave()
	long := strings.Repeat("x", worker.MaxText)
	sessions := []*vettingStage{v}
	for id := range uint64(3) {
		sessions = append(sessions, v.another(100+id))
	}
	for _, s := range sessions {
		for range maxOwed {
			s.text(long)
		}
	}
	e.settle()
	size := func() (size, texts int) {
		v.known(e, func(c *client, _ *vetted) {
			size = c.vetting.size
			for _, k := range c.vetting.of {
				texts += len(k.owed)
			}
		})
		return size, texts
	}
	if size, texts := size(); size != maxOwedSize || texts != maxOwedSize/worker.MaxText {
		t.Errorf("%d texts of %d bytes are owed, not %d", texts, size, maxOwedSize)
	}
	v.do(func() { v.forget(v.t) })
	if size, texts := size(); size != 0 || texts != 0 {
		t.Errorf("when the session has ended %d texts of %d bytes are owed", texts, size)
	}
	sessions[1].text("short")
	if size, texts := size(); size != len("short") || texts != 1 {
		t.Errorf("then %d texts of %d bytes are owed", texts, size)
	}
	v.do(func() { v.retire(v.clients[e.peer.Name]) })
	e.enlist()
	if size, texts := size(); size != 0 || texts != 0 {
		t.Errorf("to an agent that comes again %d texts of %d bytes are owed", texts, size)
	}
}

// Rules that are read while polkit is away count for what is owed.
func TestARuleThatIsReadWhilePolkitIsAway(t *testing.T) {
	for verdict, want := range map[string][]string{"allow": {"a text", "prompt 1"}, "deny": nil} {
		v := startVetting(t)
		e := newEar(t, v.Broker, v.address)
		v.polkit.leave()
		v.text("a text")
		v.ask(1)
		e.settle()
		v.longPause(e)
		v.SetRules(rulesOf(t, "[[rule]]\naction = \"answer\"\ncaller = \"uid:60001\"\nverdict = \""+verdict+"\"\n"))
		e.wantHeard(want...)
		v.known(e, func(c *client, k *vetted) {
			if k.again != nil || c.vetting.size != 0 {
				t.Errorf("after a rule that says %s is known %+v", verdict, k)
			}
		})
	}
}

// A text alone is a reason to ask again, and one that a rule allows before polkit is
// asked about it is told.
func TestATextIsOwedUntilPolkitComes(t *testing.T) {
	v := startVetting(t)
	if err := v.Broker.polkit.Watch(t.Context(), v.polkitChanged); err != nil {
		t.Fatal(err)
	}
	e := newEar(t, v.Broker, v.address)
	v.polkit.leave()
	v.text("a text")
	e.settle()
	v.longPause(e)
	v.polkit.come()
	v.polkit.wantAsked(answerAny)
	v.another(8).text("in the queue")
	v.rules.Store(rulesOf(t, "[[rule]]\naction = \"answer\"\ncaller = \"uid:60001\"\nverdict = \"allow\"\n"))
	v.polkit.say(true)
	e.settle()
	e.wantHeard("a text", "in the queue")
}

// Others are asked in the place of an agent (ask-password=fallback) while polkit does not
// say that it may know.
func TestWhoIsAskedInTheAgentsPlaceWhilePolkitIsSilent(t *testing.T) {
	v := startVetting(t)
	v.do(func() {
		v.userFiles = true // the copy that shows here
		v.t.s.resolved, v.t.s.uid = true, 4711
		v.t.s.start.Options.AskPassword = api.AskPasswordFallback
	})
	e := newEar(t, v.Broker, v.address)
	want := func(when string, others bool) {
		t.Helper()
		e.settle()
		v.do(func() {
			if v.t.userFile != others {
				t.Errorf("%s others are asked: %t", when, v.t.userFile)
			}
		})
	}
	v.ask(1)
	v.polkit.wantAsked(answerAny)
	v.polkit.say(true)
	want("when polkit says yes", false)
	v.text("a text")
	v.do(v.review) // which asks nothing: the agent knows of all
	want("afterwards", false)
	v.polkit.leave()
	v.known(e, func(c *client, _ *vetted) { v.vet(c, v.t) })
	want("when polkit is away", true)
	v.longPause(e)
	v.polkit.come()
	v.known(e, func(c *client, _ *vetted) { v.vet(c, v.t) })
	v.polkit.wantAsked(answerAny)
	v.polkit.say(true)
	want("when it is back", false)
}
