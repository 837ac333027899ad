// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

const (
	callers = 100 // at once
	agents  = 10
	stay    = 5 // how many things a caller does before it goes, and another comes
	rounds  = 4 // all the same, after one that is only there to get warm
)

// idle is what is in use when nothing goes on: when three looks in a row see the same,
// and all workers wait at the broker.
func (b *bench) idle(t testing.TB) usage {
	t.Helper()
	again := time.NewTicker(pause)
	defer again.Stop()
	size := int64(max(2, runtime.NumCPU()))
	var before usage
	same := 0
	for late := time.Now().Add(patience); time.Now().Before(late); <-again.C {
		u := b.count(t)
		b.weigh(t, u)
		if same++; len(u.left(before)) > 0 {
			same = 0
		}
		before = u
		if u.of["workers"] == size && u.of["workers at the broker"] == size && u.of["request files"] == 0 && same >= 3 {
			return u
		}
	}
	t.Fatalf("it does not come to rest: %v", before.of)
	return usage{}
}

// crowd are callers who come and go.
type crowd struct {
	b       *bench
	agents  []*api.Client
	kinds   []kind
	atOnce  int          // how many of them
	done    atomic.Int64 // things that were done
	broken  atomic.Int64 // of these that a broker's end has cut short
	between bool         // a broker may end meanwhile
	ends    atomic.Int64 // of brokers

	mu    sync.Mutex
	wrong []string // what has gone wrong, the first of it
	times int      // and how often
}

// run has things done until more says that there is nothing more to do.
func (c *crowd) run(more func() bool) {
	var wait sync.WaitGroup
	for range c.atOnce {
		wait.Go(func() {
			for c.visit(more) {
			}
		})
	}
	wait.Wait()
}

// visit is one caller, from coming to going; false when nothing more is to be done.
func (c *crowd) visit(more func() bool) bool {
	if !more() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	k, err := c.b.arrive(ctx, c.agents)
	cancel()
	if err != nil {
		c.blame("a caller who comes", err)
		return false
	}
	defer k.leave()
	for range stay {
		n := int(c.done.Add(1))
		k.n = n % users
		one, ends := c.kinds[n%len(c.kinds)], c.ends.Load()
		// Each thing has its time: where a hundred callers share a busy machine, one that
		// was cut short would leave what it meant to close.
		ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
		err := one.do(k, ctx)
		cancel()
		if err != nil && c.ends.Load() != ends {
			c.broken.Add(1) // an answer was under way, or a limit was not known yet
		} else if err != nil {
			c.blame(one.name, err)
		}
		if !more() {
			return false
		}
	}
	return true
}

// blame notes what has gone wrong, unless it is the end of a broker.
func (c *crowd) blame(what string, err error) {
	if c.between && cutShort(err) {
		c.broken.Add(1)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.times++; c.times <= 20 {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: %v", what, err))
	}
}

// cutShort is whether an error may be that of a broker that ended: it is away, it
// does not know yet of what workers will tell it within a second, or it never will, of
// what ended meanwhile.
func cutShort(err error) bool {
	for _, code := range []api.Code{api.NoSuchSession, api.NoSuchPrompt, api.PAMFailed, api.WorkerFailed} {
		if errors.Is(err, code) {
			return true
		}
	}
	return errors.Is(err, api.ErrNoBroker) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}

func (c *crowd) complain(t testing.TB) {
	t.Helper()
	for _, text := range c.wrong {
		t.Error(text)
	}
	if c.times > 0 {
		t.Errorf("%d things of %d went wrong", c.times, c.done.Load())
	}
}

// round has so many things done, and waits until all is as it was.
func (c *crowd) round(t testing.TB, name string, things int64, idle usage) usage {
	t.Helper()
	end := c.done.Load() + things
	var wait sync.WaitGroup
	ctx := within(t)
	for what, want := range map[string]func(context.Context, *bench) error{"too many sessions": tooManySessions, "too many questions": tooManyQuestions} {
		wait.Go(func() {
			if err := want(ctx, c.b); err != nil {
				c.blame(what, err)
			}
		})
	}
	c.run(func() bool { return c.done.Load() < end })
	wait.Wait()
	return c.b.settle(t, name, idle)
}

// steadily has callers come and go, round after round, and returns what is in use after
// each of them and how many things are one. The first is there to get warm. The rounds
// of a run that is not quick take so long together.
func (c *crowd) steadily(t testing.TB, together time.Duration, quick bool, idle usage) (seen []usage, things int64) {
	t.Helper()
	things = int64(c.atOnce)
	if quick {
		c.run(func() bool { return c.done.Load() < things })
	} else {
		warm := time.Now().Add(together / (rounds + 1))
		c.run(func() bool { return time.Now().Before(warm) })
		things = max(things, c.done.Load())
	}
	seen = []usage{c.b.settle(t, "after the first round", idle)}
	for i := range rounds {
		seen = append(seen, c.round(t, fmt.Sprintf("after round %d of %d", i+2, rounds+1), things, idle))
	}
	return seen, things
}

// Callers come and go, a hundred at once, round after round, and nothing grows. Then the
// broker is killed again and again while they do, and nothing is left of that either.
func TestCallersComeAndGo(t *testing.T) {
	all, quick := length(t)
	b := start(t)
	b.remember(t, remembered)
	c := &crowd{b: b, agents: b.agents(t, agents), kinds: kinds, atOnce: callers}
	if quick { // an ended session that lingered is kept for half a minute
		c.kinds = kinds[:len(kinds)-1]
	}
	idle := b.idle(t)
	began := time.Now()
	seen, things := c.steadily(t, all*2/3, quick, idle)
	took, steady := time.Since(began), c.done.Load()
	for _, text := range growth(seen, int(things)) {
		t.Error(text)
	}
	kills, kept := c.storm(t, all/3, quick)
	lingered := c.left(t)
	last := b.settle(t, "after the broker was killed", idle)
	c.complain(t)
	saw(t, "%d callers at once did %d things of %d kinds in %v (%.0f a second), each round %d; then the broker was killed %d times, which cut short %d of %d things, and %d of %d sessions stayed through all of it; %d that linger were left by callers who were cut short, and closed",
		callers, steady, len(c.kinds), took.Round(time.Second), float64(steady)/took.Seconds(), things, kills, c.broken.Load(), c.done.Load()-steady, kept, bystanders, lingered)
	table(t, column{"idle", idle}, column{"round 1", seen[0]}, column{fmt.Sprint("round ", rounds+1), seen[rounds]}, column{"after kills", last})
}
