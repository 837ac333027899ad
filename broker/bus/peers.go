// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Peer is a connection to the bus, as the bus describes it. It is fixed for
// the connection's life: a unique name is never used twice on a bus.
type Peer struct {
	Name   string   // unique name
	UID    uint32   // UnixUserID
	Groups []uint32 // UnixGroupIDs; none where the bus does not say
	PID    uint32   // ProcessID, for display only; 0 where the bus does not say

	ready chan struct{} // closed when the look-up is over
	err   error         // why it failed
	gone  chan struct{} // closed when the connection has left the bus
}

// Gone is closed when the peer has left the bus.
func (p *Peer) Gone() <-chan struct{} { return p.gone }

// Left reports whether the peer has left the bus.
func (p *Peer) Left() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

var errLeft = errors.New("the caller has left the bus")

// peers remembers who was looked up, until they leave. An entry is made before
// the bus is asked, so that leaving during the question is noticed too.
type peers struct {
	conn *Conn
	tell func(*Peer)

	mu sync.Mutex
	by map[string]*Peer
}

func (p *peers) init(c *Conn, gone func(*Peer)) {
	p.conn, p.tell, p.by = c, gone, make(map[string]*Peer)
}

// Peer finds out who a unique name is. It fails when the bus does not say, and
// when the peer has left: what cannot be known is refused.
func (c *Conn) Peer(ctx context.Context, name string) (*Peer, error) {
	if !strings.HasPrefix(name, ":") {
		return nil, fmt.Errorf("%q is not a unique name", name)
	}
	p := &c.peers
	p.mu.Lock()
	peer, known := p.by[name]
	if !known {
		peer = &Peer{Name: name, ready: make(chan struct{}), gone: make(chan struct{})}
		p.by[name] = peer
	}
	p.mu.Unlock()
	if !known {
		p.ask(ctx, peer)
	}
	select {
	case <-peer.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if peer.err == nil && peer.Left() {
		return nil, errLeft
	}
	return peer, peer.err
}

// ask fills a peer in. One that could not be looked up is forgotten, so that a
// later call asks again.
func (p *peers) ask(ctx context.Context, peer *Peer) {
	defer close(peer.ready)
	credentials := make(map[string]dbus.Variant)
	call := p.conn.conn.BusObject().CallWithContext(ctx, driver+".GetConnectionCredentials", 0, peer.Name)
	if peer.err = call.Store(&credentials); peer.err == nil {
		peer.err = peer.fill(credentials)
	}
	if peer.err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.by[peer.Name] == peer {
			delete(p.by, peer.Name)
		}
	}
}

func (peer *Peer) fill(credentials map[string]dbus.Variant) error {
	uid, ok := credentials["UnixUserID"].Value().(uint32)
	if !ok {
		return errors.New("the bus does not say which user the caller is")
	}
	peer.UID = uid
	peer.Groups, _ = credentials["UnixGroupIDs"].Value().([]uint32)
	peer.PID, _ = credentials["ProcessID"].Value().(uint32)
	return nil
}

// left runs in the reader.
func (p *peers) left(name string) {
	p.mu.Lock()
	peer := p.by[name]
	delete(p.by, name)
	p.mu.Unlock()
	if peer == nil {
		return
	}
	close(peer.gone)
	p.tell(peer)
}
