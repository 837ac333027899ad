// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"slices"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
)

// NextPrompt goes through all that waits in a session, by numbers.
func TestNextPromptOfSeveralThatWait(t *testing.T) {
	b, _, idle := startOnBus(t)
	s := b.newSession(&worker.Start{Session: 7, Service: "vault", User: "anna", Owner: &worker.Owner{}, Options: &worker.Options{}})
	var transactions []*transaction
	for range 3 {
		transactions = append(transactions, s.newTransaction(s.start, idle()))
		s.join(transactions[len(transactions)-1])
	}
	b.do(func() {
		b.add(s, nil)
		for i, number := range []uint64{30, 10, 20} {
			transactions[i].ask(&worker.Prompt{Style: worker.Style_STYLE_SECRET, Text: []byte("?")}, number)
		}
	})
	next := func(after uint64) uint64 {
		t.Helper()
		reply, err := nextPrompt(b, t.Context(), target{call: &bus.Call{Caller: &bus.Peer{Name: ":1.4711"}, Args: []any{after}}, session: 7})
		if err != nil {
			t.Fatal(err)
		}
		return reply[0].(uint64)
	}
	var numbers []uint64
	for after := uint64(0); after < 30; after = numbers[len(numbers)-1] {
		numbers = append(numbers, next(after))
	}
	if want := []uint64{10, 20, 30}; !slices.Equal(numbers, want) {
		t.Errorf("NextPrompt tells of %v, want %v", numbers, want)
	}
	b.do(func() { transactions[1].prompt.end(api.OutcomeCancelled) })
	if got := next(0); got != 20 {
		t.Errorf("when the first has ended it tells of %d", got)
	}
	b.do(func() {
		transactions[2].prompt.claim = newClaim(origin{}) // an answer is on its way
	})
	if got := next(0); got != 30 {
		t.Errorf("when the second has its answer it tells of %d", got)
	}
}

// A session needs no transaction: it is ended by its own.
func TestASessionWithoutATransactionCloses(t *testing.T) {
	b, _, _ := startOnBus(t)
	s := b.newSession(&worker.Start{Session: 7, Owner: &worker.Owner{}, Options: &worker.Options{}})
	b.do(func() {
		b.add(s, nil)
		s.announce()
		q := &prompt{number: 17, asker: new(patient)}
		s.put(q)
		b.hold(q)
		s.close("closed by nobody")
		if s.state != api.StateClosed || s.text != "closed by nobody" || q.waits() || b.sessions[7] != nil {
			t.Errorf("it is %s, %q; its prompt waits: %v", s.state, s.text, q.waits())
		}
	})
}
