// SPDX-License-Identifier: Apache-2.0

package workers

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api/worker"
)

// idleWorker dials, says hello, and waits until it counts as idle.
func idleWorker(t *testing.T, p *Pool, path string) *worker.Conn {
	t.Helper()
	c := dial(t, path)
	if err := c.Send(hello()); err != nil {
		t.Fatal(err)
	}
	p.Return(acquire(t, p))
	return c
}

func name(uid uint32, name string) *worker.ToBroker {
	return &worker.ToBroker{Message: &worker.ToBroker_Name{Name: &worker.Name{Uid: uid, Name: name}}}
}

// resolved is what AccountName returned.
type resolved struct {
	name string
	err  error
}

// ask asks for the name of uid 1000 and returns when the worker has the
// question.
func ask(t *testing.T, ctx context.Context, p *Pool, c *worker.Conn) <-chan resolved {
	t.Helper()
	done := make(chan resolved, 1)
	go func() {
		name, err := p.AccountName(ctx, 1000)
		done <- resolved{name, err}
	}()
	if m := new(worker.ToWorker); mustReceive(t, c, m) && m.GetResolve().GetUid() != 1000 {
		t.Fatalf("the worker was not asked for uid 1000 but got %T", m.GetMessage())
	}
	return done
}

// wantDropped fails the test unless the broker hangs up on the worker.
func wantDropped(t *testing.T, p *Pool, c *worker.Conn) {
	t.Helper()
	if _, err := c.Receive(new(worker.ToWorker)); err == nil {
		t.Error("the worker was not dropped")
	}
	if n := p.Idle(); n != 0 {
		t.Errorf("%d workers are idle", n)
	}
}

func TestAWorkerThatWasAskedForANameIsIdleAgain(t *testing.T) {
	p, path := serve(t)
	c := idleWorker(t, p, path)
	for _, want := range []string{"anna", "", strings.Repeat("x", worker.MaxName), "anna"} {
		done := ask(t, t.Context(), p, c)
		if p.Idle() != 0 {
			t.Error("somebody else could have the worker meanwhile")
		}
		if err := c.Send(name(1000, want)); err != nil {
			t.Fatal(err)
		}
		if got := <-done; got.name != want || got.err != nil {
			t.Errorf("the name is %q (%v), not %q", got.name, got.err, want)
		}
		if n := p.Idle(); n != 1 {
			t.Errorf("%d workers are idle, not the one", n)
		}
	}
	w, e := acquire(t, p), newEvents()
	if !w.Bind(e) || w.Send(closing()) != nil {
		t.Error("it cannot be given a session any more")
	}
	mustReceive(t, c, new(worker.ToWorker))
}

// TestAWorkerThatAnswersBadlyIsDropped: what it says is believed of nobody, and
// an error is not "no such account" (CVE-2021-3560).
func TestAWorkerThatAnswersBadlyIsDropped(t *testing.T) {
	for _, test := range []struct {
		name  string
		reply *worker.ToBroker
	}{
		{"for another uid", name(0, "root")},
		{"with the uid that is none", name(math.MaxUint32, "anna")},
		{"with a name that is too long", name(1000, strings.Repeat("x", worker.MaxName+1))},
		{"with a name that has a NUL", name(1000, "root\x00")},
		{"with a packet of a session", &worker.ToBroker{Message: &worker.ToBroker_Resolved{Resolved: &worker.Resolved{Uid: 1000}}}},
		{"with a Hello", hello()},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, path := serve(t)
			c := idleWorker(t, p, path)
			done := ask(t, t.Context(), p, c)
			if err := c.Send(test.reply); err != nil {
				t.Fatal(err)
			}
			if got := <-done; got.name != "" || got.err == nil || errors.Is(got.err, ErrNoWorker) {
				t.Errorf("the name is %q (%v)", got.name, got.err)
			}
			wantDropped(t, p, c)
		})
	}
}

func TestANameThatNobodyAskedForEndsTheWorker(t *testing.T) {
	t.Run("while it is idle", func(t *testing.T) {
		p, path := serve(t)
		c := idleWorker(t, p, path)
		if err := c.Send(name(1000, "anna")); err != nil {
			t.Fatal(err)
		}
		wantDropped(t, p, c)
	})
	t.Run("a second time", func(t *testing.T) {
		p, path := serve(t)
		c := idleWorker(t, p, path)
		done := ask(t, t.Context(), p, c)
		for range 2 {
			if err := c.Send(name(1000, "anna")); err != nil {
				t.Fatal(err)
			}
		}
		if got := <-done; got.name != "anna" || got.err != nil {
			t.Errorf("the first answer is %q (%v)", got.name, got.err)
		}
		wantDropped(t, p, c)
	})
	t.Run("with a session", func(t *testing.T) {
		p, path := serve(t)
		c := idleWorker(t, p, path)
		w, e := acquire(t, p), newEvents()
		w.Bind(e)
		if err := c.Send(name(1000, "anna")); err != nil {
			t.Fatal(err)
		}
		if err := <-e.lost; !errors.Is(err, worker.ErrMalformed) {
			t.Errorf("the session's end is %v", err)
		}
		if len(e.packets) > 0 {
			t.Error("the session saw the packet")
		}
	})
}

func TestAWorkerThatDiesBeforeItAnswers(t *testing.T) {
	p, path := serve(t)
	c := idleWorker(t, p, path)
	done := ask(t, t.Context(), p, c)
	_ = c.Close()
	if got := <-done; got.name != "" || got.err == nil {
		t.Errorf("the name is %q (%v)", got.name, got.err)
	}
	if n := p.Idle(); n != 0 {
		t.Errorf("%d workers are idle", n)
	}
}

func TestAWorkerThatNeverAnswersIsDroppedInTime(t *testing.T) {
	p, path := serve(t)
	c := idleWorker(t, p, path)
	ctx, cancel := context.WithCancel(t.Context())
	done := ask(t, ctx, p, c)
	cancel()
	if got := <-done; got.name != "" || !errors.Is(got.err, context.Canceled) {
		t.Errorf("the name is %q (%v)", got.name, got.err)
	}
	wantDropped(t, p, c)
}

func TestWithoutAnIdleWorkerNobodyCanBeAsked(t *testing.T) {
	p, _ := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if name, err := p.AccountName(ctx, 1000); name != "" || !errors.Is(err, ErrNoWorker) {
		t.Errorf("the name is %q (%v)", name, err)
	}
}

// TestAWorkerThatEndedWhileIdleIsNotAsked: the next one is.
func TestAWorkerThatEndedWhileIdleIsNotAsked(t *testing.T) {
	p, path := serve(t)
	_ = idleWorker(t, p, path).Close()
	alive := idleWorker(t, p, path)
	done := ask(t, t.Context(), p, alive)
	if err := alive.Send(name(1000, "anna")); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.name != "anna" || got.err != nil {
		t.Errorf("the name is %q (%v)", got.name, got.err)
	}
}

// TestAWorkerWhoseReaderHasEndedIsNotAsked, though its connection may still be
// there for a moment: nobody would hear the answer.
func TestAWorkerWhoseReaderHasEndedIsNotAsked(t *testing.T) {
	p, path := serve(t)
	idleWorker(t, p, path)
	w := acquire(t, p)
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	question := &worker.ToWorker{Message: &worker.ToWorker_Resolve{Resolve: &worker.Resolve{Uid: 1000}}}
	if _, err := w.ask(question); !errors.Is(err, errGone) {
		t.Errorf("the error is %v", err)
	}
}

func TestTheUIDThatIsNoneIsAskedOfNobody(t *testing.T) {
	p, path := serve(t)
	idleWorker(t, p, path)
	if name, err := p.AccountName(t.Context(), math.MaxUint32); name != "" || !errors.Is(err, worker.ErrMalformed) {
		t.Errorf("the name is %q (%v)", name, err)
	}
	if n := p.Idle(); n != 1 {
		t.Errorf("%d workers are idle, not the one", n)
	}
}
