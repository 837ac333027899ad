// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"time"

	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/polkit"
	"github.com/pamprompt/pamprompt/policy"
)

// maxOwed bounds the texts that wait for polkit's word on one agent and asker.
const maxOwed = 16

// vetting is what polkit says of one agent: whose questions it may know. It is
// asked before each question, one after the other, by one goroutine an agent,
// so that a slow answer holds nobody else up. The zero value has asked nothing.
type vetting struct {
	of    map[asker]*vetted
	queue []asker // to be asked about
	works bool    // the goroutine runs
}

// vetted is what is known of an agent and an asker.
type vetted struct {
	queued   bool
	approved bool         // at the last time
	owed     []bus.Signal // said meanwhile
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

// stop forgets everything; the goroutine ends by itself.
func (v *vetting) stop() { v.of, v.queue = nil, nil }

// forget is called when an asker has ended.
func (b *Broker) forget(a asker) {
	for c := range b.agents {
		delete(c.vetting.of, a)
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
		if q.told[c.peer.Name] == nil {
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
		ok := false
		for _, action := range actions {
			if ok = b.polkit.Check(b.running, polkit.Question{Caller: c.peer, Action: action, Details: details}) == nil; ok {
				break
			}
		}
		b.post(func() { b.vetted(c, next, ok) })
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
		v.approved, v.owed = false, nil
	}
	c.vetting.works = false
	return nil, nil, nil
}

// vetted is polkit's word on an agent and an asker.
func (b *Broker) vetted(c *client, a asker, ok bool) {
	v := c.vetting.of[a]
	if v == nil || !b.isAgent(c) {
		return
	}
	switch b.ruling(c, a).Verdict {
	case policy.Allow:
		ok = true
	case policy.Deny: // by rules that were read while polkit was asked
		ok = false
	}
	owed := v.owed
	v.approved, v.owed = ok, nil
	if ok {
		for _, s := range owed {
			b.bus.Send(s)
		}
		for _, q := range a.waiting() {
			if !q.muted && q.told[c.peer.Name] == nil {
				q.tell(c)
			}
		}
	}
	b.remirror()
}

// owe has a text told to an agent when polkit has said that it may know.
func (b *Broker) owe(c *client, a asker, s bus.Signal) {
	v := c.vetting.entry(a)
	if len(v.owed) < maxOwed {
		v.owed = append(v.owed, s)
	}
	b.vet(c, a)
}

// review looks again who may be told of the prompts that wait.
func (b *Broker) review() {
	for _, number := range sortedNumbers(b.prompts) {
		b.prompts[number].offer()
	}
	b.remirror()
}

// reviewEvery bounds how often polkit's hint that its answers have changed is
// followed: anybody may send it.
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
