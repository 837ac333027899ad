// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
)

// opening is a session from OpenSession to its end, whose prompts are asked on
// the terminal, if there is one.
type opening struct {
	*tool
	client     *api.Client
	watcher    *api.Watcher
	interrupts chan os.Signal // nil where a signal ends the context
	asker      *asker         // nil when we do not ask
	decisive   bool           // Ctrl-D at a prompt leaves, whatever a module makes of a question that is cancelled
	session    *api.Session
	state      string              // the session's, as last reported
	prompts    map[uint64]struct{} // of this session
}

// promptFlags are the flags about prompts that open and run have alike.
func promptFlags(cmd *cobra.Command, reason *string, timeout *time.Duration, noAsk *bool) {
	f := cmd.Flags()
	f.StringVar(reason, "reason", "", "`text` shown to whoever answers")
	f.DurationVar(timeout, "timeout", 0, "how long a prompt waits, such as 90s; 0 = for ever")
	f.BoolVar(noAsk, "no-ask", false, "do not ask on the terminal: somebody else answers")
}

// promptness is within which OpenSession has returned if polkit has asked nobody.
const promptness = time.Second

// begin opens the session. ctx bounds that alone. When it ends, a session that is
// about to be there is still waited for, so that it is closed, and not just left.
func (o *opening) begin(ctx context.Context, service, user string, options api.Options) error {
	var err error
	// Watch first: the first prompt may come before the session's number.
	if o.watcher, err = o.client.Watch(context.WithoutCancel(ctx), api.WatchOptions{}); err != nil {
		return err
	}
	calling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(promptness, cancel) })()
	defer o.askForPolkit(calling)()
	o.session, err = o.client.Open(calling, service, user, options)
	return interrupted(ctx, err)
}

// parted says what the end of the bus means for the session, whose owner is the
// connection.
func (o *opening) parted(err error, options api.Options) error {
	if !errors.Is(err, api.ErrNoBus) {
		return err
	}
	const look = "`pamprompt-client list` shows when the bus is back"
	switch {
	case o.session == nil && options.Linger:
		return lostBus{err, "whether the session was begun is not known", look}
	case o.session == nil:
		return lostBus{err, "if the session was begun it is closed, since its owner has left the bus", look}
	case options.Linger:
		return lostBus{err, fmt.Sprintf("session %d lingers and goes on", o.session.ID()),
			fmt.Sprintf("when the bus is back, `pamprompt-client show %d` shows it, and `pamprompt-client agent` answers what it asks", o.session.ID())}
	}
	what := fmt.Sprintf("session %d is closed", o.session.ID())
	if len(options.Command) > 0 || options.LoginShell {
		what += ", and its command ended,"
	}
	return lostBus{err, what + " as soon as there is a broker again, since its owner has left the bus", ""}
}

// close closes the session; a second signal gives up waiting for it.
func (o *opening) close() error {
	ctx, cancel := signal.NotifyContext(context.Background(), interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	if err := closeSession(ctx, o.session); err != nil {
		return err
	}
	return o.reportState(api.StateClosed)
}

// abandon closes a session that we leave with an error, if it is still there.
func (o *opening) abandon(err error) error {
	if p, gone := o.session.Properties(context.Background()); gone == nil && !p.Ended() {
		_ = o.close()
	}
	return err
}

// until asks what PAM asks until the session is in a state. It fails with what
// the session failed with, and with errInterrupted when the user wants to leave.
func (o *opening) until(ctx context.Context, state string) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	reached := make(chan error, 1)
	go func() { reached <- o.session.Wait(waiting, state) }()
	for {
		done, err := o.nextQuestion(ctx)
		if err != nil {
			return err
		}
		select {
		case e, ok := <-o.watcher.Events():
			if !ok {
				return interrupted(ctx, o.watcher.Err())
			}
			err = o.event(e)
		case result := <-done:
			err = o.finish(ctx, result)
		case <-o.interrupts:
			err = o.interrupt(ctx)
		case err := <-reached:
			return o.settle(ctx, state, err)
		}
		if err != nil {
			return interrupted(ctx, err)
		}
	}
}

// interrupted is errInterrupted when a signal ended the context.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// nextQuestion has the terminal read, if there is something to ask.
func (o *opening) nextQuestion(ctx context.Context) (done <-chan error, err error) {
	if o.asker == nil {
		return nil, nil
	}
	return o.asker.done, o.asker.next(ctx)
}

// interrupt is Ctrl-C: it cancels the prompt, or leaves. A prompt may just have
// been answered, and the session be open, without our knowing of the one yet.
func (o *opening) interrupt(ctx context.Context) error {
	if o.asker == nil || !o.asker.asking() {
		return errInterrupted
	}
	waited, err := o.asker.cancel(ctx)
	if err == nil && !waited {
		return errInterrupted
	}
	return err
}

// finish takes up an answer. Ctrl-D cancels a prompt, as nothing of ours can
// go on without it, and leaves when there is none.
func (o *opening) finish(ctx context.Context, result error) error {
	prompt := o.asker.now.prompt
	err := o.asker.finish(result)
	switch {
	case !errors.Is(err, errEndOfInput):
		return err
	case prompt == nil || o.decisive:
		return errInterrupted
	}
	_, err = o.asker.refuse(ctx, prompt.ID)
	return err
}

// settle takes up what came before the state that Wait saw, so that a module's
// last words are not lost.
func (o *opening) settle(ctx context.Context, state string, result error) error {
	for {
		select {
		case e, ok := <-o.watcher.Events():
			if !ok {
				return interrupted(ctx, cmp.Or(result, o.watcher.Err()))
			}
			if err := o.event(e); err != nil {
				return err
			}
			continue
		default:
		}
		if result != nil {
			return interrupted(ctx, result)
		}
		return o.reportState(state)
	}
}

// reportState reports a state that no event has told: after a restart of the
// broker there may be none.
func (o *opening) reportState(state string) error {
	if o.state == state {
		return nil
	}
	o.state = state
	return o.report(api.SessionChanged{ID: o.session.ID(), State: state})
}

// event takes up what concerns the session.
func (o *opening) event(e api.Event) error {
	id := o.session.ID()
	switch e := e.(type) {
	case api.Prompt:
		if e.Session != id {
			return nil
		}
		o.prompts[e.ID] = struct{}{}
		o.tell("prompt %d: %s: %s", e.ID, e.Style, e.Message)
	case api.PromptClosed:
		if _, ours := o.prompts[e.ID]; !ours {
			return nil
		}
		delete(o.prompts, e.ID)
	case api.Message:
		if e.Session != id {
			return nil
		}
		o.tell("%s", e.Text.Text)
	case api.SessionChanged:
		if e.ID != id || e.State == o.state {
			return nil
		}
		o.state = e.State
	case api.SessionAdded, api.SessionRemoved:
		return nil
	}
	if o.asker != nil {
		o.asker.handle(e)
	}
	return o.report(e)
}

// tell says on standard error what there is no terminal for.
func (o *opening) tell(format string, args ...any) {
	if o.asker == nil && !o.out.json {
		fmt.Fprintln(o.stderr, cleanText(fmt.Sprintf(format, args...)))
	}
}
