// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api/transport"
)

// askMember is the one member whose reply brings a descriptor.
const askMember = "Ask"

// maxAsks is how many calls of Ask may be unanswered at a time. A bus keeps at most 64
// descriptors for a connection, and drops what goes beyond.
const maxAsks = 32

// descriptors keeps those that come with the replies that are waited for, by the serial
// of the call. All others are closed as they come.
type descriptors struct {
	slots chan struct{} // one for each call

	mu     sync.Mutex
	wanted map[uint32][]int
}

func newDescriptors() *descriptors {
	return &descriptors{slots: make(chan struct{}, maxAsks), wanted: make(map[uint32][]int)}
}

// expect is called with the serial of a call before that is sent.
func (d *descriptors) expect(serial uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted[serial] = nil
}

// take hands over what came with the reply; the caller closes it.
func (d *descriptors) take(serial uint32) []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	fds := d.wanted[serial]
	delete(d.wanted, serial)
	return fds
}

// keep returns false for descriptors that nobody waits for.
func (d *descriptors) keep(serial uint32, fds []int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	earlier, waits := d.wanted[serial]
	if waits && len(earlier) == 0 {
		d.wanted[serial] = fds
		return true
	}
	return false
}

// incoming runs in godbus's reader, once for every message. Only what the broker
// replies may bring descriptors.
func (c *Client) incoming(m *dbus.Message) {
	fds := c.stream.Claim()
	if len(fds) == 0 {
		return
	}
	serial, _ := m.Headers[dbus.FieldReplySerial].Value().(uint32)
	sender, _ := m.Headers[dbus.FieldSender].Value().(string)
	if m.Type != dbus.TypeMethodReply || sender != c.owner() || !c.descriptors.keep(serial, fds) {
		closeAll(fds)
	}
}

// owner is the unique name of the broker; "" while there is none.
func (c *Client) owner() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broker.owner
}

// callForDescriptors sends a call whose reply brings descriptors, which the caller
// closes.
func (c *Client) callForDescriptors(ctx context.Context, m *dbus.Message) (*dbus.Call, []int, error) {
	select {
	case c.descriptors.slots <- struct{}{}:
		defer func() { <-c.descriptors.slots }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if err := c.slot(ctx); err != nil {
		return nil, nil, err
	}
	defer func() { <-c.slots }()
	call := <-c.conn.SendWithContext(ctx, m, nil).Done
	fds := c.descriptors.take(m.Serial())
	if call.Err != nil {
		closeAll(fds)
		return nil, nil, call.Err
	}
	return call, fds, nil
}

func closeAll(fds []int) { transport.CloseAll(fds) }
