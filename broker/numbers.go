// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// perSecond is how many numbers a second there are for ever.
	perSecond = 2000
	tick      = time.Second / perSecond
	// lead is how far, in numbers, the numbers may run ahead of the clock.
	lead = 10 * perSecond
)

// numbers hands out numbers that no earlier broker of this boot has used,
// without a file: they follow CLOCK_BOOTTIME in ticks, and never run ahead of it
// by more than lead, while a broker that starts skips that much. So what it
// hands out first is above all that its predecessors can have handed out. After
// ten quiet seconds, twenty thousand go at once. Sessions and prompts share
// them, so that nobody closes a session who meant a prompt.
type numbers struct {
	now func() uint64 // ticks since boot

	mu   sync.Mutex
	last uint64
}

func newNumbers() *numbers {
	n := &numbers{now: bootTicks}
	n.last = n.now() + lead
	return n
}

// next returns the next number, after a wait when they have run too far ahead.
func (n *numbers) next(ctx context.Context) (uint64, error) {
	for {
		number, wait := n.try()
		if wait == 0 {
			return number, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// try returns a number, or how long to wait for one.
func (n *numbers) try() (uint64, time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	// A later broker begins above its own now+lead, and its now is not
	// before this one.
	number, now := n.last+1, n.now()
	if number < now {
		number = now
	}
	if number > now+lead {
		return 0, time.Duration(number-now-lead) * tick
	}
	n.last = number
	return number, 0
}

// seen makes sure that a number, which a worker brought along, is not handed
// out again. It reports whether that is one that a broker of this boot can have
// handed out: any other would have nobody be given a number until the clock is there.
func (n *numbers) seen(number uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if number > n.now()+lead {
		return false
	}
	n.last = max(n.last, number)
	return true
}

func bootTicks() uint64 {
	var ts unix.Timespec
	// It cannot fail: the clock exists since Linux 2.6.39 and ts is valid.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return uint64(ts.Nano()) / uint64(tick)
}
