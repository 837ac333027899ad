// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
)

// What polkit said of one question holds for that question alone.
func TestPolkitIsAskedBeforeEachPrompt(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	for number, yes := range []bool{true, false, true, false} {
		v.ask(uint64(number + 1))
		v.polkit.wantAsked(answerAny)
		e.wantHeard() // nothing, until polkit has said so
		v.polkit.say(yes)
		e.settle()
		if yes {
			e.wantHeard(fmt.Sprint("prompt ", number+1))
		} else {
			e.wantHeard()
		}
		v.end()
		if yes {
			e.wantHeard(fmt.Sprint("end ", number+1))
		} else {
			e.wantHeard()
		}
	}
	v.ask(9)
	v.polkit.wantAsked(answerAny)
	v.end()
	v.polkit.say(true)
	e.settle()
	e.wantHeard() // of what has ended already
}

// A text waits for polkit's word too, and is lost when that is no.
func TestPolkitIsAskedBeforeATextIsTold(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.text("one")
	v.polkit.wantAsked(answerAny)
	v.text("two")
	e.wantHeard()
	v.polkit.say(true)
	v.polkit.wantAsked(answerAny) // since what came later
	e.wantHeard("one", "two")
	v.polkit.say(false)
	e.settle()
	v.text("three")
	v.polkit.wantAsked(answerAny)
	v.polkit.say(false)
	e.settle()
	e.wantHeard()
	v.text("four")
	v.polkit.wantAsked(answerAny)
	v.polkit.say(true)
	e.settle()
	e.wantHeard("four")
}

func TestSoManyTextsWaitForPolkit(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	var want []string
	for i := range maxOwed + 10 {
		v.text(fmt.Sprint(i))
		if i == 0 {
			v.polkit.wantAsked(answerAny)
		}
		if i < maxOwed {
			want = append(want, fmt.Sprint(i))
		}
	}
	v.polkit.say(true)
	v.polkit.wantAsked(answerAny)
	e.wantHeard(want...)
	v.polkit.say(true)
	e.settle()
}

// An agent that comes again is a new one, whatever else its connection is for.
func TestAnAgentThatComesAgainIsAskedAboutAgain(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.do(func() { // its client is not forgotten meanwhile
		own := newTransaction(v.Broker, &worker.Start{Session: 8, Owner: &worker.Owner{Uid: stranger}, Options: &worker.Options{}}, v.t.worker)
		v.add(own.s, v.clients[e.peer.Name])
	})
	v.text("one")
	v.polkit.wantAsked(answerAny)
	v.polkit.say(true)
	e.settle()
	e.wantHeard("one")
	retire := func() { v.do(func() { v.retire(v.clients[e.peer.Name]) }) }
	retire()
	v.text("to nobody")
	e.enlist()
	v.text("two")
	v.polkit.wantAsked(answerAny)
	e.wantHeard()
	retire()
	v.polkit.say(true)
	e.settle()
	e.wantHeard()
}

// What is known of an agent and a session is forgotten with the session.
func TestVettingEndsWithItsSession(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.text("one")
	v.polkit.wantAsked(answerAny)
	v.do(func() { v.t.s.end(api.StateFailed, 0, "") })
	v.polkit.say(true)
	e.settle()
	e.wantHeard()
	v.do(func() {
		if n := len(v.clients[e.peer.Name].vetting.of); n != 0 {
			t.Errorf("%d sessions are remembered", n)
		}
	})
}

// A rule that denies from now on counts for what polkit was to be asked about,
// and for what it was asked about already.
func TestARuleThatDeniesWhilePolkitIsAsked(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	second := v.another(8)
	v.text("asked about")
	v.polkit.wantAsked(answerAny)
	v.ask(1)
	second.text("to be asked about")
	v.rules.Store(rulesOf(t, "[[rule]]\naction = \"answer\"\ncaller = \"uid:60001\"\nverdict = \"deny\"\n"))
	v.polkit.say(true)
	e.settle()
	e.wantHeard()
	v.rules.Store(nil)
	second.text("later")
	v.polkit.wantAsked(answerAny)
	v.polkit.say(true)
	e.settle()
	e.wantHeard("later")
}

// What polkit says to a question that a rule answers by now does not count.
func TestARuleThatAllowsWhilePolkitIsAsked(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.text("one")
	v.polkit.wantAsked(answerAny)
	v.rules.Store(rulesOf(t, "[[rule]]\naction = \"answer\"\ncaller = \"uid:60001\"\nverdict = \"allow\"\n"))
	v.polkit.say(false)
	e.settle()
	e.wantHeard("one")
}

// polkit says that its answers may be others now: who may know of what waits is
// looked at again, once, however often it is said.
func TestPolkitsHintHasAgentsAskedAboutAgain(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.ask(1)
	v.polkit.wantAsked(answerAny)
	v.polkit.say(false)
	e.settle()
	for range 100 {
		v.polkitChanged()
	}
	v.polkit.wantAsked(answerAny)
	v.polkit.say(true)
	e.settle()
	e.wantHeard("prompt 1")
	if n := len(v.polkit.asked); n != 0 {
		t.Errorf("polkit was asked %d times more", n)
	}
}

// Whoever knows of a prompt does not hear of it twice.
func TestAPromptIsToldOnce(t *testing.T) {
	v := startVetting(t)
	e := newEar(t, v.Broker, v.address)
	v.ask(1)
	v.polkit.wantAsked(answerAny)
	v.text("and a text") // which is asked about as well
	v.polkit.say(true)
	v.polkit.wantAsked(answerAny)
	v.polkit.say(true)
	e.settle()
	e.wantHeard("and a text", "prompt 1")
	v.do(v.review)
	e.settle()
	e.wantHeard()
	v.SetRules(rulesOf(t, "[[rule]]\naction = \"answer\"\ncaller = \"uid:60001\"\nverdict = \"allow\"\n"))
	e.wantHeard()
}
