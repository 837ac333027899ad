// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"sync"

	"github.com/godbus/dbus/v5"
)

// maxQueued is how much may wait to be sent, in bytes, before WaitRoom waits.
const maxQueued = 8 << 20

// outbox sends messages one after the other from a goroutine of its own:
// writing to the bus can block, and neither the owner of the broker's state
// nor the reader of the bus may.
type outbox struct {
	mu     sync.Mutex
	queue  []*dbus.Message
	size   int
	wakeup chan struct{}
	room   chan struct{} // closed when what was queued has been sent; nil when nobody waits
}

func (o *outbox) init() { o.wakeup = make(chan struct{}, 1) }

func (o *outbox) put(m *dbus.Message) {
	o.mu.Lock()
	o.queue = append(o.queue, m)
	o.size += Size(m.Body...)
	o.mu.Unlock()
	select {
	case o.wakeup <- struct{}{}:
	default:
	}
}

func (o *outbox) waitRoom(ctx context.Context) {
	for {
		o.mu.Lock()
		if o.size <= maxQueued {
			o.mu.Unlock()
			return
		}
		if o.room == nil {
			o.room = make(chan struct{})
		}
		room := o.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return
		}
	}
}

func (o *outbox) run(conn *dbus.Conn) {
	for {
		select {
		case <-o.wakeup:
		case <-conn.Context().Done():
			return
		}
		o.mu.Lock()
		queue, size := o.queue, o.size
		o.queue = nil
		o.mu.Unlock()
		for _, m := range queue {
			conn.Send(m, nil)
		}
		o.sent(size)
	}
}

func (o *outbox) sent(size int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= size
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
}

// Size is roughly how many bytes values take on the wire, rather more than
// less; of the types that we send.
func Size(values ...any) int {
	n := 0
	for _, value := range values {
		switch v := value.(type) {
		case string:
			n += len(v) + 8
		case dbus.ObjectPath:
			n += len(v) + 8
		case []string:
			for _, s := range v {
				n += len(s) + 8
			}
		case dbus.Variant:
			n += 8 + Size(v.Value())
		case map[string]dbus.Variant:
			for name, one := range v {
				n += len(name) + 16 + Size(one)
			}
		case interface{ Size() int }:
			n += v.Size()
		}
		n += 16
	}
	return n
}
