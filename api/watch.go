// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/godbus/dbus/v5"
)

// ErrBehind ends a Watcher whose events were not read as fast as they came.
// Nothing is dropped silently, so the reader starts again with a new Watcher.
var ErrBehind = errors.New("the watcher's queue is full: its events are not being read")

// WatchOptions of Client.Watch.
type WatchOptions struct {
	// Agent registers the connection as an agent: it is told of every prompt
	// that it may answer. Without it a Watcher is told of the prompts of
	// sessions that the Client opened with Options.Agent, and of what is told
	// to all: sessions and their states.
	Agent bool
	// Queue is how many events wait for a reader before the Watcher ends with
	// ErrBehind; 0 means 4096.
	Queue int
}

const defaultQueue = 4096

// Watcher tells what happens at the broker, in order. Each prompt is told
// once, until the broker is started again. It ends, and closes its channel,
// when its context or its Client ends, with Close, and on the errors of Err.
type Watcher struct {
	client *Client
	agent  bool
	events chan Event
	over   context.Context // ends with the Watcher
	cancel context.CancelFunc

	mu      sync.Mutex
	ended   bool
	err     error
	pending map[uint64]struct{} // prompts that were told and not closed
}

// Watch starts to watch. With Agent it returns once the broker has registered
// the connection; what is pending by then is among the first events.
func (c *Client) Watch(ctx context.Context, options WatchOptions) (*Watcher, error) {
	if options.Queue <= 0 {
		options.Queue = defaultQueue
	}
	w := &Watcher{
		client: c, agent: options.Agent, events: make(chan Event, options.Queue), pending: map[uint64]struct{}{},
	}
	w.over, w.cancel = context.WithCancel(ctx)
	if !c.addWatcher(w) {
		w.cancel()
		return nil, fmt.Errorf("%w: it was closed", ErrNoBus)
	}
	if w.agent {
		if err := c.registerAgent(w.over, 1); err != nil {
			w.end(nil)
			return nil, err
		}
	}
	context.AfterFunc(w.over, func() { w.end(w.over.Err()) }) // of no effect when w.end cancelled it
	return w, nil
}

// addWatcher is false once the connection has ended: nobody would end the Watcher.
func (c *Client) addWatcher(w *Watcher) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.ended: // disconnected looks for watchers after that
		return false
	default:
	}
	if c.closed {
		return false
	}
	c.watchers[w] = struct{}{}
	return true
}

// Events is where the events come. The channel is closed when the Watcher has
// ended.
func (w *Watcher) Events() <-chan Event { return w.events }

// Err is why the Watcher ended: the error of its context, ErrBehind, ErrNoBus
// when the connection was lost, or what a new broker answered to the agent.
// It is nil after Close, and before the end.
func (w *Watcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Close ends the Watcher. The last one with Agent unregisters the connection,
// and Close returns when it has.
func (w *Watcher) Close() {
	if w.finish(nil) && w.agent {
		w.client.unregisterAgent()
	}
}

// deliver queues an event. It does not block.
func (w *Watcher) deliver(event Event) {
	if !w.queue(event) {
		w.end(ErrBehind)
	}
}

// queue returns false when there is no room.
func (w *Watcher) queue(event Event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return true
	}
	switch e := event.(type) {
	case Prompt:
		if _, told := w.pending[e.ID]; told {
			return true // the broker tells everything again to whoever registers again
		}
		w.pending[e.ID] = struct{}{}
	case PromptClosed:
		delete(w.pending, e.ID)
	case BrokerGone:
		clear(w.pending)
	}
	select {
	case w.events <- event:
		return true
	default:
		return false
	}
}

// end is Close with an error, that does not block.
func (w *Watcher) end(err error) {
	if w.finish(err) && w.agent {
		w.client.spawn(w.client.unregisterAgent)
	}
}

// finish ends the Watcher; false if it has ended before.
func (w *Watcher) finish(err error) bool {
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return false
	}
	w.ended, w.err = true, err
	close(w.events)
	w.mu.Unlock()
	w.cancel()
	w.client.mu.Lock()
	defer w.client.mu.Unlock()
	delete(w.client.watchers, w)
	return true
}

// register tells a broker that has just come of the agent. It must not block,
// since the reader calls it.
func (w *Watcher) register() {
	if !w.agent {
		return
	}
	w.client.spawn(func() {
		err := w.client.registerAgent(w.over, 0)
		if err != nil && !isNoBroker(err) && w.over.Err() == nil {
			w.end(err) // gone again is no error: there will be another BrokerBack
		}
	})
}

// registerAgent calls RegisterAgent, for one more watcher or for none. It
// calls each time, since that makes the broker tell what is pending.
func (c *Client) registerAgent(ctx context.Context, more int) error {
	c.agents.Lock()
	defer c.agents.Unlock()
	c.agents.n += more
	return fault("RegisterAgent", c.manager(ctx, "RegisterAgent", map[string]dbus.Variant{}).Err)
}

// unregisterAgent is called for each watcher that registered, and calls
// UnregisterAgent for the last one.
func (c *Client) unregisterAgent() {
	c.agents.Lock()
	defer c.agents.Unlock()
	if c.agents.n--; c.agents.n > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), abandonedCall)
	defer cancel()
	_ = c.manager(ctx, "UnregisterAgent").Err
}
