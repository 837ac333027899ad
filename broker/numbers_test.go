// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Brokers of one boot follow each other, each handing out as many numbers as it
// likes; no number may come twice.
func TestNumbersNeverComeTwiceInOneBoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := rapid.Uint64Range(1, 1<<40).Draw(t, "ticks since boot")
		now := func() uint64 { return clock }
		var highest uint64
		for range rapid.IntRange(1, 6).Draw(t, "brokers") {
			n := &numbers{now: now, last: clock + lead}
			for range rapid.IntRange(0, 50).Draw(t, "calls") {
				clock += uint64(rapid.SampledFrom([]int{0, 0, 1, 1, 3, 25000}).Draw(t, "later"))
				number, wait := n.try()
				if wait > 0 {
					continue
				}
				if number <= highest {
					t.Fatalf("%d was handed out after %d", number, highest)
				}
				highest = number
			}
		}
	})
}

func TestNumbersGoOnAtTheSpeedOfTheirClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		now := func() uint64 { return 5000 + uint64(time.Since(start)/tick) }
		n := &numbers{now: now, last: now() + lead}
		for range 3 * perSecond {
			if _, err := n.next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the numbers of three seconds took %v after a start", took)
		}
		time.Sleep(lead * tick) // of the bubble: no real time passes
		quiet := time.Now()
		for range lead {
			if _, err := n.next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(quiet); took > tick {
			t.Errorf("after a quiet time %d numbers took %v, want them at once", lead, took)
		}
	})
}

func TestNumbersOfWorkersAreNotHandedOutAgain(t *testing.T) {
	n := newNumbers()
	n.seen(n.last + 500)
	before := n.last
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, err := n.next(ctx); err != nil || got <= before {
		t.Errorf("next() = %d, %v; want a number above %d", got, err, before)
	}
}
