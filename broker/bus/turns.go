// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pamprompt/pamprompt/api"
)

// How many calls of one uid are served: so many at once, and then so many a second.
// What comes earlier waits for its turn, so that whoever waits for replies slows
// down by itself. Of those that wait, and those that are at work, there are so many.
const (
	callBurst  = 1000
	callEvery  = time.Second / 250
	maxOfOneID = 4096
)

// turns keeps one uid from taking the time of all others. Root, and the uid that we
// run as, have theirs at once.
type turns struct {
	exempt uint32
	mu     *sync.Mutex
	by     map[uint32]*turn
}

type turn struct {
	pace  *rate.Limiter
	calls int
}

func newTurns() turns {
	return turns{uint32(os.Geteuid()), new(sync.Mutex), make(map[uint32]*turn)}
}

var errTooManyCalls = &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf("over %d calls of this uid are in flight", maxOfOneID)}

var errNobodyWaits = &api.Error{Code: api.AccessDenied, Text: "the caller has left the bus"}

// wait returns when a call of a peer may be served; done must follow, unless there is
// an error.
func (t *turns) wait(ctx context.Context, p *Peer) error {
	if p.UID == 0 || p.UID == t.exempt {
		return nil
	}
	t.mu.Lock()
	own := t.by[p.UID]
	if own == nil {
		own = &turn{pace: rate.NewLimiter(rate.Every(callEvery), callBurst)}
		t.by[p.UID] = own
	}
	if own.calls >= maxOfOneID {
		t.mu.Unlock()
		return errTooManyCalls
	}
	own.calls++
	early := own.pace.Reserve().Delay()
	t.mu.Unlock()
	if early == 0 {
		return nil
	}
	timer := time.NewTimer(early)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.Gone():
	case <-ctx.Done():
	}
	t.done(p)
	return errNobodyWaits
}

// done is the end of a call. A few of those who have called nothing for a while are
// forgotten with it.
func (t *turns) done(p *Peer) {
	if p.UID == 0 || p.UID == t.exempt {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.by[p.UID].calls--
	if len(t.by) == 1 {
		return
	}
	for uid, one := range t.by {
		if one.calls == 0 && one.pace.Tokens() >= callBurst {
			delete(t.by, uid)
		}
	}
}
