// SPDX-License-Identifier: Apache-2.0

package main

// open writes the session's number to standard output once it is open, with
// --json every event of the session as well. Prompts and the modules' messages
// go to the terminal, if there is one and unless --no-ask; messages go to
// standard error otherwise, and with --agent a line for each prompt. Then it
// holds the session, and says nothing, until Ctrl-C, SIGTERM, SIGHUP or Ctrl-D
// on the terminal, until somebody closes the session, or until the bus ends, and the
// session with it. A service manager that wants to know (NOTIFY_SOCKET) is told when
// the session is open.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

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
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: offer(services, users),
		RunE:              func(cmd *cobra.Command, args []string) error { return t.open(cmd, args[0], args[1], o, noAsk) },
	}
	f := cmd.Flags()
	f.StringVar(&o.TTY, "tty", "", "PAM_TTY")
	f.StringVar(&o.Rhost, "rhost", "", "PAM_RHOST")
	f.StringVar(&o.Ruser, "ruser", "", "PAM_RUSER")
	f.StringVar(&o.XDisplay, "xdisplay", "", "PAM_XDISPLAY")
	f.StringArrayVar(&o.Environment, "env", nil, "`NAME=value` for the PAM environment; may be given more than once")
	f.StringSliceVar(&o.Phases, "phase", nil, "only this `phase`: authenticate, account, credentials or session; may be given more than once")
	f.StringArrayVar(&o.Alternatives, "alternative", nil, "a further `service` that may open the session, beside SERVICE: the first that succeeds\n"+
		"does; may be given more than once")
	promptFlags(cmd, &o.Reason, &o.Timeout, &noAsk)
	f.Uint32Var(&o.Attempts, "attempts", 0, "how often to ask again after a wrong answer (default 1: never)")
	f.BoolVar(&o.Linger, "linger", false, "leave the session open when we return")
	f.BoolVar(&o.Silent, "silent", false, "PAM_SILENT: the modules say nothing")
	f.StringVar(&o.Locale, "locale", "", "`locale` of the modules' texts, such as de_DE.UTF-8")
	f.StringVar(&o.AskPassword, "ask-password", "", "ask systemd's password agents too: `when`, yes (the default), no, or\n"+
		"fallback for only while no agent on D-Bus may answer")
	f.BoolVar(&o.Agent, "agent", false, "be told of the session's prompts without a terminal too: a line each")
	offerFlag(cmd, "phase", fixed("authenticate", "account", "credentials", "session"))
	offerFlag(cmd, "alternative", services)
	offerFlag(cmd, "ask-password", fixed("yes", "no", "fallback"))
	return cmd
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
	err = o.begin(ctx, service, user, options)
	if err == nil {
		if err = o.follow(ctx, options.Linger); err != nil {
			err = o.abandon(err)
		}
	}
	return o.parted(err, options)
}

// follow is everything after OpenSession.
func (o *opening) follow(ctx context.Context, linger bool) error {
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
