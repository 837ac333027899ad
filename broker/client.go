// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// Limits of a uid. The admin's are there to bound memory, not people.
const (
	maxSessions      = 32
	maxAgents        = 16
	maxAdminSessions = 16384
	maxAdminAgents   = 1024
)

// client is a connection to the bus that owns sessions or is an agent.
type client struct {
	peer     *bus.Peer
	sessions map[*session]struct{}
}

// usage is what is charged to a uid.
type usage struct{ sessions, agents int }

func (b *Broker) charge(uid uint32) *usage {
	u := b.usage[uid]
	if u == nil {
		u = new(usage)
		b.usage[uid] = u
	}
	return u
}

func (b *Broker) settle(uid uint32) {
	if u := b.usage[uid]; u != nil && u.sessions == 0 && u.agents == 0 {
		delete(b.usage, uid)
	}
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
		b.clients[p.Name] = c
	}
	return c
}

// isAgent reports whether a client, or none, is an agent.
func (b *Broker) isAgent(c *client) bool {
	_, ok := b.agents[c]
	return ok
}

// limits is how many sessions and agents a peer's uid may have.
func (b *Broker) limits(p *bus.Peer) (sessions, agents int) {
	if b.caller(p).Admin {
		return maxAdminSessions, maxAdminAgents
	}
	return maxSessions, maxAgents
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
func (b *Broker) enlist(p *bus.Peer) error {
	c := b.client(p)
	if c == nil {
		return errCallerLeft
	}
	if !b.isAgent(c) {
		_, most := b.limits(p)
		u := b.charge(p.UID)
		if u.agents >= most {
			b.settle(p.UID)
			b.tidy(c)
			return &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf("uid %d has %d agents already", p.UID, most)}
		}
		u.agents++
		b.agents[c] = struct{}{}
	}
	for _, number := range sortedNumbers(b.prompts) {
		if q := b.prompts[number]; b.mayAnswer(p, q.asker) {
			q.tell(p)
		}
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
	b.charge(c.peer.UID).agents--
	b.settle(c.peer.UID)
	b.remirror()
}

func (b *Broker) mayAnswer(p *bus.Peer, a asker) bool {
	return policy.Decide(b.caller(p), policy.Answer, a.object())
}

// agentsFor are the agents that may answer what somebody asks.
func (b *Broker) agentsFor(a asker) []*bus.Peer {
	var peers []*bus.Peer
	for c := range b.agents {
		if b.mayAnswer(c.peer, a) {
			peers = append(peers, c.peer)
		}
	}
	return peers
}

// audience is who is to be told of a session's prompts and messages: the agents
// that may answer, and the opener if it asked for it.
func (s *session) audience() []*bus.Peer {
	peers := s.b.agentsFor(s)
	if s.owner != nil && s.start.GetOptions().GetAgent() && !(s.b.isAgent(s.owner) && s.b.mayAnswer(s.owner.peer, s)) {
		peers = append(peers, s.owner.peer)
	}
	return peers
}

var errCallerLeft = &api.Error{Code: api.AccessDenied, Text: "the caller has left the bus"}
