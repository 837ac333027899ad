// SPDX-License-Identifier: Apache-2.0

// Agent is an agent for a desktop: it answers prompts with what a program prints that asks
// for a password in a dialog, as ssh-askpass does, and stays through restarts of the
// broker and of the bus:
//
//	agent ssh-askpass
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: agent PROGRAM [ARGUMENT...]")
	}
	if err := secret.ProtectProcess(); err != nil { // it gets passwords
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:]); ctx.Err() == nil {
		log.Fatal(err)
	}
}

// run answers on one bus after the other. That there is none at the start is an error.
func run(ctx context.Context, program []string) error {
	client, err := api.Connect(ctx)
	for err == nil {
		err = serve(ctx, client, program)
		if errors.Is(err, api.ErrNoBus) || errors.Is(err, api.ErrNoBroker) {
			log.Print(err, "; connecting again")
			client, err = client.Redial(ctx)
		}
	}
	return err
}

// serve asks until the bus ends. Then no dialog is left.
func serve(ctx context.Context, client *api.Client, program []string) error {
	w, err := client.Watch(ctx, api.WatchOptions{Agent: true})
	if err != nil {
		return err
	}
	var dialogs sync.WaitGroup
	withdraw := map[uint64]context.CancelFunc{} // of each prompt that waits
	all := func() {
		for _, one := range withdraw {
			one()
		}
		clear(withdraw)
	}
	for event := range w.Events() {
		switch e := event.(type) {
		case api.Prompt:
			asking, cancel := context.WithCancel(ctx)
			withdraw[e.ID] = cancel
			dialogs.Go(func() {
				if err := ask(asking, client, e, program); err != nil && asking.Err() == nil {
					log.Printf("prompt %d: %v", e.ID, err)
				}
			})
		case api.PromptClosed: // somebody else was first, or nobody was in time
			if cancel, asked := withdraw[e.ID]; asked {
				cancel()
				delete(withdraw, e.ID)
			}
		case api.BrokerGone: // what still waits is told again by the next one
			all()
		}
	}
	all()
	dialogs.Wait()
	return w.Err()
}

// ask runs the program, and answers with its output less a newline, unless it fails: then
// the question is left to others.
func ask(ctx context.Context, client *api.Client, p api.Prompt, program []string) error {
	text := p.Message
	if p.Session != 0 {
		text = fmt.Sprintf("%s (%s): %s", p.User, p.Service, p.Message)
	}
	cmd := exec.CommandContext(ctx, program[0], append(program[1:len(program):len(program)], text)...)
	cmd.Stderr = os.Stderr
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	answer, err := secret.Read(output) // into locked memory, not by way of a buffer
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return err
	}
	defer answer.Wipe()
	if err := cmd.Wait(); err != nil {
		return err
	}
	if bytes.HasSuffix(answer.Bytes(), []byte("\n")) {
		answer.Truncate(answer.Len() - 1)
	}
	return client.Answer(ctx, p.ID, answer)
}
