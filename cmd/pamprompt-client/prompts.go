// SPDX-License-Identifier: Apache-2.0

package main

// prompts writes the prompts that the caller may answer to standard output,
// and nothing but errors to standard error. It does not use the terminal.

import (
	"cmp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
)

func (t *tool) promptsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prompts",
		Short: "List prompts that wait for an answer",
		Args:  cobra.NoArgs,

		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return t.prompts(cmd) },
	}
	t.legendFlag(cmd)
	return cmd
}

func (t *tool) prompts(cmd *cobra.Command) error {
	ctx, client, stop, err := t.connect(cmd, interrupt)
	if err != nil {
		return err
	}
	defer stop()
	prompts, err := client.Prompts(ctx)
	if err != nil {
		return unheard(err)
	}
	return table(t.out, "PROMPT SESSION STYLE SERVICE USER EXPIRES MESSAGE", prompts, func(p api.Prompt) []string {
		session := "-"
		if p.Session != 0 {
			session = strconv.FormatUint(p.Session, 10)
		}
		return []string{strconv.FormatUint(p.ID, 10), session, p.Style,
			cmp.Or(p.Service, "-"), cmp.Or(p.User, "-"), expires(p), p.Message}
	})
}

// expires says in how many seconds a prompt does.
func expires(p api.Prompt) string {
	left, ok := p.Remaining()
	if !ok {
		return "never"
	}
	return left.Round(time.Second).String()
}
