// SPDX-License-Identifier: Apache-2.0

package main

// cancel writes nothing when it worked, with --json the prompt's number and
// "cancelled": true. It does not use the terminal.

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
)

func (t *tool) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel PROMPT",
		Short: "Cancel a prompt: the module that asks is told that there is no answer",
		Args:  cobra.ExactArgs(1),
		RunE:  t.about("prompt", t.cancel),

		ValidArgsFunction: offer(livePrompts),
	}
}

func (t *tool) cancel(ctx context.Context, client *api.Client, id uint64) error {
	if err := client.Cancel(ctx, id); err != nil {
		return err
	}
	return t.done(struct {
		Prompt    uint64 `json:"prompt"`
		Cancelled bool   `json:"cancelled"`
	}{id, true})
}

// done says in JSON that something was done, and nothing to people.
func (t *tool) done(v any) error {
	if !t.out.json {
		return nil
	}
	return t.out.line(v, "")
}
