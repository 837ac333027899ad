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
	wakeup chan struct{}

	mu       sync.Mutex
	queue    []*dbus.Message
	size     int           // of what is not sent yet
	queued   uint64        // how many there have been,
	sent     uint64        // and how many of them are on the bus
	progress chan struct{} // closed when sent grows, and replaced
}

func (o *outbox) init() {
	o.wakeup, o.progress = make(chan struct{}, 1), make(chan struct{})
}

func (o *outbox) put(m *dbus.Message) {
	o.mu.Lock()
	o.queue = append(o.queue, m)
	o.size += Size(m.Body...)
	o.queued++
	o.mu.Unlock()
	select {
	case o.wakeup <- struct{}{}:
	default:
	}
}

// room waits while more than maxQueued is not sent.
func (o *outbox) room(ctx context.Context) {
	o.wait(ctx, func() bool { return o.size <= maxQueued })
}

// crowded is whether room would wait.
func (o *outbox) crowded() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size > maxQueued
}

// flush waits until all that was put before is sent.
func (o *outbox) flush(ctx context.Context) {
	o.mu.Lock()
	before := o.queued
	o.mu.Unlock()
	o.wait(ctx, func() bool { return o.sent >= before })
}

func (o *outbox) wait(ctx context.Context, enough func() bool) {
	for {
		o.mu.Lock()
		done, progress := enough(), o.progress
		o.mu.Unlock()
		if done {
			return
		}
		select {
		case <-progress:
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
		o.mu.Lock()
		o.size -= size
		o.sent += uint64(len(queue))
		close(o.progress)
		o.progress = make(chan struct{})
		o.mu.Unlock()
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
