// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"testing"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// A session that the bus was not told of, since its worker has not begun, is in
// no list.
func TestASessionThatHasNotBegunIsNotListed(t *testing.T) {
	b, _, idle := startOnBus(t)
	b.do(func() {
		for id := range uint64(2) {
			s := newTransaction(b, &worker.Start{Session: id + 1, Owner: &worker.Owner{}, Options: &worker.Options{}}, idle()).s
			b.add(s, nil)
			s.announced = id == 0
		}
		seen := b.visible(policy.Caller{Admin: true}, nil, true)
		if len(seen) != 1 || seen[0].id != 1 {
			t.Errorf("the list is %v", seen)
		}
	})
}

// One call has so many questions for polkit and no more, whatever waits; what it
// was not asked about is not in the list.
func TestAListHasSoManyQuestionsForPolkit(t *testing.T) {
	b, address, _ := startOnBus(t)
	p := pretendPolkit(t, address)
	p.always(true)
	b.do(func() {
		for number := range uint64(maxAsked + 50) {
			b.newPrompt(&prompt{number: number + 1, asker: &patient{service: fmt.Sprint("service-", number)}})
		}
	})
	reply, err := listPrompts(b, t.Context(), target{call: &bus.Call{Caller: &bus.Peer{Name: ":1.4711", UID: stranger}}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(reply[0].([]listedPrompt)); n != maxAsked {
		t.Errorf("%d prompts are listed, want %d", n, maxAsked)
	}
	if n := len(p.asked); n != maxAsked {
		t.Errorf("polkit was asked %d times, want %d", n, maxAsked)
	}
}
