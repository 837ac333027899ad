// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api/transport"
)

// maxIncoming bounds a message, in bytes. The longest that we ask for is a list
// of thousands of prompts.
const maxIncoming = 32 << 20

// Client is a connection to the broker. Its methods may be called from several
// goroutines.
type Client struct {
	address string // of the bus
	uid     uint32 // whose bus it is

	conn   *dbus.Conn
	stream *transport.Stream
	ended  chan struct{}  // closed when the connection is
	behind sync.WaitGroup // calls that nobody waits for
	slots  chan struct{}  // one for each call that is not answered yet

	descriptors *descriptors

	interactive atomic.Bool // polkit may ask somebody for a password

	agents struct { // held across calls, so that they reach the broker in order
		sync.Mutex
		n int
	}

	mu       sync.Mutex
	closed   bool // by Close
	broker   broker
	watchers map[*Watcher]struct{}
	waiters  map[*waiter]struct{}
}

// Connect connects to the broker on the system bus, or on the bus that
// DBUS_SYSTEM_BUS_ADDRESS names. It succeeds without a broker, which the bus
// may start later. ctx bounds only Connect itself. The caller closes the
// Client.
func Connect(ctx context.Context) (*Client, error) {
	return Dial(ctx, transport.SystemAddress())
}

// Dial is Connect for the bus at a D-Bus address list. Every Client has a
// connection of its own, since a connection owns sessions, and makes it
// itself, since godbus alone is no match for what other users may send.
func Dial(ctx context.Context, address string) (*Client, error) {
	return dial(ctx, address, nil)
}

// dial is Dial, for a bus of that user if uid is not nil.
func dial(ctx context.Context, address string, uid *uint32) (*Client, error) {
	s, err := transport.Dial(ctx, address, transport.Options{MaxMessage: maxIncoming, Descriptors: true})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	whose, err := s.PeerUID()
	if err == nil && uid != nil && whose != *uid {
		err = fmt.Errorf("the bus at %s is one of uid %d now, and was one of uid %d: it is not spoken to", address, whose, *uid)
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	c := &Client{
		address: address, uid: whose,
		stream: s, ended: make(chan struct{}), slots: make(chan struct{}, maxCalls), descriptors: newDescriptors(),
		watchers: map[*Watcher]struct{}{}, waiters: map[*waiter]struct{}{},
	}
	c.conn, err = dbus.NewConn(s, dbus.WithSignalHandler(listener{c}), dbus.WithOutgoingInterceptor(c.outgoing), dbus.WithIncomingInterceptor(c.incoming))
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	err = c.introduce(ctx)
	if !stop() {
		err = fmt.Errorf("connect to the bus: %w", ctx.Err())
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// introduce makes the connection usable.
func (c *Client) introduce(ctx context.Context) error {
	if err := c.conn.Auth(nil); err != nil {
		return fmt.Errorf("%w: authenticate: %w", ErrNoBus, err)
	}
	if err := c.conn.Hello(); err != nil {
		return fmt.Errorf("%w: say hello: %w", ErrNoBus, err)
	}
	return c.listen(ctx)
}

// AllowInteraction says whether polkit may ask somebody for a password before the
// broker does what is called from now on (ALLOW_INTERACTIVE_AUTHORIZATION of the
// D-Bus Specification). Such a call may take two minutes. At first it may not.
func (c *Client) AllowInteraction(allowed bool) { c.interactive.Store(allowed) }

// outgoing sees each message before it is sent. The flag is set here, since
// godbus 5.2.4 does not pass it on from a call.
func (c *Client) outgoing(m *dbus.Message) {
	if m.Type == dbus.TypeMethodCall && m.Headers[dbus.FieldDestination].Value() == BusName && c.interactive.Load() {
		m.Flags |= dbus.FlagAllowInteractiveAuthorization
	}
	if m.Type == dbus.TypeMethodCall && m.Headers[dbus.FieldMember].Value() == askMember {
		c.descriptors.expect(m.Serial())
	}
	c.stream.Outgoing(m)
}

// Close ends the Client's watchers, waits and connection, and with it every
// session that was opened without Linger. It returns when no goroutine of the
// Client is left.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	err := c.conn.Close()
	<-c.ended
	c.behind.Wait()
	return err
}

// Done is closed when the connection has ended: by Close, or with the bus.
func (c *Client) Done() <-chan struct{} { return c.ended }

// spawn runs f in a goroutine that Close waits for. It does nothing once the
// Client is closed.
func (c *Client) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.behind.Go(f)
	}
}
