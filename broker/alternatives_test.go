// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// sideBySide is a session of somebody's with the services word and finger, whose
// workers have begun. What it does with them has to run in the owner.
func sideBySide(t *testing.T, id uint64) (*Broker, *session, *transaction, *transaction) {
	t.Helper()
	b, _, idle := startOnBus(t)
	starts := startsOf(&worker.Start{
		Session: id, Service: "word", User: "anna", Owner: &worker.Owner{Uid: stranger}, Options: &worker.Options{Attempts: 1, Linger: true},
	}, []string{"finger"})
	s := b.newSession(openedAs(starts[1]))
	s.expect(starts[0].GetAlternative())
	var both []*transaction
	for _, start := range starts {
		tr := s.newTransaction(start, idle())
		s.join(tr)
		both = append(both, tr)
	}
	b.do(func() {
		b.add(s, nil)
		for _, tr := range both {
			says(t, tr, &worker.ToBroker{Message: &worker.ToBroker_Entering{Entering: &worker.Entering{Phase: worker.Phase_PHASE_START}}})
			says(t, tr, entering(worker.Phase_PHASE_AUTHENTICATE))
		}
	})
	return b, s, both[0], both[1]
}

// says has a worker say something, which must be right.
func says(t *testing.T, tr *transaction, m *worker.ToBroker) {
	t.Helper()
	if err := tr.handle(m, 1000+uint64(tr.index())); err != nil {
		t.Errorf("of %s: %v", tr.start.GetService(), err)
	}
}

func entering(p worker.Phase) *worker.ToBroker {
	return &worker.ToBroker{Message: &worker.ToBroker_Entering{Entering: &worker.Entering{Phase: p, Attempt: 1}}}
}

var (
	isReady  = &worker.ToBroker{Message: &worker.ToBroker_Ready{Ready: &worker.Ready{}}}
	asksHere = &worker.ToBroker{Message: &worker.ToBroker_Prompt{Prompt: &worker.Prompt{
		Style: worker.Style_STYLE_SECRET, Text: []byte("?"), Phase: worker.Phase_PHASE_AUTHENTICATE}}}
	isClosed = &worker.ToBroker{Message: &worker.ToBroker_Closed{Closed: &worker.Closed{Text: []byte("closed before it opened")}}}
	isOpened = &worker.ToBroker{Message: &worker.ToBroker_Opened{Opened: &worker.Opened{}}}
)

func TestOnlyOneAlternativeGoesOn(t *testing.T) {
	b, s, word, finger := sideBySide(t, 7)
	b.do(func() {
		says(t, word, asksHere)
		q := word.prompt
		says(t, finger, isReady)
		if q.waits() || s.alternatives.winner != finger || !word.losing {
			t.Errorf("the loser's prompt waits: %v, the winner is %v", q.waits(), s.alternatives.winner)
		}
		// What the other one says before it knows is of no interest.
		says(t, word, asksHere)
		says(t, word, isReady)
		says(t, word, entering(worker.Phase_PHASE_END))
		if s.alternatives.winner != finger || len(s.prompts) > 0 || word.mayProceed() {
			t.Errorf("the winner is %v, %d prompts wait", s.alternatives.winner, len(s.prompts))
		}
		says(t, finger, entering(worker.Phase_PHASE_CREDENTIALS))
		says(t, finger, isOpened)
		if s.state != api.StateOpen || s.usedService() != "finger" || s.leading() != finger {
			t.Errorf("it is %s by %q", s.state, s.usedService())
		}
		if got := b.usage[stranger].sessions; got != 2 {
			t.Errorf("while the loser runs %d sessions are charged", got)
		}
		says(t, word, isClosed)
		if got := b.usage[stranger].sessions; s.over() || got != 1 {
			t.Errorf("it is %s when the loser has ended, %d sessions are charged", s.state, got)
		}
		says(t, finger, isClosed)
		if s.state != api.StateClosed || b.usage[stranger] != nil {
			t.Errorf("it is %s, charged is %v", s.state, b.usage[stranger])
		}
	})
}

// The end of a session is that of all its workers.
func TestASessionEndsWithTheLastOfItsWorkers(t *testing.T) {
	b, s, word, finger := sideBySide(t, 7)
	b.do(func() {
		says(t, word, isReady)
		says(t, word, &worker.ToBroker{Message: &worker.ToBroker_Failed{Failed: &worker.Failed{Error: string(api.PAMFailed), PamResult: 14}}})
		if s.state != api.StateClosing {
			t.Errorf("it is %s while a worker of it runs", s.state)
		}
		says(t, finger, isClosed)
		if s.state != api.StateFailed || s.result != 14 || len(s.alternatives.endings) > 0 {
			t.Errorf("it is %s with %d", s.state, s.result)
		}
	})
}

func TestAnAlternativeThatGoesOnByItselfIsKilled(t *testing.T) {
	for name, packet := range map[string]*worker.ToBroker{"credentials": entering(worker.Phase_PHASE_CREDENTIALS), "opened": isOpened} {
		t.Run(name, func(t *testing.T) {
			b, s, word, finger := sideBySide(t, 7)
			b.do(func() {
				finger.worker.Close() // or it would be this process that is killed
				err := finger.handle(packet, 0)
				if err == nil {
					t.Fatal("it may go on")
				}
				finger.broke(err)
				if e := s.alternatives.endings; len(e) != 1 || !strings.Contains(e[0].text, "and was killed") || s.state != api.StateOpening {
					t.Errorf("it is %s, and ended were %v", s.state, e)
				}
				says(t, word, isReady)
				if s.alternatives.winner != word {
					t.Error("the other one does not go on")
				}
			})
		})
	}
}

// The last broker may have let one go on that has not come back yet.
func TestNoAlternativeGoesOnBeforeAllAreBack(t *testing.T) {
	b, _, idle := startOnBus(t)
	starts := startsOf(&worker.Start{Session: 7, Service: "word", User: "anna", Owner: &worker.Owner{}, Options: &worker.Options{Attempts: 1, Linger: true}},
		[]string{"finger", "card"})
	back := func(i int, phase worker.Phase, proceeds bool) {
		b.adopt(idle(), &worker.Session{Start: starts[i], Phase: phase, Ready: true, Proceeds: proceeds})
	}
	back(2, worker.Phase_PHASE_ACCOUNT, false)
	var s *session
	b.do(func() {
		if s = b.sessions[7]; s.start.GetService() != "word" || s.alternatives.winner != nil || s.state != api.StateOpening {
			t.Errorf("the session is of %q, %s, the winner %v", s.start.GetService(), s.state, s.alternatives.winner)
		}
	})
	back(1, worker.Phase_PHASE_CREDENTIALS, true)
	back(1, worker.Phase_PHASE_CREDENTIALS, true) // once more: it is refused
	back(0, worker.Phase_PHASE_ACCOUNT, false)
	b.do(func() {
		if len(s.transactions) != 3 || s.usedService() != "finger" || s.alternatives.waiting != nil {
			t.Fatalf("there are %d transactions, of which %q goes on", len(s.transactions), s.usedService())
		}
		for _, tr := range s.transactions {
			if tr.losing != (tr.start.GetService() != "finger") {
				t.Errorf("%s is closed: %v", tr.start.GetService(), tr.losing)
			}
		}
	})
}

func TestAnOldWorkerGetsNoAlternative(t *testing.T) {
	b, address, _ := startOnBus(t)
	peer, _ := peerOn(t, b, address)
	starts := startsOf(&worker.Start{Session: 7, Service: "word", User: "anna", Owner: &worker.Owner{}, Options: &worker.Options{}}, []string{"finger"})
	s := b.newSession(openedAs(starts[0]))
	s.expect(starts[0].GetAlternative())
	w := oldWorker(t, worker.AlternativesVersion-1)
	b.do(func() {
		if err := b.give(w, peer, s, starts[0], nil); err == nil || !strings.Contains(err.Error(), "older version") || b.sessions[7] != nil {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestTheServiceThatAsksDecidesWhoMayAnswer(t *testing.T) {
	b, s, word, finger := sideBySide(t, 7)
	b.rules.Store(rulesOf(t, "[[rule]]\naction = [\"answer\", \"see\"]\nservice = \"word\"\ncaller = \"uid:60002\"\nverdict = \"allow\"\n"+
		"[[rule]]\naction = \"answer\"\ncaller = \"uid:60002\"\nverdict = \"deny\"\n"))
	who := policy.Caller{UID: 60002}
	b.do(func() {
		says(t, finger, asksHere) // the lower number of the two is the main service's, as handle is told here
		says(t, word, asksHere)
		for q, want := range map[*prompt]policy.Verdict{word.prompt: policy.Allow, finger.prompt: policy.Deny} {
			if got := b.rules.Load().Decide(who, policy.Answer, q.asker.object()).Verdict; got != want {
				t.Errorf("to answer %s: %v", q.asker.object().Service, got)
			}
		}
		word.prompt.end(api.OutcomeCancelled)
	})
	ctx := t.Context()
	call := &bus.Call{Caller: &bus.Peer{Name: ":1.4711", UID: 60002}, Args: []any{uint64(0)}}
	mayNot, err := b.mayNotAnswer(ctx, target{call: call, session: s.id})
	if err != nil || !mayNot["finger"] || mayNot["word"] {
		t.Errorf("it may not answer %v, %v", mayNot, err)
	}
}

func TestAnAlternativeYieldsTheGateToItsOwnSessionAlone(t *testing.T) {
	b, _, word, finger := sideBySide(t, 7)
	other := b.newSession(&worker.Start{Session: 8, Service: "word", User: "anna", Owner: &worker.Owner{Uid: stranger}, Options: &worker.Options{Attempts: 1}})
	b.do(func() {
		third := other.newTransaction(other.start, word.worker)
		other.join(third)
		b.add(other, nil)
		third.ask(&worker.Prompt{Style: worker.Style_STYLE_SECRET}, 2000)
		says(t, finger, asksHere)
		says(t, word, asksHere)
		give := func(tr *transaction) {
			f, err := memfdOf("guess")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if err := tr.answer(tr.prompt, newClaim(origin{}), f); err != nil {
				t.Fatal(err)
			}
		}
		give(finger)
		g := b.gates[finger.gateKey()]
		give(third)
		give(word)
		finger.yield(third)
		if g.holder != finger || len(g.waiting) != 2 {
			t.Fatalf("the password is not held up")
		}
		finger.yield(finger) // nobody of that name waits
		if g.holder != finger {
			t.Error("the gate went to nobody")
		}
		finger.yield(word)
		if g.holder != word || len(g.waiting) != 1 {
			t.Error("the gate did not go to the password")
		}
		finger.yield(word) // it has it no more
		if g.holder != word {
			t.Error("the gate was taken away")
		}
		b.closeGates()
	})
}
