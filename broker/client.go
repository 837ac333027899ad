// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// client is a connection to the bus that owns sessions or is an agent.
type client struct {
	peer     *bus.Peer
	who      policy.Caller // of an agent, as it was when it became one
	sessions map[*session]struct{}
	vetting  vetting // of an agent: what polkit says of it
}

// client returns the client of a peer, a new one for a peer that had none, and
// nil for one that has left: its leaving has been or will be queued, and must
// find what it has to clean up.
func (b *Broker) client(p *bus.Peer) *client {
	if p.Left() {
		return nil
	}
	c := b.clients[p.Name]
	if c == nil {
		c = &client{peer: p, sessions: make(map[*session]struct{})}
		c.who = b.basic(p)
		b.clients[p.Name] = c
	}
	return c
}

// isAgent reports whether a client, or none, is an agent.
func (b *Broker) isAgent(c *client) bool {
	_, ok := b.agents[c]
	return ok
}

// tidy forgets a client that has nothing any more.
func (b *Broker) tidy(c *client) {
	if c != nil && !b.isAgent(c) && len(c.sessions) == 0 {
		delete(b.clients, c.peer.Name)
	}
}

// left undoes what a peer that has left the bus had.
func (b *Broker) left(p *bus.Peer) {
	c := b.clients[p.Name]
	if c == nil {
		return
	}
	delete(b.clients, p.Name)
	b.retire(c)
	for s := range c.sessions {
		s.orphaned()
	}
	b.remirror()
}

// enlist makes a client an agent and tells it of what is pending.
func (b *Broker) enlist(p *bus.Peer, who policy.Caller) error {
	c := b.client(p)
	if c == nil {
		return errCallerLeft
	}
	c.who = who
	if !b.isAgent(c) {
		u := b.charge(p.UID)
		if most := b.limits(p.UID).agents; u.agents >= most {
			b.settle(p.UID)
			b.tidy(c)
			return &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf("uid %d has %d agents already", p.UID, most)}
		}
		u.agents++
		b.agents[c] = struct{}{}
	}
	for _, number := range sortedNumbers(b.prompts) {
		b.offer(c, b.prompts[number])
	}
	b.remirror()
	return nil
}

// retire undoes enlist.
func (b *Broker) retire(c *client) {
	if !b.isAgent(c) {
		return
	}
	delete(b.agents, c)
	c.vetting.stop()
	b.charge(c.peer.UID).agents--
	b.settle(c.peer.UID)
	b.remirror()
}

// ruling is what the rules say now of whether an agent may know what somebody
// asks.
func (b *Broker) ruling(c *client, a asker) policy.Decision {
	return b.rules.Load().Decide(c.who, policy.Answer, a.object())
}

// hears reports whether an agent may know what somebody asks: by policy, or
// since polkit said so when it was asked last.
func (b *Broker) hears(c *client, a asker) bool {
	switch b.ruling(c, a).Verdict {
	case policy.Allow:
		return true
	case policy.Polkit:
		return c.vetting.approved(a)
	}
	return false
}

// isHeard reports whether anybody on the bus is told at once of what is asked in the
// session: an agent, or the opener if it asked for it.
func (s *session) isHeard(a asker) bool {
	for c := range s.b.agents {
		if s.b.hears(c, a) {
			return true
		}
	}
	return s.hasOwnEar(a)
}

// hasOwnEar reports whether the opener is told of the prompts, and not as an
// agent.
func (s *session) hasOwnEar(a asker) bool {
	return s.owner != nil && s.start.GetOptions().GetAgent() && !(s.b.isAgent(s.owner) && s.b.hears(s.owner, a))
}

var errCallerLeft = &api.Error{Code: api.AccessDenied, Text: "the caller has left the bus"}
