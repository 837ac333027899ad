// SPDX-License-Identifier: Apache-2.0

package main

// show writes one session to standard output: a property a line, then its PAM
// environment. It writes nothing but errors to standard error and does not use
// the terminal.

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
)

func (t *tool) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show SESSION",
		Short: "Show a session and its PAM environment",
		Args:  cobra.ExactArgs(1),
		RunE:  t.about("session", t.show),

		ValidArgsFunction: offer(liveSessions),
	}
}

func (t *tool) show(ctx context.Context, client *api.Client, id uint64) error {
	p, err := client.Session(id).Properties(ctx)
	if err != nil {
		return err
	}
	return t.out.line(p, describe(p))
}

// describe is a session for people.
func describe(p api.Properties) string {
	var rows [][]string
	line := func(name string, value any) {
		rows = append(rows, []string{name + ":", cleanLine(fmt.Sprint(value))})
	}
	line("session", p.ID)
	line("service", p.Service)
	if len(p.Alternatives) > 0 {
		line("alternatives", strings.Join(p.Alternatives, ", "))
		if p.UsedService != "" {
			line("opened by", p.UsedService)
		}
	}
	line("user", p.User)
	line("uid", uid(p.UID))
	line("owner", fmt.Sprintf("uid %d, pid %d", p.OwnerUID, p.OwnerPID))
	line("state", p.State)
	if p.PAMResult != 0 || p.ResultText != "" {
		line("result", strings.TrimSpace(fmt.Sprintf("%s (PAM %d)", p.ResultText, p.PAMResult)))
	}
	if !p.OpenedAt.IsZero() {
		line("opened", p.OpenedAt.Format(time.RFC3339))
	}
	line("linger", p.Linger)
	if p.Conversation {
		line("conversation", "of a program that runs PAM itself")
	}
	for _, entry := range p.Environment {
		line("environment", entry)
	}
	return strings.TrimSuffix(columns(rows), "\n")
}

func uid(n *uint32) string {
	if n == nil {
		return "unknown"
	}
	return strconv.FormatUint(uint64(*n), 10)
}
