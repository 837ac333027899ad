// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// gate lets PAM check one answer at a time of all those that one uid has for one
// user, in the order in which they came. PAM delays a failure, so that nobody
// guesses fast (pam_fail_delay(3)); without the gate whoever opens 32 sessions
// would guess 32 times as fast. The admin has no gate.
type gate struct {
	holder  *session
	waiting []held
}

// gateKey says for whose answers, and about whom, there is a gate.
type gateKey struct {
	owner uint32
	user  string
}

// held is an answer that waits for its turn. It has taken its prompt's slot.
type held struct {
	s *session
	q *prompt
	f *os.File // ours to close
}

func (s *session) gateKey() gateKey {
	return gateKey{s.start.GetOwner().GetUid(), s.start.GetUser()}
}

// answer brings an answer to the session's worker, when its turn comes.
func (s *session) answer(q *prompt, c *claim, f *os.File) error {
	if s.b.isAdmin(s.start.GetOwner().GetUid()) {
		return s.deliver(q, c, f)
	}
	key := s.gateKey()
	g := s.b.gates[key]
	if g == nil {
		g = new(gate)
		s.b.gates[key] = g
	}
	if g.holder == nil || g.holder == s {
		g.holder = s
		err := s.deliver(q, c, f)
		if err != nil {
			s.pass()
		}
		return err
	}
	own, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("keep an answer that has to wait: %w", err)
	}
	g.waiting = append(g.waiting, held{s, q, os.NewFile(uintptr(own), "response")})
	q.claim = c
	return nil
}

// pass lets the next answer go: the session's was dealt with, or there is none.
func (s *session) pass() {
	key := s.gateKey()
	g := s.b.gates[key]
	if g == nil || g.holder != s {
		return
	}
	g.holder = nil
	for g.holder == nil && len(g.waiting) > 0 {
		next := g.waiting[0]
		g.waiting = g.waiting[1:]
		g.holder = next.send()
	}
	if g.holder == nil {
		delete(s.b.gates, key)
	}
}

// send delivers an answer that waited, unless its prompt has ended. It returns
// the session that PAM is at work for now, if any.
func (h held) send() *session {
	defer func() { _ = h.f.Close() }()
	if !h.q.waits() || h.q.claim == nil {
		return nil
	}
	if err := h.s.deliver(h.q, h.q.claim, h.f); err != nil {
		h.q.release(err)
		h.s.again()
		return nil
	}
	return h.s
}

// closeGates lets go of what waits, at the end.
func (b *Broker) closeGates() {
	for _, g := range b.gates {
		for _, h := range g.waiting {
			_ = h.f.Close()
		}
	}
	clear(b.gates)
}
