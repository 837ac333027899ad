// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	driver            = "org.freedesktop.DBus"
	nameOwnerChanged  = driver + ".NameOwnerChanged"
	propertiesChanged = driver + ".Properties.PropertiesChanged"
)

// broker is who owns the broker's name. Anybody on a system bus may send us a
// signal of any name: one that asks for root's password and bears the number
// of the sender's own prompt would have the answer delivered to the sender.
// So only what the owner sends is heard.
type broker struct {
	owner string        // unique name; "" while there is none
	seq   dbus.Sequence // of the message that said so
	seen  bool          // there was an owner at some time
	since time.Time     // when it took the name while we looked on
}

// rules are what the bus is asked for: the owner of the name, and what it
// says to all. What it says to us alone needs no rule. One rule for all
// sessions, since system buses allow 512 on a connection.
var rules = [][]dbus.MatchOption{
	{
		dbus.WithMatchSender(driver), dbus.WithMatchInterface(driver),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, BusName),
	},
	{dbus.WithMatchSender(BusName), dbus.WithMatchPathNamespace(RootPath)},
}

// listen asks for the signals, then for the owner of the broker's name.
func (c *Client) listen(ctx context.Context) error {
	for _, rule := range rules {
		if err := c.conn.AddMatchSignalContext(ctx, rule...); err != nil {
			return fault("AddMatch", err)
		}
	}
	call := c.conn.BusObject().CallWithContext(ctx, driver+".GetNameOwner", 0, BusName)
	var owner string
	switch err := fault("GetNameOwner", call.Store(&owner)); {
	case err == nil:
		c.mu.Lock()
		defer c.mu.Unlock()
		if call.ResponseSequence > c.broker.seq { // no signal came after the reply
			c.broker = broker{owner: owner, seq: call.ResponseSequence, seen: true}
		}
		return nil
	case isNoBroker(err):
		return nil
	default:
		return err
	}
}

// listener is what godbus hands signals to, in its reader and in the order in
// which everything arrives: what came before the reply to a call has been
// handled when the call returns. It must not block.
type listener struct{ c *Client }

// DeliverSignal handles one signal.
func (l listener) DeliverSignal(_, _ string, signal *dbus.Signal) { l.c.handle(signal) }

// Terminate is called once, when the connection ends.
func (l listener) Terminate() { l.c.disconnected() }

// disconnected ends every watcher and wait.
func (c *Client) disconnected() {
	c.mu.Lock()
	err := fmt.Errorf("%w: it was lost", ErrNoBus)
	if c.closed {
		err = nil
	}
	c.mu.Unlock()
	close(c.ended)
	for _, w := range c.watching() {
		w.end(err)
	}
}

func (c *Client) handle(signal *dbus.Signal) {
	if signal.Name == nameOwnerChanged && signal.Sender == driver {
		var name, old, owner string
		if dbus.Store(signal.Body, &name, &old, &owner) == nil && name == BusName {
			c.ownerChanged(signal.Sequence, owner)
		}
		return
	}
	c.mu.Lock()
	owner := c.broker.owner
	c.mu.Unlock()
	if owner == "" || signal.Sender != owner {
		return
	}
	if event := decodeEvent(signal); event != nil {
		for _, w := range c.watching() {
			w.deliver(event)
		}
		if change, ok := event.(SessionChanged); ok {
			c.note(signal.Path, change)
		}
	}
	c.wake(signal.Path)
	if signal.Name == ManagerInterface+".SessionAdded" && len(signal.Body) == 2 {
		path, _ := signal.Body[1].(dbus.ObjectPath)
		c.wake(path) // a session that the broker, started again, knows again
	}
}

func (c *Client) ownerChanged(seq dbus.Sequence, owner string) {
	c.mu.Lock()
	if seq < c.broker.seq {
		c.mu.Unlock()
		return // the reply to GetNameOwner was later and has said so already
	}
	before := c.broker
	c.broker = broker{owner: owner, seq: seq, seen: before.seen || owner != "", since: time.Now()}
	c.mu.Unlock()
	for _, w := range c.watching() {
		if before.owner != "" {
			w.deliver(BrokerGone{})
		}
		if owner != "" {
			w.deliver(BrokerBack{})
			w.register()
		}
	}
	c.wake("")
}

func (c *Client) watching() []*Watcher {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*Watcher, 0, len(c.watchers))
	for w := range c.watchers {
		list = append(list, w)
	}
	return list
}

// waiter is one Session.Wait: a hint that it should look again, and what was
// said of the session meanwhile, in case there is nothing to look at any more.
type waiter struct {
	path dbus.ObjectPath
	hint chan struct{} // holds one, which stands for any number
	last SessionChanged
	open bool // it was, at some time
}

func (c *Client) wait(path dbus.ObjectPath) (w *waiter, done func()) {
	w = &waiter{path: path, hint: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters[w] = struct{}{}
	return w, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiters, w)
	}
}

// note keeps what was said of a session for those who wait for it.
func (c *Client) note(path dbus.ObjectPath, change SessionChanged) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters {
		if w.path == path {
			w.last = change
			w.open = w.open || change.State == StateOpen
		}
	}
}

// noted is what note kept; ok is false if that is no end.
func (c *Client) noted(w *waiter) (p Properties, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p = Properties{ID: w.last.ID, State: w.last.State, PAMResult: w.last.PAMResult, ExitStatus: -1}
	if w.open {
		p.OpenedAt = time.Now() // any time will do
	}
	return p, p.Ended()
}

// wake hints those who wait for the session at path, or everybody.
func (c *Client) wake(path dbus.ObjectPath) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters {
		if path != "" && path != w.path {
			continue
		}
		select {
		case w.hint <- struct{}{}:
		default:
		}
	}
}

// sessionNumber is the number in the path of a session; 0 when it is none.
func sessionNumber(path dbus.ObjectPath) uint64 {
	digits, ok := strings.CutPrefix(string(path), SessionPrefix)
	if !ok {
		return 0
	}
	id, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0
	}
	return id
}
