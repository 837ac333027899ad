// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"errors"
	"slices"
	"time"

	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/polkit"
	"github.com/pamprompt/pamprompt/policy"
)

// Texts that wait for polkit's word: of one agent and asker, in number, and of one
// agent, in bytes. Those that are too many are lost.
const (
	maxOwed     = 16
	maxOwedSize = 1 << 20
)

// How long polkit is left alone after a question to which it had no answer: at first,
// and at last, when it never has one. One that hangs and goes on tells nobody.
const (
	shortestPause = time.Second
	longestPause  = 30 * time.Second
)

// vetting is what polkit says of one agent: whose questions it may know. It is
// asked before each question, one after the other, by one goroutine an agent,
// so that a slow answer holds nobody else up. The zero value has asked nothing.
type vetting struct {
	of    map[asker]*vetted
	queue []asker // to be asked about
	works bool    // the goroutine runs
	size  int     // of all that is owed, in bytes
}

// vetted is what is known of an agent and an asker.
type vetted struct {
	queued   bool
	approved bool          // at the last time
	owed     []bus.Signal  // said meanwhile
	size     int           // of it, in bytes
	pause    time.Duration // the last one; 0 when polkit has said something since
	again    *time.Timer   // asks again at its end; nil for never
}

func (v *vetting) approved(a asker) bool { return v.of[a] != nil && v.of[a].approved }

// entry finds what is known of an asker, nothing at first.
func (v *vetting) entry(a asker) *vetted {
	if v.of == nil {
		v.of = make(map[asker]*vetted)
	}
	if v.of[a] == nil {
		v.of[a] = new(vetted)
	}
	return v.of[a]
}

// owe adds to what is owed, if there is room.
func (v *vetting) owe(e *vetted, s bus.Signal, size int) {
	if len(e.owed) < maxOwed && v.size+size <= maxOwedSize {
		e.owed = append(e.owed, s)
		e.size += size
		v.size += size
	}
}

// settle returns what was owed until now.
func (v *vetting) settle(e *vetted) []bus.Signal {
	owed := e.owed
	v.size -= e.size
	e.owed, e.size = nil, 0
	return owed
}

// forget is called when an asker has ended.
func (v *vetting) forget(a asker) {
	if e := v.of[a]; e != nil {
		e.rest()
		v.settle(e)
		delete(v.of, a)
	}
}

// stop forgets everything; the goroutine ends by itself.
func (v *vetting) stop() {
	for a := range v.of {
		v.forget(a)
	}
	v.of, v.queue = nil, nil
}

// rest has polkit not asked again by itself.
func (e *vetted) rest() {
	if e.again != nil {
		e.again.Stop()
		e.again = nil
	}
}

// forget is called when an asker has ended.
func (b *Broker) forget(a asker) {
	for c := range b.agents {
		c.vetting.forget(a)
	}
}

// offer tells an agent of a prompt, now or when polkit has said that it may know
// of this one.
func (b *Broker) offer(c *client, q *prompt) {
	if q.muted {
		return
	}
	switch b.ruling(c, q.asker).Verdict {
	case policy.Allow:
		q.tell(c)
	case policy.Polkit:
		b.vet(c, q.asker)
	}
}

// offer offers the prompt to all agents that were not told of it yet.
func (q *prompt) offer() {
	for c := range q.b.agents {
		if q.isNewTo(c) {
			q.b.offer(c, q)
		}
	}
}

// vet has polkit asked whether an agent may know what somebody asks.
func (b *Broker) vet(c *client, a asker) {
	v := c.vetting.entry(a)
	if v.queued {
		return
	}
	v.queued = true
	c.vetting.queue = append(c.vetting.queue, a)
	if !c.vetting.works {
		c.vetting.works = true
		b.aside.Go(func() { b.askOf(c) })
	}
}

// askOf asks polkit about an agent until there is nothing more to ask. It is
// never interactive: an agent that comes is no reason to ask for a password.
func (b *Broker) askOf(c *client) {
	for {
		var next asker
		var details map[string]string
		var actions []string
		if !b.do(func() { next, actions, details = b.nextVet(c) }) || next == nil {
			return
		}
		err := errRefused
		for _, action := range actions {
			err = b.polkit.Check(b.running, polkit.Question{Caller: c.peer, Action: action, Details: details})
			if err == nil || polkit.Undecided(err) { // who is silent is not asked more at once
				break
			}
		}
		b.post(func() { b.vetted(c, next, err) })
	}
}

// nextVet takes the next question for polkit. Without a next one the goroutine
// has nothing to do and ends.
func (b *Broker) nextVet(c *client) (a asker, actions []string, details map[string]string) {
	for len(c.vetting.queue) > 0 {
		a, c.vetting.queue = c.vetting.queue[0], c.vetting.queue[1:]
		v := c.vetting.of[a]
		if v == nil {
			continue // it has ended
		}
		// What comes from now on is asked about again: this answer may be older.
		v.queued = false
		if d := b.ruling(c, a); d.Verdict == policy.Polkit {
			return a, d.Polkit, polkitDetails(a.object())
		}
		b.heed(c, a, v, errRefused)
	}
	c.vetting.works = false
	return nil, nil, nil
}

// vetted is polkit's word on an agent and an asker: nil for yes.
func (b *Broker) vetted(c *client, a asker, refusal error) {
	v := c.vetting.of[a]
	if v == nil || !b.isAgent(c) {
		return
	}
	before := v.approved
	if errors.Is(refusal, polkit.ErrAway) {
		b.postponeRest(c, v, refusal)
	}
	b.heed(c, a, v, refusal)
	if v.approved != before {
		b.remirror()
	}
}

// postponeRest postpones all other questions about an agent with one that did not reach
// polkit: theirs would not either, and there may be thousands.
func (b *Broker) postponeRest(c *client, but *vetted, refusal error) {
	queue := c.vetting.queue
	c.vetting.queue = nil
	for _, a := range queue {
		if v := c.vetting.of[a]; v != nil {
			v.queued = false
			if v != but {
				b.heed(c, a, v, refusal)
			}
		}
	}
}

// heed does what follows from polkit's word, or from rules that were read while
// it was asked.
func (b *Broker) heed(c *client, a asker, v *vetted, refusal error) {
	switch b.ruling(c, a).Verdict {
	case policy.Allow:
		refusal = nil
	case policy.Deny:
		refusal = errRefused
	}
	v.rest()
	v.approved = refusal == nil
	if polkit.Undecided(refusal) {
		b.postpone(c, a, v)
		return
	}
	v.pause = 0
	owed := c.vetting.settle(v)
	if !v.approved {
		return
	}
	for _, s := range owed {
		b.bus.Send(s)
	}
	for _, q := range a.waiting() {
		if q.isNewTo(c) {
			q.tell(c)
		}
	}
}

// isNewTo reports whether an agent was not told of a prompt of which it could be.
func (q *prompt) isNewTo(c *client) bool { return !q.muted && q.told[c.peer.Name] == nil }

// postpone has polkit, which said nothing, asked once more after a pause that grows,
// if there is something to tell the agent by then.
func (b *Broker) postpone(c *client, a asker, v *vetted) {
	v.pause = min(max(2*v.pause, shortestPause), longestPause)
	b.log.Debug("polkit has not said whether an agent may know what is asked", "caller", c.peer.Name, "again-after", v.pause)
	var again *time.Timer
	again = time.AfterFunc(v.pause, func() {
		b.post(func() {
			if v.again == again && (len(v.owed) > 0 || slices.ContainsFunc(a.waiting(), func(q *prompt) bool { return q.isNewTo(c) })) {
				b.vet(c, a)
			}
		})
	})
	v.again = again
}

// owe has a text of so many bytes told to an agent when polkit has said that it may
// know.
func (b *Broker) owe(c *client, a asker, s bus.Signal, size int) {
	c.vetting.owe(c.vetting.entry(a), s, size)
	b.vet(c, a)
}

// review looks again who may be told of what is owed, and of the prompts that wait.
func (b *Broker) review() {
	for c := range b.agents {
		for a, v := range c.vetting.of {
			switch {
			case len(v.owed) == 0:
			case b.ruling(c, a).Verdict == policy.Polkit:
				b.vet(c, a)
			default:
				b.heed(c, a, v, errRefused)
			}
		}
	}
	for _, number := range sortedNumbers(b.prompts) {
		b.prompts[number].offer()
	}
	b.remirror()
}

// reviewEvery bounds how often polkit's hint that its answers have changed, or that it
// has come, is followed: anybody may send the first.
const reviewEvery = time.Second

// polkitChanged runs in the reader of the bus.
func (b *Broker) polkitChanged() {
	if b.reviewing.CompareAndSwap(false, true) {
		time.AfterFunc(reviewEvery, func() {
			b.reviewing.Store(false)
			b.post(b.review)
		})
	}
}
