// SPDX-License-Identifier: Apache-2.0

package main

// What a shell offers at the Tab key: `pamprompt-client completion SHELL` writes the
// script, which asks us for words as they are typed. Sessions and prompts are those of
// the moment. Nobody is asked for a password, nothing goes to standard error, and it
// takes two seconds at most: somebody waits with a half-typed line.

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
)

const (
	completionTime = 2 * time.Second
	// maxWords bounds how many words are offered, of users above all.
	maxWords = 1000
)

// words are what may stand at a place, a description behind each after a tab.
type words func(context.Context) []string

// offer makes a completion of one argument after the other; "" where there are no more.
func offer(places ...words) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(places) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		var fit []cobra.Completion
		for _, word := range places[len(args)](ctx) {
			if strings.HasPrefix(word, typed) && len(fit) < maxWords {
				fit = append(fit, word)
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// offerFlag makes a completion of a flag's value.
func offerFlag(cmd *cobra.Command, flag string, w words) {
	one := offer(w)
	complete := func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return one(cmd, nil, typed)
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // there is no such flag
	}
}

// fixed are words that are always the same.
func fixed(list ...string) words { return func(context.Context) []string { return list } }

// live are words that the broker is asked for; none when it cannot be.
func live(ask func(context.Context, *api.Client) []string) words {
	return func(ctx context.Context) []string {
		client, err := api.Connect(ctx)
		if err != nil {
			return nil
		}
		defer func() { _ = client.Close() }()
		return ask(ctx, client)
	}
}

// liveSessions are the numbers of the sessions that the caller may see.
var liveSessions = live(func(ctx context.Context, client *api.Client) []string {
	sessions, err := client.Sessions(ctx)
	if err != nil {
		return nil
	}
	list := make([]string, 0, len(sessions))
	for _, s := range sessions {
		list = append(list, described(strconv.FormatUint(s.ID, 10), s.State+", "+s.Service+" for "+s.User))
	}
	return list
})

// livePrompts are the numbers of the prompts that the caller may answer.
var livePrompts = live(func(ctx context.Context, client *api.Client) []string {
	prompts, err := client.Prompts(ctx)
	if err != nil {
		return nil
	}
	list := make([]string, 0, len(prompts))
	for _, p := range prompts {
		text := strings.TrimSpace(p.Message)
		if p.User != "" {
			text = p.User + ": " + text
		}
		list = append(list, described(strconv.FormatUint(p.ID, 10), text))
	}
	return list
})

// described is a word with its description, which comes from others: a shell writes it
// to the terminal as it is.
func described(word, text string) string {
	return cobra.CompletionWithDesc(word, cleanLine(text))
}

// services are the names of PAM's stacks.
func services(context.Context) []string {
	var names []string
	for _, dir := range []string{"/etc/pam.d", "/usr/lib/pam.d"} {
		entries, _ := os.ReadDir(dir) // sorted
		for _, e := range entries {
			if e.Type().IsRegular() && typable(e.Name()) && filepath.Ext(e.Name()) == "" {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// users are those whom the name service enumerates, with what their entry says of them.
func users(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "getent", "passwd").Output()
	if err != nil {
		return nil
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Split(line, ":"); len(fields) == 7 && typable(fields[0]) {
			gecos, _, _ := strings.Cut(fields[4], ",")
			list = append(list, described(fields[0], gecos))
		}
	}
	return list
}

// typable is whether a shell takes a name as it is.
func typable(name string) bool {
	return name != "" && strings.IndexFunc(name, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-", r)
	}) < 0 && name[0] != '-'
}
