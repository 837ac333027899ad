// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
)

// verdictTimeout is how long a worker may take to say what it thinks of an
// answer. It has nothing to do but to read a memfd.
const verdictTimeout = 20 * time.Second

// pending finds a prompt that waits, for a caller who may answer it. It runs in
// the owner.
func (b *Broker) pending(number uint64) (*prompt, error) {
	q := b.prompts[number]
	gone, known := b.answered.find(number)
	switch {
	case q != nil && q.claim != nil:
		return nil, ended(number, api.OutcomeAnswered)
	case q != nil:
		return q, nil
	case known:
		return nil, ended(number, gone.outcome)
	}
	return nil, &api.Error{Code: api.NoSuchPrompt, Text: fmt.Sprintf("there is no prompt %d: ListPrompts lists those that wait", number)}
}

// answer brings what a descriptor holds to the worker that waits for it, and
// returns when the worker has taken it.
func (b *Broker) answer(ctx context.Context, call *bus.Call, number uint64, response func() (*os.File, error)) error {
	// First whether the caller may: nobody else makes us wait for a pipe.
	if err := b.permitPrompt(ctx, call, number); err != nil {
		return err
	}
	if err := b.look(func() error { _, err := b.pending(number); return err }); err != nil {
		return err
	}
	f, err := response()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	c := newClaim(callerOrigin(call.Caller))
	if err := b.look(func() error { return b.claim(call.Caller, number, c, f) }); err != nil {
		return err
	}
	late := time.NewTimer(verdictTimeout)
	defer late.Stop()
	select {
	case err := <-c.verdict:
		return err
	case <-late.C:
		return &api.Error{Code: api.WorkerFailed, Text: fmt.Sprintf("prompt %d has its answer, and nobody says yet what became of it", number)}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// claim takes the slot of a prompt and hands the answer to its worker.
func (b *Broker) claim(p *bus.Peer, number uint64, c *claim, f *os.File) error {
	if p.Left() {
		return errCallerLeft
	}
	q, err := b.pending(number)
	if err != nil {
		return err
	}
	return q.asker.answer(q, c, f)
}

// deliver brings an answer to the transaction's worker.
func (t *transaction) deliver(q *prompt, c *claim, f *os.File) error {
	packet := &worker.ToWorker{Message: &worker.ToWorker_Answer{Answer: &worker.Answer{Index: t.question.GetIndex()}}}
	if err := t.worker.Send(packet, int(f.Fd())); errors.Is(err, worker.ErrBusy) {
		return &api.Error{Code: api.WorkerFailed, Text: fmt.Sprintf("the answer to prompt %d did not reach its worker: %v", q.number, err)}
	}
	// Any other error means that the worker has ended. What it said last, the
	// end of this prompt included, is on its way and is the verdict.
	q.claim = c
	return nil
}

// cancel has the worker give the question up.
func (t *transaction) cancel(*prompt) {
	t.send(&worker.ToWorker{Message: &worker.ToWorker_Cancel{Cancel: &worker.Cancel{Index: t.question.GetIndex()}}})
}

// ended is the end of the transaction's prompt.
func (t *transaction) ended(q *prompt) {
	t.prompt = nil
	t.userFile = false // the worker has taken it away by itself
	t.s.drop(q)
}

// cancel has whoever asked give the question up. It returns when it was told;
// PromptClosed says when it has.
func (b *Broker) cancel(ctx context.Context, call *bus.Call, number uint64) error {
	if err := b.permitPrompt(ctx, call, number); err != nil {
		return err
	}
	return b.look(func() error {
		if call.Caller.Left() {
			return errCallerLeft
		}
		q, err := b.pending(number)
		if err != nil {
			return err
		}
		b.auditPrompt(eventCancel, callerOrigin(call.Caller), q)
		q.asker.cancel(q)
		return nil
	})
}

// look has the owner run f, and returns its error.
func (b *Broker) look(f func() error) error {
	var err error
	if !b.do(func() { err = f() }) {
		return errStopping
	}
	return err
}

var errStopping = &api.Error{Code: api.WorkerFailed, Text: "the broker is stopping: try again when it is back"}

// memfdOf puts a response that came as text into a sealed memfd.
func memfdOf(response string) (*os.File, error) {
	if len(response) > api.MaxResponse {
		return nil, errTooLong
	}
	s, err := secret.New(len(response))
	if err != nil {
		return nil, err
	}
	defer s.Wipe()
	copy(s.Bytes(), response)
	return s.Memfd()
}
