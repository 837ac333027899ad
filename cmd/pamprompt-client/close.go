// SPDX-License-Identifier: Apache-2.0

package main

// close writes nothing when it worked, with --json the session's number and
// its last state. It does not use the terminal.

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
)

// unwind is how long we wait for PAM to unwind: longer than the broker does.
const unwind = 30 * time.Second

func (t *tool) closeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "close SESSION",
		Short: "Close a session, whatever its state, and wait until PAM has unwound",
		Args:  cobra.ExactArgs(1),
		RunE:  t.about("session", t.close),

		ValidArgsFunction: offer(liveSessions),
	}
}

func (t *tool) close(ctx context.Context, client *api.Client, id uint64) error {
	if err := closeSession(ctx, client.Session(id)); err != nil {
		return err
	}
	return t.done(api.SessionChanged{ID: id, State: api.StateClosed})
}

// closeSession closes a session and waits for its end.
func closeSession(ctx context.Context, s *api.Session) error {
	ctx, cancel := context.WithTimeout(ctx, unwind)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		return err
	}
	err := s.Wait(ctx, api.StateClosed)
	if errors.Is(err, api.NoSuchSession) {
		return nil // its owner has left since, so that it is forgotten already
	}
	return err
}
