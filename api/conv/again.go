// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"context"
	"errors"
	"math"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/pamprompt/pamprompt/api"
)

const (
	// grace is how much longer than the broker the handler waits for the end of a
	// question.
	grace = 10 * time.Second
	// absence is how long it waits for another broker.
	absence = 30 * time.Second
	// tries is how often it puts a question, to one broker after the other.
	tries = 3
)

// again runs f with the conversation, and with another one when the broker that had it
// has ended: the bus or the administrator starts the next.
func (h *Handler) again(ctx context.Context, f func(*api.Conversation) error) error {
	for try := 1; ; try++ {
		v, err := h.open(ctx)
		if err == nil {
			err = f(v)
		}
		if !errors.Is(err, api.ErrNoBroker) || try == tries {
			return err
		}
		h.forget(v)
		if err := h.awaitBroker(ctx); err != nil {
			return err
		}
	}
}

// forget drops a conversation that has ended, unless there is another one already.
func (h *Handler) forget(v *api.Conversation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conversation == v {
		h.conversation = nil
	}
}

// open is the conversation, opened if there is none.
func (h *Handler) open(ctx context.Context) (*api.Conversation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := ctx.Err(); err != nil || h.conversation != nil {
		return h.conversation, err
	}
	v, err := h.client.OpenConversation(ctx, h.service, h.user, api.ConversationOptions{
		Reason: h.options.Reason, Timeout: h.options.Timeout, AskPassword: h.options.AskPassword, PID: h.options.PID,
		UID: uidOf(h.user),
	})
	if err == nil {
		h.conversation = v
	}
	return v, err
}

// uidOf is the uid of a user, as NSS has it here, for the broker to believe root.
func uidOf(name string) *uint32 {
	if os.Geteuid() != 0 {
		return nil
	}
	account, err := user.Lookup(name)
	if err != nil {
		return nil
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil || uid == math.MaxUint32 {
		return nil
	}
	return new(uint32(uid))
}

// awaitBroker opens the conversation with the next broker, when there is one.
func (h *Handler) awaitBroker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, absence)
	defer cancel()
	w, err := h.client.Watch(ctx, api.WatchOptions{}) // first, so that none is missed
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		v, err := h.open(ctx)
		if !errors.Is(err, api.ErrNoBroker) {
			return err
		}
		h.forget(v)
		for back := false; !back; {
			event, more := <-w.Events()
			if !more {
				return err // no broker
			}
			_, back = event.(api.BrokerBack)
		}
	}
}
