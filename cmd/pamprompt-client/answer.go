// SPDX-License-Identifier: Apache-2.0

package main

// answer asks on the terminal when standard input is one: the module's
// messages and its prompt, without echo unless the prompt is a visible one.
// Otherwise the answer is what standard input holds, less one newline at its
// end; with --stdin all of it; with --fd N what descriptor N holds, less one
// newline. The answer is never taken from an argument or the environment. Nobody is
// asked any longer when the bus ends. It writes nothing when it worked; with --json
// the prompt's number and "answered": true to standard output.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	xterm "golang.org/x/term"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
)

// answerFrom is where the answer comes from.
type answerFrom struct {
	stdin bool
	fd    int // -1: not given
}

func (t *tool) answerCommand() *cobra.Command {
	from := answerFrom{}
	cmd := &cobra.Command{
		Use:   "answer PROMPT",
		Short: "Answer a prompt from the terminal, standard input or a descriptor",
		Long: "answer asks on the terminal, without echo for a secret. When standard input is no terminal,\n" +
			"the answer is what it holds, less one newline at the end.",
		Example: "  pamprompt-client answer 4711\n" +
			"  pass show backup | pamprompt-client answer 4711\n" +
			"  pamprompt-client answer 4711 --fd 3 3<secret",
		Args: onlyThePrompt,
		RunE: t.about("prompt", func(ctx context.Context, client *api.Client, id uint64) error {
			return t.answer(ctx, client, id, from)
		}),
		ValidArgsFunction: offer(livePrompts),
	}
	cmd.Flags().BoolVar(&from.stdin, "stdin", false, "the answer is all of standard input, to the last byte")
	cmd.Flags().IntVar(&from.fd, "fd", -1, "the answer is what this `descriptor` holds, less one newline at the end")
	cmd.MarkFlagsMutuallyExclusive("stdin", "fd")
	return cmd
}

// onlyThePrompt refuses an answer among the arguments, without repeating it.
func onlyThePrompt(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return errors.New("answer takes the prompt's number and nothing else: arguments are for every process to read, " +
			"so the answer comes from the terminal, standard input or --fd. If what you typed was secret, it is not any more")
	}
	return cobra.ExactArgs(1)(nil, args)
}

func (t *tool) answer(ctx context.Context, client *api.Client, id uint64, from answerFrom) error {
	answer, err := from.readWhile(ctx, client, id)
	if err != nil {
		return err
	}
	defer answer.Wipe()
	if err := client.Answer(ctx, id, answer); err != nil {
		return err
	}
	return t.done(struct {
		Prompt   uint64 `json:"prompt"`
		Answered bool   `json:"answered"`
	}{id, true})
}

// readWhile is read, but for no longer than there is a bus to answer on.
func (from answerFrom) readWhile(ctx context.Context, client *api.Client, id uint64) (*secret.Secret, error) {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-client.Done():
			cancel()
		case <-reading.Done():
		}
	}()
	answer, err := from.read(reading, client, id)
	if err != nil && reading.Err() != nil && ctx.Err() == nil {
		err = lostBus{api.ErrNoBus, fmt.Sprintf("prompt %d was not answered", id), "`pamprompt-client prompts` lists what waits when the bus is back"}
	}
	return answer, err
}

// read takes the answer, which the caller wipes.
func (from answerFrom) read(ctx context.Context, client *api.Client, id uint64) (*secret.Secret, error) {
	switch {
	case from.fd >= 0:
		return readDescriptor(ctx, from.fd, true)
	case from.stdin:
		return readDescriptor(ctx, 0, false)
	case !xterm.IsTerminal(0):
		return readDescriptor(ctx, 0, true)
	}
	return readTerminal(ctx, client, id)
}

// readDescriptor reads to the end.
func readDescriptor(ctx context.Context, fd int, strip bool) (*secret.Secret, error) {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		return nil, usageError{fmt.Errorf("descriptor %d is not open", fd)}
	}
	// Reading a pipe cannot be interrupted while the descriptor is blocking,
	// and its flags are shared with whoever passed it.
	result := make(chan error, 1)
	var answer *secret.Secret
	go func() {
		var err error
		answer, err = secret.Read(os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", fd)))
		result <- err
	}()
	select {
	case err := <-result:
		if err != nil {
			return nil, fmt.Errorf("read the answer from descriptor %d: %w", fd, err)
		}
	case <-ctx.Done():
		return nil, errInterrupted
	}
	if strip && bytes.HasSuffix(answer.Bytes(), []byte("\n")) {
		answer.Truncate(answer.Len() - 1)
	}
	return answer, nil
}

// readTerminal looks the prompt up, to show it, and asks.
func readTerminal(ctx context.Context, client *api.Client, id uint64) (*secret.Secret, error) {
	prompts, err := client.Prompts(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range prompts {
		if p.ID == id {
			return askOnce(ctx, p)
		}
	}
	return nil, &api.Error{Code: api.NoSuchPrompt, Text: fmt.Sprintf("no prompt %d waits for an answer of yours", id)}
}

func askOnce(ctx context.Context, p api.Prompt) (*secret.Secret, error) {
	term, err := openTerminal()
	if err != nil {
		return nil, err
	}
	defer term.Close()
	if err := term.engage(); err != nil {
		return nil, err
	}
	term.print(heading(p))
	for _, m := range p.Messages {
		term.print(cleanText(m.Text))
	}
	answer, err := term.read(ctx, cleanText(p.Message), shown(p.Style))
	if errors.Is(err, errWithdrawn) || errors.Is(err, errEndOfInput) {
		return nil, errInterrupted
	}
	return answer, err
}
