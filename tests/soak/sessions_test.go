// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
)

// ear is an agent that counts how often it is told of what. The library would not do:
// its Watcher tells nothing twice, whatever the broker says.
type ear struct {
	conn *dbus.Conn

	mu     sync.Mutex
	told   map[uint64]int // prompts, by number
	ended  map[uint64]int
	enough func(told, ended int) bool
	heard  chan struct{} // closed when it is enough
}

func (b *bench) listens(t testing.TB) *ear {
	t.Helper()
	e := &ear{told: make(map[uint64]int), ended: make(map[uint64]int)}
	var err error
	if e.conn, err = dbus.Connect(b.Address, dbus.WithSignalHandler(e)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.conn.Close() })
	if err := e.call(within(t), "RegisterAgent", map[string]dbus.Variant{}); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *ear) call(ctx context.Context, member string, args ...any) error {
	return e.conn.Object(api.BusName, api.RootPath).CallWithContext(ctx, api.ManagerInterface+"."+member, 0, args...).Err
}

// DeliverSignal runs in godbus's reader.
func (e *ear) DeliverSignal(_, _ string, s *dbus.Signal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch s.Name {
	case api.ManagerInterface + ".Prompt":
		e.told[s.Body[0].(uint64)]++
	case api.ManagerInterface + ".PromptClosed":
		e.ended[s.Body[0].(uint64)]++
	}
	e.judge()
}

func (e *ear) judge() {
	if e.enough != nil && e.enough(len(e.told), len(e.ended)) {
		close(e.heard)
		e.enough = nil
	}
}

// await waits until it has heard enough.
func (e *ear) await(ctx context.Context, enough func(told, ended int) bool) error {
	e.mu.Lock()
	e.heard = make(chan struct{})
	e.enough = enough
	heard := e.heard
	e.judge()
	e.mu.Unlock()
	select {
	case <-heard:
		return nil
	case <-ctx.Done():
		e.mu.Lock()
		defer e.mu.Unlock()
		return fmt.Errorf("an agent was told of %d prompts and %d ends: %w", len(e.told), len(e.ended), ctx.Err())
	}
}

// waiting is a session whose prompt waits.
type waiting struct {
	*api.Session
	prompt uint64
}

// A thousand sessions wait at the same time, and each of fifty agents is told of each of
// their prompts once. They are answered by all of them, some as systemd's agents do, and
// each module gets the answer that is its own. Then all is as it was.
func TestManySessionsWaitAtOnce(t *testing.T) {
	many, ears := 1000, 50
	if _, quick := length(t); quick {
		many, ears = 150, 10
	}
	b := start(t)
	b.remember(t, 1)
	idle := b.idle(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	agents := make([]*ear, ears)
	for i := range agents {
		agents[i] = b.listens(t)
	}
	owner := b.Client(t)
	heard, err := owner.Watch(context.Background(), api.WatchOptions{Queue: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	sessions := make([]waiting, many)
	if err := each(many, 32, func(i int) (err error) {
		sessions[i].Session, err = owner.Open(ctx, "word", user(i), api.Options{Agent: true})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	numbers(t, ctx, heard, sessions)
	for _, e := range agents {
		if err := e.await(ctx, func(told, _ int) bool { return told == many }); err != nil {
			t.Fatal(err)
		}
	}
	pending := time.Since(began)
	peak := b.count(t)
	b.weigh(t, peak)

	began = time.Now()
	files := 0
	if err := each(many, 32, func(i int) error { return b.answers(ctx, agents[i%ears], sessions[i], i) }); err != nil {
		t.Fatal(err)
	}
	for i := range many {
		if byFile(i) {
			files++
		}
	}
	for i, s := range sessions {
		if err := s.Wait(ctx, api.StateOpen); err != nil {
			t.Errorf("session %d of %d: %v", i, many, err)
		}
	}
	opened := time.Since(began)
	for _, e := range agents {
		if err := e.await(ctx, func(_, ended int) bool { return ended == many }); err != nil {
			t.Error(err)
		}
		e.wantOnce(t, sessions)
	}
	if err := each(many, 32, func(i int) error { return closed(ctx, sessions[i].Session) }); err != nil {
		t.Error(err)
	}
	_ = owner.Close()
	for _, e := range agents {
		_ = e.conn.Close()
	}
	last := b.settle(t, "after all were closed", idle)
	saw(t, "%d sessions waited at once after %v, all %d agents were told of each prompt once; %d answers by %d agents and %d by request files opened all in %v; then the broker had %d KiB of heap, %d goroutines, %d descriptors",
		many, pending.Round(10*time.Millisecond), ears, many-files, ears, files, opened.Round(10*time.Millisecond),
		peak.of["broker heap"]>>10, peak.of["broker goroutines"], peak.of["broker descriptors"])
	table(t, column{"idle", idle}, column{fmt.Sprint(many, " waiting"), peak}, column{"closed", last})
}

// numbers notes the prompt of each session.
func numbers(t testing.TB, ctx context.Context, heard *api.Watcher, sessions []waiting) {
	t.Helper()
	of := make(map[uint64]*waiting, len(sessions))
	for i := range sessions {
		of[sessions[i].ID()] = &sessions[i]
	}
	for left := len(sessions); left > 0; {
		select {
		case event, more := <-heard.Events():
			if !more {
				t.Fatalf("the watcher ended: %v", heard.Err())
			}
			if p, ok := event.(api.Prompt); ok && of[p.Session] != nil {
				of[p.Session].prompt = p.ID
				left--
			}
		case <-ctx.Done():
			t.Fatalf("%d sessions of %d do not ask", left, len(sessions))
		}
	}
}

// byFile is whether a session gets its answer as from an agent of systemd.
func byFile(i int) bool { return i%20 == 7 }

func (b *bench) answers(ctx context.Context, agent *ear, s waiting, i int) error {
	if byFile(i) {
		return b.files.reply(ctx, "pamprompt:word:"+user(i), password(i))
	}
	return agent.call(ctx, "AnswerPrompt", s.prompt, password(i))
}

// wantOnce checks that an agent was told of each prompt, and of its end, once.
func (e *ear) wantOnce(t testing.TB, sessions []waiting) {
	t.Helper()
	once := make(map[uint64]int, len(sessions))
	for _, s := range sessions {
		once[s.prompt] = 1
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !maps.Equal(e.told, once) || !maps.Equal(e.ended, once) {
		t.Errorf("an agent was told of %d prompts of %d, and of %d ends, or of one more than once", len(e.told), len(once), len(e.ended))
	}
}
