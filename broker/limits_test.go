// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/workers"
)

// otherEnds are the connections of workers that a test pretends, by *workers.Worker.
var otherEnds sync.Map

// idleWorkers is a pool, and how to have one more idle worker of it. They say
// Hello and nothing else, and end with the test, after its owner.
func idleWorkers(t *testing.T) (*workers.Pool, func() *workers.Worker) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w", "broker.sock")
	pool, err := workers.Listen(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var conns []*worker.Conn
	done := make(chan error)
	go func() { done <- pool.Serve(func(w *workers.Worker, _ *worker.Session) { w.Refuse() }) }()
	t.Cleanup(func() {
		pool.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return pool, func() *workers.Worker {
		conn, err := worker.Dial(path)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		if err := conn.Send(&worker.ToBroker{Message: &worker.ToBroker_Hello{Hello: &worker.Hello{Version: worker.Version}}}); err != nil {
			t.Fatal(err)
		}
		w, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		otherEnds.Store(w, conn)
		t.Cleanup(func() { otherEnds.Delete(w) })
		return w
	}
}

// What is counted is a uid's sessions over all of its connections. A session
// that has ended is none, and root has more.
func TestAUIDHasSoManySessions(t *testing.T) {
	pool, idle := idleWorkers(t)
	b := &Broker{
		config: Config{Pool: pool}, wakeup: make(chan struct{}, 1), sessions: make(map[uint64]*session),
		clients: make(map[string]*client), usage: make(map[uint32]*usage), agents: make(map[*client]struct{}),
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		b.own(stop)
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
	})
	const uid = 60001
	one, two := &bus.Peer{Name: ":1.1", UID: uid}, &bus.Peer{Name: ":1.2", UID: uid}
	var id uint64
	give := func(p *bus.Peer) (s *session, err error) {
		id++
		start := &worker.Start{Session: id, Service: "permit", User: "anna", Owner: &worker.Owner{Name: p.Name, Uid: p.UID}, Options: &worker.Options{Attempts: 1}}
		w := idle()
		s = b.newSession(start)
		s.started = make(chan error, 1)
		s.expect(nil)
		if !b.do(func() { err = b.give(w, p, s, start, nil) }) {
			t.Fatal("the owner has stopped")
		}
		return s, err
	}
	var first *session
	for i := range userLimits.sessions {
		s, err := give([]*bus.Peer{one, two}[i%2])
		if err != nil {
			t.Fatalf("session %d: %v", i+1, err)
		}
		if first == nil {
			first = s
		}
	}
	for _, p := range []*bus.Peer{one, two} {
		if _, err := give(p); !errors.Is(err, api.LimitExceeded) {
			t.Errorf("one session too many: %v, want LimitExceeded", err)
		}
	}
	for _, p := range []*bus.Peer{{Name: ":1.3", UID: uid + 1}, {Name: ":1.4", UID: 0}} {
		if _, err := give(p); err != nil {
			t.Errorf("a session of uid %d: %v", p.UID, err)
		}
	}
	b.do(func() { first.end(api.StateFailed, 0, "") })
	if _, err := give(two); err != nil {
		t.Errorf("when one has ended: %v", err)
	}
	if _, err := give(one); !errors.Is(err, api.LimitExceeded) {
		t.Errorf("after that: %v, want LimitExceeded", err)
	}
	for range userLimits.sessions + 1 {
		if _, err := give(&bus.Peer{Name: ":1.4", UID: 0}); err != nil {
			t.Fatalf("a session of root: %v", err)
		}
	}
}

func TestAUIDOpensSoManySessionsInATime(t *testing.T) {
	const uid, other = 60001, 60002
	o, now := make(openings), time.Unix(1, 0)
	for i := range openBurst {
		if err := o.take(uid, 1, now); err != nil {
			t.Fatalf("session %d at once: %v", i+1, err)
		}
	}
	for _, c := range []struct {
		name  string
		uid   uint32
		later time.Duration
		ok    bool
	}{
		{"one more", uid, 0, false},
		{"another uid", other, 0, true},
		{"one more after that", uid, 0, false},
		{"a moment too early", uid, openEvery - time.Millisecond, false},
		{"the next one", uid, time.Millisecond, true},
		{"and one with it", uid, 0, false},
		{"after a long time", uid, time.Hour, true},
	} {
		now = now.Add(c.later)
		if err := o.take(c.uid, 1, now); (err == nil) != c.ok || err != nil && !errors.Is(err, api.LimitExceeded) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if len(o) != 1 || o[uid] == nil {
		t.Errorf("%d uids are remembered, of which one has opened a session of late", len(o))
	}
}
