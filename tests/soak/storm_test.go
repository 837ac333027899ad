// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
)

const bystanders = 10 // sessions that are there all the time, half of them with a question

// stayer is an owner whose sessions are there while the broker is killed.
type stayer struct {
	t       testing.TB
	k       *caller
	heard   *api.Watcher
	open    []*api.Session
	waiting map[uint64]*api.Session // by the number of the prompt
	who     map[uint64]int          // the user, by the number of the session
}

func (b *bench) stays(t testing.TB, agents []*api.Client) *stayer {
	t.Helper()
	ctx := within(t)
	k, err := b.arrive(ctx, agents)
	if err != nil {
		t.Fatal(err)
	}
	s := &stayer{t: t, k: k, waiting: make(map[uint64]*api.Session), who: make(map[uint64]int)}
	if s.heard, err = k.c.Watch(context.Background(), api.WatchOptions{Agent: true, Queue: 1 << 18}); err != nil {
		t.Fatal(err)
	}
	k.w.Close() // of two, one is not read
	k.w = s.heard
	for i := range bystanders {
		k.n = users + i
		session, p, err := k.asks(ctx, api.Options{})
		if err == nil && i%2 == 0 {
			err = answer(ctx, k.agent(), p.ID, password(k.n))
			if err == nil {
				err = session.Wait(ctx, api.StateOpen)
			}
			s.open = append(s.open, session)
		} else {
			s.waiting[p.ID] = session
		}
		if err != nil {
			t.Fatal(err)
		}
		s.who[session.ID()] = k.n
	}
	return s
}

// told waits until another broker has told of each prompt again, by its number.
func (s *stayer) told(ctx context.Context) {
	s.t.Helper()
	missing := make(map[uint64]bool)
	for id := range s.waiting {
		missing[id] = true
	}
	for back := false; len(missing) > 0; {
		select {
		case event, more := <-s.heard.Events():
			switch e := event.(type) {
			case api.BrokerBack:
				back = true
			case api.Prompt:
				if back {
					delete(missing, e.ID)
				}
			}
			if !more {
				s.t.Fatalf("the watcher ended: %v", s.heard.Err())
			}
		case <-ctx.Done():
			s.t.Errorf("%d prompts of %d were not told of again", len(missing), len(s.waiting))
			return
		}
	}
}

// finish answers what waits and closes all.
func (s *stayer) finish(ctx context.Context) (kept int) {
	s.t.Helper()
	for id, session := range s.waiting {
		if err := answer(ctx, s.k.agent(), id, password(s.who[session.ID()])); err != nil {
			s.t.Errorf("answer prompt %d after the kills: %v", id, err)
		}
		s.open = append(s.open, session)
	}
	if err := each(len(s.open), len(s.open), func(i int) error { return closed(ctx, s.open[i]) }); err != nil {
		s.t.Errorf("sessions after the kills: %v", err)
	} else {
		kept = len(s.open)
	}
	s.k.leave()
	return kept
}

// storm kills the broker again and again while callers come and go: once a minute, in
// the quick run twice. It returns how often, and how many sessions stayed.
func (c *crowd) storm(t testing.TB, long time.Duration, quick bool) (kills, kept int) {
	t.Helper()
	s := c.b.stays(t, c.agents)
	every := min(time.Minute, long/3)
	over, stopped := make(chan struct{}), make(chan struct{})
	c.between = true
	go func() {
		defer close(stopped)
		c.run(func() bool {
			select {
			case <-over:
				return false
			default:
				return true
			}
		})
	}()
	defer func() { <-stopped }()
	defer close(over)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for end := time.Now().Add(long); kills < 2 || !quick && time.Now().Before(end); kills++ {
		<-tick.C
		c.ends.Add(1)
		c.b.Kill(t)
		c.b.Restart(t)
		s.told(within(t))
	}
	return kills, s.finish(within(t))
}

// left closes the sessions that linger though who opened them was cut short, and would have
// closed them. It returns how many there were; others close by themselves.
func (c *crowd) left(t testing.TB) (lingered int) {
	t.Helper()
	ctx := within(t)
	sessions, err := c.agents[0].Sessions(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range sessions {
		session := c.agents[0].Session(info.ID)
		properties, err := session.Properties(ctx)
		if errors.Is(err, api.NoSuchSession) || err == nil && (!properties.Linger || properties.State == api.StateClosed) {
			continue
		}
		lingered++
		if err == nil {
			err = closed(ctx, session)
		}
		if err != nil {
			t.Errorf("session %d: %v", info.ID, err)
		}
	}
	return lingered
}
