// SPDX-License-Identifier: Apache-2.0

package plymouth

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// Screen is the boot splash. Most themes have room for one text: that is the
// last one of those that are held. Show and Hide may be called from any
// goroutine and never wait.
type Screen struct {
	log    *slog.Logger
	wakeup chan struct{}

	mu    sync.Mutex
	texts texts

	// The following belong to Run.
	tried  uint64 // the number of the text that was sent last, or 0
	shown  string // what Plymouth may be showing of ours
	warned bool
}

// New makes a screen; nothing is shown before Run.
func New(log *slog.Logger) *Screen {
	return &Screen{log: log, wakeup: make(chan struct{}, 1)}
}

// Show shows a text, in the place of the last one of that key. It is one line
// of at most 254 bytes, the rest is cut; a line with control characters is not
// shown.
func (s *Screen) Show(key uint64, line string) {
	line, err := fit(line)
	if err != nil {
		s.log.Debug("a text is not for the boot splash", "key", key, "error", err)
		return
	}
	if line == "" {
		s.Hide(key)
		return
	}
	s.mu.Lock()
	s.texts.show(key, line)
	s.mu.Unlock()
	s.wake()
}

// Hide takes the text of that key away.
func (s *Screen) Hide(key uint64) {
	s.mu.Lock()
	hidden := s.texts.hide(key)
	s.mu.Unlock()
	if hidden {
		s.wake()
	}
}

func (s *Screen) wake() {
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
}

// Run tells plymouthd what to show, until the context ends; then it hides what
// is shown and returns. What changes while plymouthd is busy is skipped but for
// the last text. Run may be called once.
func (s *Screen) Run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-s.wakeup:
			s.mu.Lock()
			last := s.texts.last()
			s.mu.Unlock()
			s.put(ctx, last)
		case <-ctx.Done():
		}
	}
	s.put(context.WithoutCancel(ctx), text{})
}

// put has plymouthd show that text and no other of ours. What fails is not
// tried again.
func (s *Screen) put(ctx context.Context, want text) {
	if want.number == s.tried && want.number != 0 {
		return // nothing new; but what is to be hidden may be there still
	}
	s.tried = want.number
	requests := change(s.shown, want.line)
	if len(requests) == 0 {
		return
	}
	sent, err := tell(ctx, requests...)
	if sent {
		s.shown = want.line // without a reply too: plymouthd may read it later
	}
	var stranger strangerError
	switch {
	case err == nil:
		return
	case errors.As(err, &stranger) && !s.warned:
		s.warned = true
		s.log.Warn("nothing is shown on the boot splash", "error", err)
	default:
		s.log.Debug("talk to plymouthd", "error", err)
	}
	if errors.Is(err, errNotRunning) || errors.As(err, &stranger) {
		s.shown = "" // it went with the plymouthd that showed it
		s.mu.Lock()
		s.texts.forget(want.number)
		s.mu.Unlock()
	}
}

// change is what plymouthd is to do so that it shows one line in the place of
// another; no line is empty. The old one is hidden first, since themes with
// room for one message take away the one they have, whichever is to be hidden.
// Themes for terminals leave a hidden message where it is and know only how to
// replace it: an empty message does that. It is hidden as well, because
// plymouthd keeps a list of messages.
func change(from, to string) []request {
	var requests []request
	if from != "" {
		requests = append(requests, request{hideMessage, from})
	}
	switch {
	case to != "":
		requests = append(requests, request{showMessage, to})
	case from != "":
		requests = append(requests, request{showMessage, ""}, request{hideMessage, ""})
	}
	return requests
}
