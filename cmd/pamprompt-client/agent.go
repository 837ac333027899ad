// SPDX-License-Identifier: Apache-2.0

package main

// agent asks on the terminal: who asks and why, the module's messages, the
// module's own prompt; one prompt after another. A prompt that was withdrawn
// while it is typed is erased and a line says why. Ctrl-C cancels a prompt; a
// second one, or Ctrl-D on an empty line, leaves. Standard output and standard
// error get nothing but errors; with --json, standard output gets the events
// that the agent saw.

import (
	"context"
	"errors"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
)

func (t *tool) agentCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "agent",
		Short: "Answer prompts on this terminal, as they come",
		Long: "agent answers on this terminal every prompt that you may answer, as they come.\n" +
			"Ctrl-C cancels a prompt; a second Ctrl-C, or Ctrl-D on an empty line, leaves.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return t.agent(cmd) },
	}
}

func (t *tool) agent(cmd *cobra.Command) error {
	interrupts := make(chan os.Signal, 8)
	signal.Notify(interrupts, interrupt)
	defer signal.Stop(interrupts)
	ctx, client, stop, err := t.connect(cmd)
	if err != nil {
		return err
	}
	defer stop()
	term, err := openTerminal()
	if err != nil {
		return err
	}
	defer term.Close()
	if err := term.engage(); err != nil {
		return err
	}
	w, err := client.Watch(ctx, api.WatchOptions{Agent: true})
	if err != nil {
		return err
	}
	a := newAsker(client, term)
	a.agent, a.resting = true, true
	defer a.stop()
	a.say("waiting for prompts; Ctrl-C cancels one, Ctrl-D leaves")
	err = t.serve(ctx, a, w, interrupts)
	if errors.Is(err, errEndOfInput) || ctx.Err() != nil {
		return nil
	}
	return err
}

// serve asks until the user leaves, with errEndOfInput.
func (t *tool) serve(ctx context.Context, a *asker, w *api.Watcher, interrupts <-chan os.Signal) error {
	cancelled := false // by the last key
	for {
		if err := a.next(ctx); err != nil {
			return err
		}
		select {
		case e, ok := <-w.Events():
			if !ok {
				return w.Err()
			}
			if err := t.report(e); err != nil {
				return err
			}
			a.handle(e)
		case result := <-a.done:
			cancelled = cancelled && result != nil
			if err := a.finish(result); err != nil {
				return err
			}
		case <-interrupts:
			if !a.asking() || cancelled && !a.term.touched() {
				return errEndOfInput
			}
			cancelled = true
			if _, err := a.cancel(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// report writes an event with --json.
func (t *tool) report(e api.Event) error {
	if !t.out.json {
		return nil
	}
	return t.event(e)
}
