// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/workers"
)

// toldEndings are the ends of others that a worker was told of since the last time.
func toldEndings(t *testing.T, tr *transaction) []string {
	t.Helper()
	const mark = 1 << 62
	conn, ok := otherEnds.Load(tr.worker)
	if !ok {
		t.Fatal("the worker has no other end")
	}
	if err := tr.worker.Send(&worker.ToWorker{Message: &worker.ToWorker_Numbered{Numbered: &worker.Numbered{Number: mark}}}); err != nil {
		t.Fatal(err)
	}
	var told []string
	for {
		m := new(worker.ToWorker)
		if _, err := conn.(*worker.Conn).Receive(m); err != nil {
			t.Fatal(err)
		}
		if m.GetNumbered().GetNumber() == mark {
			return told
		}
		if e := m.GetEnded(); e != nil {
			told = append(told, describe(e))
		}
	}
}

func describe(e *worker.Ended) string {
	if f := e.GetFailed(); f != nil {
		return fmt.Sprintf("%d failed %s %d %q", e.GetIndex(), f.GetError(), f.GetPamResult(), f.GetText())
	}
	return fmt.Sprintf("%d closed %d %q", e.GetIndex(), e.GetClosed().GetPamResult(), e.GetClosed().GetText())
}

func wantToldEndings(t *testing.T, tr *transaction, want ...string) {
	t.Helper()
	if told := toldEndings(t, tr); !slices.Equal(told, want) {
		t.Errorf("the worker of %s was told %q, not %q", tr.start.GetService(), told, want)
	}
}

func failing(code api.Code, result int32, text string) *worker.Failed {
	return &worker.Failed{Error: string(code), PamResult: result, Text: []byte(text)}
}

func failed(f *worker.Failed) *worker.ToBroker {
	return &worker.ToBroker{Message: &worker.ToBroker_Failed{Failed: f}}
}

// wrong is how the main service ended under another broker.
func wrong() *worker.Ended {
	return &worker.Ended{Index: 0, Failed: failing(api.AuthenticationFailed, 7, "wrong password")}
}

// While none goes on, the workers of all others remember how one ended. Then there is
// nothing to remember.
func TestTheOthersAreToldHowAnAlternativeEnded(t *testing.T) {
	b, s, word, finger := sideBySide(t, 7)
	b.do(func() {
		says(t, word, failed(failing(api.AuthenticationFailed, 7, "wrong \xff password")))
		wantToldEndings(t, finger, `0 failed AuthenticationFailed 7 "wrong `+"\uFFFD"+` password"`)
		says(t, finger, isReady)
		says(t, finger, failed(failing(api.PAMFailed, 14, "")))
		if s.state != api.StateFailed || s.text != "PAMFailed: " {
			t.Errorf("it is %s: %s", s.state, s.text)
		}
	})
	b, s, word, finger = sideBySide(t, 8)
	b.do(func() {
		says(t, word, &worker.ToBroker{Message: &worker.ToBroker_Closed{Closed: &worker.Closed{PamResult: 3, Text: []byte("told to end")}}})
		wantToldEndings(t, finger, `0 closed 3 "told to end"`)
	})
	b, _, word, finger = sideBySide(t, 9)
	b.do(func() {
		says(t, word, isReady)
		says(t, finger, isClosed)
		wantToldEndings(t, word)
	})
	b, s, word, finger = sideBySide(t, 10)
	b.do(func() {
		word.lost(fmt.Errorf("%s", strings.Repeat("x", 2*worker.MaxString)))
		if told := toldEndings(t, finger); len(told) != 1 || len(told[0]) > worker.MaxString+100 || !strings.HasPrefix(told[0], "0 failed WorkerFailed 0") {
			t.Errorf("of a long text it was told %.100q", told)
		}
		s.close("")
		says(t, finger, isClosed)
		if s.state != api.StateClosed {
			t.Errorf("when it is closed then it is %s: %.100s", s.state, s.text)
		}
	})
}

// One that gets its worker after the end of another is told too.
func TestAnAlternativeThatBeginsLaterIsToldHowAnotherEnded(t *testing.T) {
	b, address, idle := startOnBus(t)
	peer, _ := peerOn(t, b, address)
	starts := startsOf(&worker.Start{
		Session: 7, Service: "word", User: "anna", Owner: &worker.Owner{Uid: stranger}, Options: &worker.Options{Attempts: 1, Linger: true},
	}, []string{"finger"})
	s := b.newSession(openedAs(starts[0]))
	s.expect(starts[0].GetAlternative())
	first, second := idle(), idle()
	b.do(func() {
		for i, w := range []*workers.Worker{first, second} {
			if err := b.give(w, peer, s, starts[i], nil); err != nil {
				t.Fatal(err)
			}
			if tr := s.transactions[0]; i == 0 {
				says(t, tr, entering(worker.Phase_PHASE_START))
				says(t, tr, failed(wrong().GetFailed()))
			}
		}
		wantToldEndings(t, s.transactions[0], describe(wrong()))
		s.transactions[0].stopTimers()
	})
}

// What a worker remembers of an alternative has its part in the end of the session, and
// nobody waits for that one.
func TestAnAlternativeThatFailedUnderAnotherBroker(t *testing.T) {
	t.Run("the other one goes on at once", func(t *testing.T) {
		r := startReturning(t, true)
		r.adopt(1, &worker.Session{Phase: worker.Phase_PHASE_ACCOUNT, Ready: true, Ended: []*worker.Ended{wrong()}})
		r.wantTold("SessionAdded", "is opening")
		r.session(func(s *session) {
			if s.usedService() != "finger" || s.alternatives.waiting != nil || s.charged != 1 {
				t.Errorf("%q goes on, it waits: %t, %d are charged", s.usedService(), s.alternatives.waiting != nil, s.charged)
			}
			says(t, s.transactions[0], entering(worker.Phase_PHASE_CREDENTIALS))
			says(t, s.transactions[0], isOpened)
			says(t, s.transactions[0], isClosed)
			if s.state != api.StateClosed || s.result != 0 {
				t.Errorf("it is %s with %d: %s", s.state, s.result, s.text)
			}
		})
	})
	for name, test := range map[string]struct {
		known *worker.Ended
		want  string
	}{
		"the other one fails too":     {wrong(), "failed 7 AuthenticationFailed: wrong password; finger: PAMFailed"},
		"the first one was closed":    {&worker.Ended{Closed: &worker.Closed{Text: []byte("told to end")}}, "closed 0 told to end; finger: PAMFailed"},
		"of a code that is not known": {&worker.Ended{Failed: &worker.Failed{Error: "Later", Text: []byte("x")}}, "failed 0 WorkerFailed: x; finger: PAMFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startReturning(t, true)
			r.adopt(1, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE, Ended: []*worker.Ended{test.known}})
			r.session(func(s *session) {
				says(t, s.transactions[0], failed(failing(api.PAMFailed, 6, "")))
				if got := fmt.Sprintf("%s %d %s", s.state, s.result, s.text); got != test.want {
					t.Errorf("it ended as %q, not %q", got, test.want)
				}
			})
		})
	}
	t.Run("it failed, and the other one while no broker was there", func(t *testing.T) {
		r := startReturning(t, true)
		r.adopt(1, &worker.Session{Phase: worker.Phase_PHASE_END, Failed: failing(api.PAMFailed, 6, ""), Ended: []*worker.Ended{wrong()}})
		r.session(func(s *session) {
			if s.state != api.StateFailed || s.result != 7 || s.text != "AuthenticationFailed: wrong password; finger: PAMFailed" {
				t.Errorf("it is %s with %d: %s", s.state, s.result, s.text)
			}
		})
	})
}

// Workers may know different things: the last broker died before it had told all.
func TestWhatOneWorkerRemembersTheOthersAreTold(t *testing.T) {
	b, _, idle := startOnBus(t)
	starts := startsOf(&worker.Start{Session: 7, Service: "word", User: "anna", Owner: &worker.Owner{}, Options: &worker.Options{Attempts: 1, Linger: true}},
		[]string{"finger", "card", "key"})
	adopt := func(i int, d *worker.Session) *transaction {
		d.Start, d.Phase = starts[i], worker.Phase_PHASE_AUTHENTICATE
		b.adopt(idle(), d)
		var tr *transaction
		b.do(func() { tr = b.sessions[7].transactions[len(b.sessions[7].transactions)-1] })
		return tr
	}
	other := &worker.Ended{Index: 0, Failed: failing(api.PAMFailed, 6, "another story")}
	finger := adopt(1, &worker.Session{})
	card := adopt(2, &worker.Session{Ended: []*worker.Ended{wrong()}})
	wantToldEndings(t, finger, describe(wrong()))
	wantToldEndings(t, card)
	key := adopt(3, &worker.Session{Ended: []*worker.Ended{other}})
	wantToldEndings(t, key)
	wantToldEndings(t, card)
	b.do(func() {
		s := b.sessions[7]
		if s.alternatives.waiting != nil || len(s.alternatives.endings) != 1 || s.alternatives.endings[0].text != "AuthenticationFailed: wrong password" {
			t.Errorf("it waits: %t, and %v have ended", s.alternatives.waiting != nil, s.alternatives.endings)
		}
		says(t, finger, failed(failing(api.PAMFailed, 6, "")))
	})
	wantToldEndings(t, key, `1 failed PAMFailed 6 ""`)

	r := startReturning(t, true)
	r.starts = startsOf(openedAs(r.starts[0]), []string{"finger", "card"})
	r.adopt(2, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE, Ended: []*worker.Ended{wrong()}})
	r.adopt(1, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE})
	r.session(func(s *session) { wantToldEndings(t, s.transactions[1], describe(wrong())) })
}

// One that was told to close may have lost to another one, and is not remembered.
func TestAnEndThatWasAskedForIsNotRemembered(t *testing.T) {
	r := startReturning(t, true)
	r.adopt(0, &worker.Session{Phase: worker.Phase_PHASE_END, Closing: true, Closed: &worker.Closed{}})
	r.adopt(1, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE})
	r.session(func(s *session) { wantToldEndings(t, s.transactions[0]) })
}

// An alternative that is here is believed, not what another one's worker says of it; and
// one of which it was believed that it has ended comes too late.
func TestAnAlternativeThatIsHereHasNotEnded(t *testing.T) {
	r := startReturning(t, true)
	r.adopt(0, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE})
	r.adopt(1, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE, Ended: []*worker.Ended{wrong()}})
	r.session(func(s *session) {
		if len(s.transactions) != 2 || len(s.alternatives.endings) != 0 {
			t.Errorf("there are %d transactions, and %v have ended", len(s.transactions), s.alternatives.endings)
		}
	})
	r = startReturning(t, true)
	r.adopt(1, &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE, Ended: []*worker.Ended{wrong()}})
	r.adopt(0, &worker.Session{Phase: worker.Phase_PHASE_ACCOUNT, Ready: true})
	r.session(func(s *session) {
		if len(s.transactions) != 1 || s.alternatives.winner != nil {
			t.Errorf("there are %d transactions, and %q goes on", len(s.transactions), s.usedService())
		}
	})
}
