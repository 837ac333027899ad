// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// gate lets PAM check one answer at a time of all those that one uid has for one
// user, in the order in which they came. PAM delays a failure, so that nobody
// guesses fast (pam_fail_delay(3)); without the gate whoever opens 32 sessions
// would guess 32 times as fast. The admin has no gate.
//
// Alternatives of one session have one gate too, but one of them may have been
// answered and wait for a finger now: it holds up the answer to another one of its
// session for so long as a delay takes, as a rule, and no longer.
type gate struct {
	holder  *transaction
	waiting []held
}

// yieldAfter is how long an answer waits for another alternative of its own session.
// It is above the delays of pam_unix and pam_faildelay, as they are set up as a rule.
const yieldAfter = 5 * time.Second

// gateKey says for whose answers, and about whom, there is a gate.
type gateKey struct {
	owner uint32
	user  string
}

// held is an answer that waits for its turn. It has taken its prompt's slot.
type held struct {
	t *transaction
	q *prompt
	f *os.File // ours to close
}

func (t *transaction) gateKey() gateKey {
	return gateKey{t.start.GetOwner().GetUid(), t.start.GetUser()}
}

// answer brings an answer to the transaction's worker, when its turn comes.
func (t *transaction) answer(q *prompt, c *claim, f *os.File) error {
	if t.s.b.isAdmin(t.start.GetOwner().GetUid()) {
		return t.deliver(q, c, f)
	}
	key := t.gateKey()
	g := t.s.b.gates[key]
	if g == nil {
		g = new(gate)
		t.s.b.gates[key] = g
	}
	if g.holder == nil || g.holder == t {
		g.holder = t
		err := t.deliver(q, c, f)
		if err != nil {
			t.pass()
		}
		return err
	}
	own, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("keep an answer that has to wait: %w", err)
	}
	g.waiting = append(g.waiting, held{t, q, os.NewFile(uintptr(own), "response")})
	q.claim = c
	if holder := g.holder; holder.s == t.s {
		t.s.b.after(yieldAfter, func() { holder.yield(t) })
	}
	return nil
}

// yield gives the gate to another alternative of the session whose answer waits. It
// does nothing when the gate has gone to somebody else meanwhile.
func (t *transaction) yield(to *transaction) {
	g := t.s.b.gates[t.gateKey()]
	if g == nil || g.holder != t || to.s != t.s {
		return
	}
	i := slices.IndexFunc(g.waiting, func(h held) bool { return h.t == to })
	if i < 0 {
		return
	}
	next := g.waiting[i]
	g.waiting = append([]held{next}, slices.Delete(g.waiting, i, i+1)...)
	t.pass()
}

// pass lets the next answer go: the transaction's was dealt with, or there is none.
func (t *transaction) pass() {
	key := t.gateKey()
	g := t.s.b.gates[key]
	if g == nil || g.holder != t {
		return
	}
	g.holder = nil
	for g.holder == nil && len(g.waiting) > 0 {
		next := g.waiting[0]
		g.waiting = g.waiting[1:]
		g.holder = next.send()
	}
	if g.holder == nil {
		delete(t.s.b.gates, key)
	}
}

// send delivers an answer that waited, unless its prompt has ended. It returns
// the transaction that PAM is at work for now, if any.
func (h held) send() *transaction {
	defer func() { _ = h.f.Close() }()
	if !h.q.waits() || h.q.claim == nil {
		return nil
	}
	if err := h.t.deliver(h.q, h.q.claim, h.f); err != nil {
		h.q.release(err)
		h.t.again()
		return nil
	}
	return h.t
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
