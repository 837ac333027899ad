// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pamprompt/pamprompt/api"
)

// link is a connection to the bus, and what is told on it.
type link struct {
	client  *api.Client
	watcher *api.Watcher // nil while there is no bus
	wanted  api.WatchOptions
}

func newLink(ctx context.Context, client *api.Client, wanted api.WatchOptions) (*link, error) {
	w, err := client.Watch(ctx, wanted)
	if err != nil {
		return nil, err
	}
	return &link{client, w, wanted}, nil
}

// events is nil, which gives nothing, while there is no bus.
func (l *link) events() <-chan api.Event {
	if l.watcher == nil {
		return nil
	}
	return l.watcher.Events()
}

// ended is nil when it is the bus that has ended the link, which can then be renewed,
// and else why it is over.
func (l *link) ended() error {
	if err := l.watcher.Err(); !errors.Is(err, api.ErrNoBus) {
		return err
	}
	_ = l.client.Close()
	l.watcher = nil
	return nil
}

// renewed is another link like this one, as soon as there is a bus again with a broker
// on it. It fails when ctx ends, and when no further try can help.
func (l *link) renewed(ctx context.Context) (*link, error) {
	for client := l.client; ; {
		next, err := client.Redial(ctx)
		if err != nil {
			return nil, err
		}
		client = next
		link, err := newLink(ctx, client, l.wanted)
		if err == nil {
			return link, nil
		}
		if ctx.Err() != nil || !errors.Is(err, api.ErrNoBus) && !errors.Is(err, api.ErrNoBroker) {
			_ = client.Close()
			return nil, err
		}
	}
}

// busGone and busBack are events of our own, beside those of api: what happens
// between the two is missed.
type (
	busGone struct{}
	busBack struct{}
)

func (t *tool) sayGone() {
	fmt.Fprintln(t.stderr, "pamprompt-client: the connection to the bus was lost; connecting again as soon as there is a bus")
}

func (t *tool) sayBack() { fmt.Fprintln(t.stderr, "pamprompt-client: connected to the bus again") }
