// SPDX-License-Identifier: Apache-2.0

package main

// list writes the sessions that the caller may see to standard output, and
// nothing but errors to standard error. It does not use the terminal.

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
)

func (t *tool) listCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List sessions",
		Args:  cobra.NoArgs,

		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return t.list(cmd) },
	}
	t.legendFlag(cmd)
	return cmd
}

func (t *tool) list(cmd *cobra.Command) error {
	ctx, client, stop, err := t.connect(cmd, interrupt)
	if err != nil {
		return err
	}
	defer stop()
	sessions, err := client.Sessions(ctx)
	if err != nil {
		return unheard(err)
	}
	return table(t.out, "SESSION STATE SERVICE USER OWNER", sessions, func(s api.SessionInfo) []string {
		return []string{strconv.FormatUint(s.ID, 10), s.State, s.Service, s.User, strconv.FormatUint(uint64(s.OwnerUID), 10)}
	})
}
