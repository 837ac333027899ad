// SPDX-License-Identifier: Apache-2.0

package pty

import (
	"bytes"
	"os"
	"sync"
	"testing"
	"time"
)

// Screen is what somebody at a pseudo-terminal has seen of it.
type Screen struct {
	t        testing.TB
	keys     *os.File
	patience time.Duration
	over     chan struct{}

	mu   sync.Mutex
	more *sync.Cond
	text []byte
	read int // how much of it See has seen
}

// Watch reads what programs write to a terminal, until the caller, whose keys are, closes
// them or no program has it any more. See waits no longer than patience.
func Watch(t testing.TB, keys *os.File, patience time.Duration) *Screen {
	s := &Screen{t: t, keys: keys, patience: patience, over: make(chan struct{})}
	s.more = sync.NewCond(&s.mu)
	go s.watch()
	return s
}

func (s *Screen) watch() {
	defer close(s.over)
	buf := make([]byte, 4096)
	for {
		n, err := s.keys.Read(buf)
		s.mu.Lock()
		s.text = append(s.text, buf[:n]...)
		s.more.Broadcast()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Over is closed when nothing more will be seen.
func (s *Screen) Over() <-chan struct{} { return s.over }

// See waits until text is on the screen, after what was seen before.
func (s *Screen) See(text string) {
	s.t.Helper()
	late := false
	defer time.AfterFunc(s.patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.more.Broadcast()
	}).Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; ; s.more.Wait() {
		if i := bytes.Index(s.text[s.read:], []byte(text)); i >= 0 {
			s.read += i + len(text)
			return
		}
		if late {
			s.t.Fatalf("there is no %q in %q", text, s.text[s.read:])
		}
	}
}

// Shown is all that was ever on the screen.
func (s *Screen) Shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

// Press types keys.
func (s *Screen) Press(keys string) {
	s.t.Helper()
	if _, err := s.keys.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}
