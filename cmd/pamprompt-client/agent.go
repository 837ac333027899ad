// SPDX-License-Identifier: Apache-2.0

package main

// agent asks on the terminal: who asks and why, the module's messages, the
// module's own prompt; one prompt after another. A prompt that was withdrawn
// while it is typed is erased and a line says why. Ctrl-C cancels a prompt; a
// second one, or Ctrl-D on an empty line, leaves. When the bus ends, the prompt is
// erased too, and the agent comes back with the bus; what is typed meanwhile is
// dropped, and Ctrl-C and Ctrl-D leave. Standard error gets errors, and a line for
// each end and return of the bus; with --json, standard output gets the events that
// the agent saw.

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
			"Ctrl-C cancels a prompt; a second Ctrl-C, or Ctrl-D on an empty line, leaves.\n" +
			"When the bus ends or is restarted, it connects again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return t.agent(cmd) },
	}
}

// answering is one run of agent.
type answering struct {
	*tool
	asker      *asker
	link       *link
	back       chan renewal   // what becomes of a link whose bus has ended
	interrupts chan os.Signal // Ctrl-C
	cancelled  bool           // by the last key
}

type renewal struct {
	link *link
	err  error
}

func (t *tool) agent(cmd *cobra.Command) error {
	a := &answering{tool: t, back: make(chan renewal, 1), interrupts: make(chan os.Signal, 8)}
	signal.Notify(a.interrupts, interrupt)
	defer signal.Stop(a.interrupts)
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
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	if a.link, err = newLink(serving, client, api.WatchOptions{Agent: true}); err != nil {
		return err
	}
	a.asker = newAsker(client, term)
	a.asker.agent, a.asker.resting = true, true
	defer a.asker.stop()
	a.asker.say("waiting for prompts; Ctrl-C cancels one, Ctrl-D leaves")
	err = a.serve(serving)
	if errors.Is(err, errEndOfInput) || ctx.Err() != nil {
		return nil
	}
	return err
}

// serve asks until the user leaves, with errEndOfInput.
func (a *answering) serve(ctx context.Context) error {
	for {
		err := a.asker.next(ctx)
		if err != nil {
			return err
		}
		select {
		case e, ok := <-a.link.events():
			if !ok {
				err = a.lose(ctx)
			} else if err = a.report(e); err == nil {
				a.asker.handle(e)
			}
		case r := <-a.back:
			err = a.resume(r)
		case result := <-a.asker.done:
			a.cancelled = a.cancelled && result != nil
			err = a.asker.finish(result)
		case <-a.interrupts:
			err = a.interrupt(ctx)
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// interrupt is Ctrl-C.
func (a *answering) interrupt(ctx context.Context) error {
	if !a.asker.asking() || a.cancelled && !a.asker.term.touched() {
		return errEndOfInput
	}
	a.cancelled = true
	_, err := a.asker.cancel(ctx)
	if errors.Is(err, api.ErrNoBroker) || errors.Is(err, api.ErrNoBus) {
		a.asker.now.why = "there is nobody to cancel it" // and it is asked again if it still waits when there is
		return nil
	}
	return err
}

// lose is the end of the bus: it takes the prompt from the terminal, and has another
// bus looked for.
func (a *answering) lose(ctx context.Context) error {
	if err := a.link.ended(); err != nil {
		return err
	}
	if err := a.asker.drop("the connection to the bus was lost"); err != nil {
		return err
	}
	go func(lost *link) {
		l, err := lost.renewed(ctx)
		a.back <- renewal{l, err}
	}(a.link)
	a.sayGone()
	return a.report(busGone{})
}

// resume goes on with another bus.
func (a *answering) resume(r renewal) error {
	if r.err != nil {
		return r.err
	}
	a.link, a.asker.client = r.link, r.link.client
	a.sayBack()
	return a.report(busBack{})
}

// report writes an event with --json.
func (t *tool) report(e any) error {
	if !t.out.json {
		return nil
	}
	return t.event(e)
}
