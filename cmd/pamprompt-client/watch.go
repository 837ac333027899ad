// SPDX-License-Identifier: Apache-2.0

package main

// watch writes one line an event to standard output until a signal ends it,
// and nothing but errors to standard error. It does not use the terminal.
// Without --prompts it is no agent, so that nobody takes it for somebody who
// answers; then it sees no prompt.

import (
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
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return t.watch(cmd, prompts) },
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
	w, err := client.Watch(ctx, api.WatchOptions{Agent: prompts})
	if err != nil {
		return err
	}
	for e := range w.Events() {
		if err := t.event(e); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return w.Err()
}

// event writes one event.
func (t *tool) event(e api.Event) error {
	name, human := eventText(e)
	return t.out.line(event{name, e}, time.Now().Format(time.TimeOnly)+" "+cleanLine(human))
}

// eventText is the name of an event and its line for people.
func eventText(e api.Event) (name, human string) {
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
	}
	return "unknown", fmt.Sprintf("%T", e)
}
