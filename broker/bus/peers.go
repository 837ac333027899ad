// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api/transport"
)

// Peer is a connection to the bus, as the bus describes it. It is fixed for
// the connection's life: a unique name is never used twice on a bus.
type Peer struct {
	Name   string   // unique name
	UID    uint32   // UnixUserID
	Groups []uint32 // UnixGroupIDs; none where the bus does not say
	PID    uint32   // ProcessID, for display only; 0 where the bus does not say

	process process

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

// Pinned reports whether the bus gave a descriptor of the process that
// connected (ProcessFD; dbus since 1.15.8, dbus-broker since 34).
func (p *Peer) Pinned() bool { return p.process.pidfd != nil }

// Unit is the unit of the system's service manager that the process which
// connected runs in now, such as "cron.service" or "session-2.scope"; only root
// can move a process to another. It is "" for a process that is not pinned, has
// ended or runs in none, and after the peer has left.
//
// A unit may run programs for more than one user: cron.service does.
func (p *Peer) Unit() string { return p.process.unit() }

// Describe is DescribeProcess of the process that connected, and "" for one
// that has ended. Where it is not pinned, another process may be meant.
func (p *Peer) Describe() (unit, comm string) { return p.process.describe() }

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

// Here reports whether a peer is on the bus still, and its process not about to end. It asks
// the kernel and the bus, and does not only rely on what the bus has told up to now: of a
// process that is killed one descriptor is closed before the other.
func (c *Conn) Here(ctx context.Context, p *Peer) bool {
	if p.process.ending() {
		return false
	}
	err := c.conn.BusObject().CallWithContext(ctx, driver+".GetNameOwner", 0, p.Name).Err
	return err == nil && !p.Left()
}

// ask fills a peer in. One that could not be looked up is forgotten, so that a
// later call asks again.
func (p *peers) ask(ctx context.Context, peer *Peer) {
	defer close(peer.ready)
	process, err := p.lookUp(ctx, peer)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.by[peer.Name] != peer: // it has left meanwhile
		process.close()
	case err != nil:
		delete(p.by, peer.Name)
	default:
		peer.process = process
	}
	peer.err = err
}

func (p *peers) lookUp(ctx context.Context, peer *Peer) (process, error) {
	m := credentialsCall(peer.Name)
	call := <-p.conn.conn.SendWithContext(ctx, m, make(chan *dbus.Call, 1)).Done
	fds := p.conn.calls.takeReply(m.Serial())
	defer transport.CloseAll(fds)
	credentials := make(map[string]dbus.Variant)
	if err := call.Store(&credentials); err != nil {
		return process{}, err
	}
	return peer.fill(credentials, fds)
}

const getCredentials = "GetConnectionCredentials"

func credentialsCall(name string) *dbus.Message {
	return &dbus.Message{Type: dbus.TypeMethodCall, Body: []any{name}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(driver),
		dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")),
		dbus.FieldInterface:   dbus.MakeVariant(driver),
		dbus.FieldMember:      dbus.MakeVariant(getCredentials),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(name)),
	}}
}

// nobody is (uid_t) -1, which is no user: to the kernel's setresuid(2) it means
// "leave it", to others "any". A bus that says it does not know.
const nobody = math.MaxUint32

func (peer *Peer) fill(credentials map[string]dbus.Variant, fds []int) (process, error) {
	uid, ok := credentials["UnixUserID"].Value().(uint32)
	if !ok || uid == nobody {
		return process{}, errors.New("the bus does not say which user the caller is")
	}
	peer.UID = uid
	peer.Groups, _ = credentials["UnixGroupIDs"].Value().([]uint32)
	peer.PID, _ = credentials["ProcessID"].Value().(uint32)
	pidfd := -1
	if index, ok := credentials["ProcessFD"].Value().(dbus.UnixFDIndex); ok && int64(index) < int64(len(fds)) {
		pidfd = fds[index]
	}
	return pin(peer.PID, pidfd), nil
}

// left runs in the reader.
func (p *peers) left(name string) {
	p.mu.Lock()
	peer := p.by[name]
	delete(p.by, name)
	if peer != nil {
		peer.process.close()
	}
	p.mu.Unlock()
	if peer == nil {
		return
	}
	close(peer.gone)
	p.tell(peer)
}

// close lets go of the processes. Whoever is looked up later is not kept.
func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, peer := range p.by {
		peer.process.close()
		delete(p.by, name)
	}
}
