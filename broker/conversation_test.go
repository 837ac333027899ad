// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
)

// inConversation is a broker with a conversation of a stranger's in it.
func inConversation(t *testing.T) (*Broker, *session) {
	t.Helper()
	b, address, _ := startOnBus(t)
	peer, _ := peerOn(t, b, address)
	peer.UID = stranger
	var s *session
	b.do(func() {
		s = b.converse(&worker.Start{
			Session: 7, Service: "ftp", User: "anna", Owner: &worker.Owner{Uid: stranger, Name: peer.Name}, Options: &worker.Options{Attempts: 1},
		}, b.client(peer))
	})
	return b, s
}

// question puts one, whose pipe the test reads.
func questionIn(t *testing.T, s *session, number uint64) (*prompt, *asking) {
	t.Helper()
	reader, r, err := s.b.responses.pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	var q *prompt
	s.b.do(func() {
		if err = s.conversation.ask(&worker.Prompt{Style: worker.Style_STYLE_SECRET, Text: []byte("?")}, number, r, 0); err == nil {
			q = s.conversation.questions[number].prompt
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return q, &asking{File: reader, r: r}
}

// give answers, and returns what the answerer hears.
func give(t *testing.T, q *prompt, text string) error {
	t.Helper()
	f, err := memfdOf(text)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c := newClaim(origin{})
	q.b.do(func() {
		if err = ended(q.number, api.OutcomeSessionClosed); q.waits() { // as claim looks
			err = q.asker.answer(q, c, f)
		}
	})
	if err != nil {
		return err
	}
	select {
	case err := <-c.verdict:
		return err
	case <-time.After(patience):
		t.Fatal("nobody says what became of the answer")
		return nil
	}
}

// wantCharged waits until a uid has so many prompts.
func wantCharged(t *testing.T, b *Broker, want int) {
	t.Helper()
	got := -1
	for deadline := time.Now().Add(patience); got != want; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d questions are charged, not %d", got, want)
		}
		b.do(func() {
			got = b.charge(stranger).prompts
			b.settle(stranger)
		})
	}
}

// An answer that its program does not read is on the account of its uid, until it is
// read or the conversation ends: nobody has more of them than questions.
func TestAnUnreadAnswerCountsAmongTheQuestions(t *testing.T) {
	b, s := inConversation(t)
	before := openDescriptors(t)
	for number, end := range map[uint64]func(*asking){
		100: func(a *asking) { _ = a.Close() },
		101: func(a *asking) { _, _ = io.Copy(io.Discard, a) },
	} {
		q, a := questionIn(t, s, number)
		crowd(t, a, 31)
		wantCharged(t, b, 1)
		if err := give(t, q, strings.Repeat("x", api.MaxResponse)); err != nil {
			t.Fatal(err)
		}
		wantCharged(t, b, 1)
		end(a)
		wantCharged(t, b, 0)
		_ = a.Close()
	}
	q, a := questionIn(t, s, 102)
	crowd(t, a, 31)
	if err := give(t, q, strings.Repeat("x", api.MaxResponse)); err != nil {
		t.Fatal(err)
	}
	wantCharged(t, b, 1)
	b.do(func() { s.close("the test is over") })
	wantCharged(t, b, 0)
	_ = a.Close()
	b.do(func() {
		if len(b.prompts) != 0 || len(s.prompts) != 0 || len(s.conversation.questions) != 0 || len(s.conversation.unread) != 0 || b.usage[stranger] != nil {
			t.Errorf("what is left: %d, %d, %d, %d, %+v", len(b.prompts), len(s.prompts), len(s.conversation.questions), len(s.conversation.unread), b.usage[stranger])
		}
	})
	wantDescriptors(t, before)
}

// A program that is gone at the moment of the answer has none, and the answerer hears it.
func TestAnAnswerToAProgramThatIsGone(t *testing.T) {
	b, s := inConversation(t)
	q, a := questionIn(t, s, 100)
	_ = a.Close()
	err := give(t, q, "late")
	if own, ok := errors.AsType[*api.Error](err); !ok || own.Code != api.NoSuchPrompt {
		t.Errorf("the answerer hears %v", err)
	}
	wantCharged(t, b, 0)
}

// A program that has read its answer may be gone before the broker hears that the pipe
// has it: whoever answered is told that it was taken nevertheless.
func TestTheAnswererOfAProgramThatLeavesAtOnce(t *testing.T) {
	b, s := inConversation(t)
	q, a := questionIn(t, s, 100)
	f, err := memfdOf("right")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c := newClaim(origin{})
	b.do(func() { // what the pipe's goroutine has to say waits until we return
		if err = q.asker.answer(q, c, f); err == nil {
			wantRead(t, a, "+right")
		}
		s.close("its owner left the bus")
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err = <-c.verdict:
	case <-time.After(patience):
		t.Fatal("nobody says what became of the answer")
	}
	if err != nil {
		t.Errorf("the answerer hears %v", err)
	}
}

// While an answer is on its way nothing else ends the question; if it is of no use, what
// came meanwhile counts.
func TestWhatHappensWhileAnAnswerIsOnItsWay(t *testing.T) {
	b, s := inConversation(t)
	q, a := questionIn(t, s, 100)
	c := newClaim(origin{})
	b.do(func() {
		q.claim = c
		x := s.conversation.questions[100]
		s.conversation.cancel(q)
		s.conversation.expire(x)
		if !q.waits() {
			t.Error("the question ended before its answer")
		}
		s.conversation.taken(q, c, x.response, false, unix.EINVAL)
		if q.waits() {
			t.Error("the question goes on after its time")
		}
	})
	if err := <-c.verdict; err == nil {
		t.Error("the answer was taken")
	}
	wantRead(t, a, "-expired")

	q, a = questionIn(t, s, 101)
	f, err := os.Open(t.TempDir()) // no answer at all
	if err != nil {
		t.Fatal(err)
	}
	c = newClaim(origin{})
	b.do(func() { err = q.asker.answer(q, c, f) })
	if verdict := <-c.verdict; err != nil || verdict == nil {
		t.Errorf("a directory for an answer: %v, %v", err, verdict)
	}
	_ = f.Close()
	if err := give(t, q, "better"); err != nil {
		t.Errorf("a better one: %v", err)
	}
	wantRead(t, a, "+better")
}
