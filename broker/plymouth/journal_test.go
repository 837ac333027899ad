// SPDX-License-Identifier: Apache-2.0

package plymouth

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// tooLong is a bound on what hangs, and never waited for.
const tooLong = 20 * time.Second

// journal keeps what is written, and can be waited for.
type journal struct {
	mu   sync.Mutex
	more *sync.Cond
	all  []byte
	read int // how much of it was seen by see
}

func newJournal() *journal {
	j := new(journal)
	j.more = sync.NewCond(&j.mu)
	return j
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, p...)
	j.more.Broadcast()
	return len(p), nil
}

// see waits until a text comes after what was seen before.
func (j *journal) see(t *testing.T, text string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	late := time.AfterFunc(tooLong, j.more.Broadcast)
	defer late.Stop()
	for deadline := time.Now().Add(tooLong); ; j.more.Wait() {
		if i := bytes.Index(j.all[j.read:], []byte(text)); i >= 0 {
			j.read += i + len(text)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is no %q in %q", text, j.all[j.read:])
		}
	}
}

// count is how often a text has come.
func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return bytes.Count(j.all, []byte(text))
}

// unseen is what has come after what was seen.
func (j *journal) unseen() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return string(j.all[j.read:])
}
