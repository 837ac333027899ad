// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/pamprompt/pamprompt/api/transport"
)

// Redial closes the Client and returns another one, for a program that is to go on when
// its bus has ended or was restarted: when something of a Client, or a Watcher, has failed
// with ErrNoBus. It tries until there is a bus at the same address and a broker on it
// that answers, which the bus may have to start, in pauses that grow from a tenth of a
// second to five, and without a limit but ctx, whose error it returns then. It gives up
// where the bus refuses to let us speak to the broker (AccessDenied), and where somebody
// else than before has put a bus there, who could ask for passwords.
//
// Nothing of the old Client's comes along: sessions without Linger are closed,
// conversations are gone, and an agent watches again, whereupon prompts that still wait
// are told again with the same numbers. Session.Wait knows that sessions may take a few
// seconds to be there again. The caller closes the new Client.
func (c *Client) Redial(ctx context.Context) (*Client, error) {
	_ = c.Close()
	next, err := redial(ctx, c.address, &c.uid)
	if err == nil {
		next.AllowInteraction(c.interactive.Load())
	}
	return next, err
}

// ConnectPatiently is Connect for a program that has no Client, and is to wait for a bus
// and a broker as Redial does.
func ConnectPatiently(ctx context.Context) (*Client, error) {
	return redial(ctx, transport.SystemAddress(), nil)
}

func redial(ctx context.Context, address string, uid *uint32) (*Client, error) {
	for p := (pauses{}); ; {
		select { // also before the first try: many may have lost the same bus
		case <-time.After(p.next()):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		c, err := dial(ctx, address, uid)
		if err == nil {
			if err = c.awaitBroker(ctx); err == nil {
				c.expectWorkers()
				return c, nil
			}
			_ = c.Close()
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !errors.Is(err, ErrNoBus) {
			return nil, err
		}
	}
}

// awaitBroker returns when a broker has answered.
func (c *Client) awaitBroker(ctx context.Context) error {
	w, done := c.wait("") // which is woken when somebody takes the broker's name
	defer done()
	for p := (pauses{}); ; {
		_, err := c.Status(ctx)
		if err == nil || errors.Is(err, ErrNoBus) || errors.Is(err, AccessDenied) {
			return err
		}
		select {
		case <-w.hint:
		case <-time.After(p.next()):
		case <-c.ended: // the next call says so
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// expectWorkers has Wait be patient with a session that the broker does not know yet: it
// may be as new as the bus.
func (c *Client) expectWorkers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broker.since.IsZero() {
		c.broker.since = time.Now()
	}
}

// pauses are those between tries.
type pauses struct{ last time.Duration }

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// next is between half of a length, which doubles each time, and the whole of it, so that
// those who have lost something at the same time do not all come back at the same time.
func (p *pauses) next() time.Duration {
	p.last = min(max(2*p.last, firstPause), longestPause)
	return p.last/2 + rand.N(p.last/2)
}
