// SPDX-License-Identifier: Apache-2.0

package workers

import (
	"context"
	"errors"
	"fmt"

	"github.com/pamprompt/pamprompt/api/worker"
)

// inquiry is a Resolve that waits for its Name.
type inquiry struct {
	uid  uint32
	name chan string // holds the one reply; closed without one when the worker is lost
}

// AccountName asks NSS, through an idle worker, for the name of the account with
// this uid; it is empty when NSS knows none. The worker is idle again
// afterwards. One that does not answer before the context ends, or answers
// something else, is dropped: nobody knows what it would say next.
//
// It fails with ErrNoWorker when none is idle in time, and with ErrNotAccepted. An error never means that
// there is no such account.
func (p *Pool) AccountName(ctx context.Context, uid uint32) (string, error) {
	question := &worker.ToWorker{Message: &worker.ToWorker_Resolve{Resolve: &worker.Resolve{Uid: uid}}}
	if err := worker.Check(question); err != nil {
		return "", fmt.Errorf("ask for the name of an account: %w", err)
	}
	for {
		w, err := p.Acquire(ctx)
		if err != nil {
			return "", err
		}
		name, err := w.resolve(ctx, question)
		if err == nil {
			p.Return(w)
			return name, nil
		}
		w.Close()
		if !errors.Is(err, errGone) {
			return "", fmt.Errorf("ask %v for the name of uid %d: %w", w, uid, err)
		}
	}
}

// errGone says that a worker was lost before it had the question.
var errGone = errors.New("it is lost")

func (w *Worker) resolve(ctx context.Context, question *worker.ToWorker) (string, error) {
	asked, err := w.ask(question)
	if err != nil {
		return "", err
	}
	select {
	case name, answered := <-asked.name:
		if !answered {
			return "", errors.New("it ended without an answer")
		}
		return name, nil
	case <-ctx.Done():
		return "", fmt.Errorf("it does not answer: %w", ctx.Err())
	}
}

// ask sends the question.
func (w *Worker) ask(question *worker.ToWorker) (*inquiry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return nil, errGone
	}
	asked := &inquiry{uid: question.GetResolve().GetUid(), name: make(chan string, 1)}
	if err := w.Send(question); err != nil {
		return nil, errGone
	}
	w.asked = asked
	return asked, nil
}

// named is a Name, which may only come when it was asked for, and once.
func (w *Worker) named(n *worker.Name) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.asked == nil:
		return fmt.Errorf("%w: a name that nobody asked for", worker.ErrMalformed)
	case n.GetUid() != w.asked.uid:
		return fmt.Errorf("%w: the name of uid %d, not of %d", worker.ErrMalformed, n.GetUid(), w.asked.uid)
	}
	w.asked.name <- n.GetName()
	w.asked = nil
	return nil
}
