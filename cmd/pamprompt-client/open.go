// SPDX-License-Identifier: Apache-2.0

package main

// open writes the session's number to standard output once it is open, with
// --json every event of the session as well. Prompts and the modules' messages
// go to the terminal, if there is one and unless --no-ask; messages go to
// standard error otherwise, and with --agent a line for each prompt. Then it
// holds the session, and says nothing, until Ctrl-C, SIGTERM, SIGHUP or Ctrl-D
// on the terminal, or until somebody closes the session. A service manager that
// wants to know (NOTIFY_SOCKET) is told when the session is open.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
)

func (t *tool) openCommand() *cobra.Command {
	var o api.Options
	var noAsk bool
	cmd := &cobra.Command{
		Use:   "open SERVICE USER",
		Short: "Open a PAM session and hold it",
		Long: "open opens a PAM session for USER with the stack of SERVICE (a file of /etc/pam.d), asks on the\n" +
			"terminal what PAM asks, writes the session's number once it is open, and holds it until Ctrl-C,\n" +
			"SIGTERM or Ctrl-D. With --linger it returns at once and the session stays.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return t.open(cmd, args[0], args[1], o, noAsk) },
	}
	f := cmd.Flags()
	f.StringVar(&o.TTY, "tty", "", "PAM_TTY")
	f.StringVar(&o.Rhost, "rhost", "", "PAM_RHOST")
	f.StringVar(&o.Ruser, "ruser", "", "PAM_RUSER")
	f.StringVar(&o.XDisplay, "xdisplay", "", "PAM_XDISPLAY")
	f.StringArrayVar(&o.Environment, "env", nil, "`NAME=value` for the PAM environment; may be given more than once")
	f.StringSliceVar(&o.Phases, "phase", nil, "only this `phase`: authenticate, account, credentials or session; may be given more than once")
	f.StringVar(&o.Reason, "reason", "", "`text` shown to whoever answers")
	f.DurationVar(&o.Timeout, "timeout", 0, "how long a prompt waits, such as 90s; 0 = for ever")
	f.Uint32Var(&o.Attempts, "attempts", 0, "how often to ask again after a wrong answer (default 1: never)")
	f.BoolVar(&o.Linger, "linger", false, "leave the session open when we return")
	f.BoolVar(&o.Silent, "silent", false, "PAM_SILENT: the modules say nothing")
	f.StringVar(&o.Locale, "locale", "", "`locale` of the modules' texts, such as de_DE.UTF-8")
	f.StringVar(&o.AskPassword, "ask-password", "", "ask systemd's password agents too: `when`, yes (the default), no, or\n"+
		"fallback for only while no agent on D-Bus may answer")
	f.BoolVar(&o.Agent, "agent", false, "be told of the session's prompts without a terminal too: a line each")
	f.BoolVar(&noAsk, "no-ask", false, "do not ask on the terminal: somebody else answers")
	return cmd
}

// opening is one run of open.
type opening struct {
	*tool
	client     *api.Client
	watcher    *api.Watcher
	interrupts chan os.Signal
	asker      *asker // nil when we do not ask
	session    *api.Session
	state      string              // the session's, as last reported
	prompts    map[uint64]struct{} // of this session
}

func (t *tool) open(cmd *cobra.Command, service, user string, options api.Options, noAsk bool) error {
	o := &opening{tool: t, interrupts: make(chan os.Signal, 8), prompts: map[uint64]struct{}{}}
	signal.Notify(o.interrupts, interrupt)
	defer signal.Stop(o.interrupts)
	ctx, client, stop, err := t.connect(cmd)
	if err != nil {
		return err
	}
	defer stop()
	client.AllowInteraction(!o.tool.noPassword)
	o.client = client
	if !noAsk {
		if term, err := openTerminal(); err == nil {
			defer term.Close()
			o.asker = newAsker(client, term)
			defer o.asker.stop()
			options.Agent = true
		}
	}
	// Watch first: the first prompt may come before the session's number.
	if o.watcher, err = client.Watch(ctx, api.WatchOptions{}); err != nil {
		return err
	}
	if o.session, err = client.Open(ctx, service, user, options); err != nil {
		return err
	}
	if err := o.run(ctx, options.Linger); err != nil {
		return o.abandon(err)
	}
	return nil
}

// run is everything after OpenSession.
func (o *opening) run(ctx context.Context, linger bool) error {
	if err := o.event(api.SessionChanged{ID: o.session.ID(), State: api.StateOpening}); err != nil {
		return err
	}
	if err := o.until(ctx, api.StateOpen); err != nil {
		return err
	}
	if !o.out.json {
		if _, err := fmt.Fprintln(o.out.w, o.session.ID()); err != nil {
			return err
		}
	}
	if linger {
		return nil
	}
	// As a service, it has started when the session is open.
	if _, err := daemon.SdNotify(true, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("tell the service manager that the session is open: %w", err)
	}
	return o.hold(ctx)
}

// hold keeps the session until the user has enough of it or it ends by itself.
func (o *opening) hold(ctx context.Context) error {
	if o.asker != nil && o.asker.term.foreground() {
		if err := o.asker.term.engage(); err != nil {
			return err
		}
		o.asker.resting = true
	}
	err := o.until(ctx, api.StateClosed)
	switch {
	case err == nil:
		fmt.Fprintf(o.stderr, "pamprompt-client: session %d was closed\n", o.session.ID())
		return nil
	case errors.Is(err, errInterrupted):
		return o.close()
	}
	return err
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
	if ctx.Err() != nil {
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

// interrupt is Ctrl-C: it cancels the prompt, or leaves.
func (o *opening) interrupt(ctx context.Context) error {
	if o.asker == nil || !o.asker.asking() {
		return errInterrupted
	}
	return o.asker.cancel(ctx)
}

// finish takes up an answer. Ctrl-D cancels a prompt, as nothing of ours can
// go on without it, and leaves when there is none.
func (o *opening) finish(ctx context.Context, result error) error {
	prompt := o.asker.now.prompt
	err := o.asker.finish(result)
	switch {
	case !errors.Is(err, errEndOfInput):
		return err
	case prompt == nil:
		return errInterrupted
	}
	return o.asker.refuse(ctx, prompt.ID)
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
