// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/transport"
)

const (
	// patience is for the bus and the broker: a little less than the module's, which
	// hears why, then.
	patience = 9 * time.Second
	// idle is how long we stay when nothing is asked. What a module has told last is
	// seen so long: it may be that somebody has to touch something.
	idle = time.Minute
)

// helper asks for one transaction.
type helper struct {
	module *net.UnixConn
	open   *request // what the module said of it
	client *api.Client
	conv   *api.Conversation // nil when the broker that had it is gone
}

// serve does what the module wants until it goes away, or has wanted nothing for as long
// as we stay: at first for patience, then for idle.
func serve(module *net.UnixConn, patience, idle time.Duration) error {
	h := &helper{module: module}
	defer h.close()
	packet := make([]byte, maxRequest+1)
	stay := patience
	for {
		if err := module.SetReadDeadline(time.Now().Add(stay)); err != nil {
			return err
		}
		n, err := module.Read(packet)
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("hear from the module: %w", err)
		}
		if n > maxRequest {
			return errMalformed
		}
		r, err := parse(packet[:n])
		if err != nil {
			return err
		}
		if (h.open == nil) != (r.kind == requestOpen) {
			return fmt.Errorf("%w: the first one, and only that, says what it is about", errMalformed)
		}
		stay = idle
		if r.kind == requestAsk { // the module waits for the answer, and then says so
			stay += h.open.timeout
		}
		if err := h.do(r); err != nil {
			return err
		}
	}
}

func (h *helper) close() {
	if h.client != nil {
		_ = h.client.Close() // and with it the conversation, since it is ours
		h.client = nil
	}
}

// do does what a request wants and replies. An error ends the helper.
func (h *helper) do(r *request) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind, file, err := h.perform(ctx, r)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the broker has not replied for %v", patience)
	}
	if err != nil {
		return errors.Join(reply(h.module, replyAway, r.number, err.Error(), nil), err)
	}
	if kind == 0 {
		return nil
	}
	if file != nil {
		defer func() { _ = file.Close() }()
	}
	return reply(h.module, kind, r.number, "", file)
}

func (h *helper) perform(ctx context.Context, r *request) (kind byte, file *os.File, err error) {
	switch r.kind {
	case requestOpen:
		h.open = r
		if err = h.connect(ctx, r.again); err != nil {
			return 0, nil, err
		}
		return replyReady, nil, h.converse(ctx, r.again)
	case requestTell:
		return replyTold, nil, h.again(ctx, func() error { return h.conv.Tell(ctx, r.style, valid(r.text)) })
	case requestAsk:
		q := api.Question{Style: r.style}
		if r.style == api.StyleBinary {
			q.Binary = r.text
		} else {
			q.Message = valid(r.text)
		}
		err = h.again(ctx, func() error {
			_, file, err = h.conv.Ask(ctx, q)
			return err
		})
		return replyAsked, file, err
	}
	return 0, nil, nil
}

// connect connects to the bus. It may wait for one to come, where one was.
func (h *helper) connect(ctx context.Context, wait bool) (err error) {
	h.close()
	if h.client, err = api.Connect(ctx); err == nil || !wait || !errors.Is(err, api.ErrNoBus) {
		return err
	}
	if h.client, err = api.ConnectPatiently(ctx); errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: for %v there was none with a broker", api.ErrNoBus, patience)
	}
	return err
}

// converse opens the conversation that everything is asked in. It may wait for a
// broker to come: where the bus starts none, one that was there may be on its way.
func (h *helper) converse(ctx context.Context, wait bool) error {
	o := api.ConversationOptions{Reason: h.open.reason, Timeout: h.open.timeout}
	if os.Geteuid() == 0 { // others may speak for nobody but themselves
		o.PID, o.UID = peer(h.module), h.open.uid
	}
	var back <-chan api.Event
	if wait { // from before the call: it may come in between
		w, err := h.client.Watch(ctx, api.WatchOptions{})
		if err != nil {
			return err
		}
		defer w.Close()
		back = w.Events()
	}
	for {
		var err error
		h.conv, err = h.client.OpenConversation(ctx, h.open.service, h.open.user, o)
		if !wait || !errors.Is(err, api.ErrNoBroker) {
			return err
		}
		if !comes(ctx, back) {
			return err
		}
	}
}

// comes waits for a broker.
func comes(ctx context.Context, events <-chan api.Event) bool {
	for {
		select {
		case e, ok := <-events:
			if _, back := e.(api.BrokerBack); back || !ok {
				return ok
			}
		case <-ctx.Done():
			return false
		}
	}
}

// peer is the process that made the socket: the program that PAM runs in. 0 when that
// is not known.
func peer(c *net.UnixConn) (pid int) {
	cred, err := transport.Credentials(c)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

// again does something with the conversation; once more with another one, when the
// broker that had it is gone, or the bus and with it the broker.
func (h *helper) again(ctx context.Context, do func() error) error {
	err := do()
	switch {
	case errors.Is(err, api.ErrNoBus):
		if err := h.connect(ctx, true); err != nil {
			return err
		}
	case !errors.Is(err, api.ErrNoBroker) && !errors.Is(err, api.NoSuchSession):
		return err
	}
	if err := h.converse(ctx, true); err != nil {
		return err
	}
	return do()
}
