// SPDX-License-Identifier: Apache-2.0

package main

// watch writes one line an event to standard output until a signal ends it, and
// nothing but errors to standard error, and a line for each end and return of the
// bus. It comes back with the bus: then the events bus-gone and bus-back stand around
// what was missed, and one event, session, for each session that there is now. It does
// not use the terminal. Without --prompts it is no agent, so that nobody takes it for
// somebody who answers; then it sees no prompt.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
)

func (t *tool) watchCommand() *cobra.Command {
	var prompts bool
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Write a line for everything that happens",
		Long: "watch writes a line for everything that happens, until Ctrl-C. When the bus ends or is restarted, it\n" +
			"connects again, says so, and lists the sessions that there are then.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return t.watch(cmd, prompts) },
	}
	cmd.Flags().BoolVar(&prompts, "prompts", false, "register as an agent, to see prompts and the modules' messages too")
	return cmd
}

func (t *tool) watch(cmd *cobra.Command, prompts bool) error {
	ctx, client, stop, err := t.connect(cmd, interrupt)
	if err != nil {
		return err
	}
	defer stop()
	l, err := newLink(ctx, client, api.WatchOptions{Agent: prompts})
	for err == nil {
		if err = t.tell(l); err == nil {
			l, err = t.nextBus(ctx, l)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// tell writes events until the bus ends.
func (t *tool) tell(l *link) error {
	for e := range l.events() {
		if err := t.event(e); err != nil {
			return err
		}
	}
	return l.ended()
}

// nextBus waits for another bus, and writes what can be known of what was missed: the
// sessions that there are.
func (t *tool) nextBus(ctx context.Context, lost *link) (*link, error) {
	t.sayGone()
	if err := t.event(busGone{}); err != nil {
		return nil, err
	}
	l, err := lost.renewed(ctx)
	if err != nil {
		return nil, err
	}
	t.sayBack()
	if err := t.event(busBack{}); err != nil {
		return nil, err
	}
	sessions, err := l.client.Sessions(ctx)
	if errors.Is(err, api.ErrNoBus) || errors.Is(err, api.ErrNoBroker) {
		return l, nil // gone again, which is the next event
	}
	for _, s := range sessions {
		if err = t.event(s); err != nil {
			break
		}
	}
	return l, err
}

// event writes one event.
func (t *tool) event(e any) error {
	name, human := eventText(e)
	return t.out.line(event{name, e}, time.Now().Format(time.TimeOnly)+" "+cleanLine(human))
}

// eventText is the name of an event and its line for people.
func eventText(e any) (name, human string) {
	switch e := e.(type) {
	case api.Prompt:
		if e.Source == api.SourceAskPassword {
			return "prompt", fmt.Sprintf("another program: prompt %d: %s: %s", e.ID, e.Style, strings.TrimSpace(e.Message))
		}
		return "prompt", fmt.Sprintf("session %d: prompt %d: %s: %s", e.Session, e.ID, e.Style, strings.TrimSpace(e.Message))
	case api.PromptClosed:
		return "prompt-closed", fmt.Sprintf("prompt %d: %s", e.ID, e.Outcome)
	case api.Message:
		return "message", fmt.Sprintf("session %d: %s: %s", e.Session, e.Style, e.Text.Text)
	case api.SessionAdded:
		return "session-added", fmt.Sprintf("session %d: added", e.ID)
	case api.SessionRemoved:
		return "session-removed", fmt.Sprintf("session %d: removed", e.ID)
	case api.SessionChanged:
		return "state", fmt.Sprintf("session %d: %s", e.ID, e.State)
	case api.BrokerGone:
		return "broker-gone", "the broker has left the bus"
	case api.BrokerBack:
		return "broker-back", "the broker is on the bus"
	case api.SessionInfo:
		return "session", fmt.Sprintf("session %d: %s, of service %q and user %q", e.ID, e.State, e.Service, e.User)
	case busGone:
		return "bus-gone", "the bus has gone, what happens now is missed"
	case busBack:
		return "bus-back", "the bus is back"
	}
	return "unknown", fmt.Sprintf("%T", e)
}
