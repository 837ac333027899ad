// SPDX-License-Identifier: Apache-2.0

package main

// run leaves standard input, output and error to the command: as they are with
// --pipe, and with --pty as one terminal of the command's own, which is shown
// and typed to on ours. Prompts and the modules' messages go to the terminal
// (/dev/tty), if there is one and unless --no-ask; without it somebody else
// answers. Nothing of our own goes to standard output, and nothing but errors to
// standard error.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	xterm "golang.org/x/term"

	"github.com/pamprompt/pamprompt/api"
)

// wanted is what the flags of run say.
type wanted struct {
	user, service, dir, reason string
	setenv                     []string
	timeout                    time.Duration
	attempts                   uint32
	pty, pipe, noAsk           bool
	authenticate               bool // whoever we are
}

func (t *tool) runCommand() *cobra.Command {
	var w wanted
	cmd := &cobra.Command{
		Use:   "run [FLAGS] [--] [COMMAND [ARGUMENT...]]",
		Short: "Run a command as a user, in a PAM session of its own",
		Long: "run opens a PAM session and runs COMMAND in it, without one the user's login shell. It asks on the\n" +
			"terminal what PAM asks. The exit code is that of the command, 128 and the number of the signal that\n" +
			"ended it, or 127 if it could not be started.\n\n" +
			"On a terminal the command gets one of its own (--pty): pressing Ctrl-] three times within a second\n" +
			"leaves and hangs up. Otherwise it gets standard input, output and error as they are (--pipe).",
		Example: "  pamprompt-client run\n" +
			"  pamprompt-client run -u anna -D '~' -- make install\n" +
			"  pamprompt-client run -u anna tar -c . | gzip >backup.tar.gz",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return t.run(cmd, w, args) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // the command has flags too
	f.StringVarP(&w.user, "user", "u", "root", "run as `user`")
	f.StringVar(&w.service, "service", "pamprompt-run", "the PAM `service`")
	f.StringVarP(&w.dir, "chdir", "D", "", "run in `directory`; ~ and ~/x are of the user (default ~, or / when the user cannot enter it)")
	f.StringArrayVar(&w.setenv, "setenv", nil, "set `NAME=value` for the command, or pass NAME on; may be given more than once")
	f.BoolVar(&w.pty, "pty", false, "give the command a terminal of its own (default if standard input, output and error are terminals)")
	f.BoolVar(&w.pipe, "pipe", false, "give it standard input, output and error as they are (default otherwise)")
	promptFlags(cmd, &w.reason, &w.timeout, &w.noAsk)
	f.Uint32Var(&w.attempts, "attempts", 3, "how often to ask for an answer that is wrong")
	f.BoolVar(&w.authenticate, "authenticate", false, "have the user authenticate, even if root calls, or polkit would do without")
	cmd.MarkFlagsMutuallyExclusive("pty", "pipe")
	offerFlag(cmd, "user", users)
	offerFlag(cmd, "service", services)
	return cmd
}

// terminal says whether the command gets a terminal of its own.
func (w wanted) terminal() bool {
	return w.pty || !w.pipe && xterm.IsTerminal(0) && xterm.IsTerminal(1) && xterm.IsTerminal(2)
}

// options are those of the session, but for what depends on our terminal.
func (w wanted) options(command []string) (api.Options, error) {
	o := api.Options{
		Command: slices.Clone(command), LoginShell: len(command) == 0, Authenticate: api.AuthenticateUnlessPermitted,
		Reason: w.reason, Timeout: w.timeout, Attempts: w.attempts,
	}
	if w.authenticate {
		o.Authenticate = api.AuthenticateAlways
	}
	var err error
	if len(command) > 0 && strings.Contains(command[0], "/") {
		if o.Command[0], err = filepath.Abs(command[0]); err != nil {
			return o, err
		}
	}
	if o.WorkingDirectory, err = directory(w.dir); err != nil {
		return o, err
	}
	o.CommandEnvironment, err = w.environment()
	return o, err
}

// directory is absolute, or about the user's home.
func directory(dir string) (string, error) {
	if dir == "" || dir == "~" || strings.HasPrefix(dir, "~/") {
		return dir, nil
	}
	return filepath.Abs(dir)
}

// environment is what the command is told of where it was called from, as sudo
// and run0 tell it, and what the caller wants; of two values the later one.
func (w wanted) environment() ([]string, error) {
	var all []string
	set := func(name, value string) {
		all = slices.DeleteFunc(all, func(entry string) bool { return strings.HasPrefix(entry, name+"=") })
		all = append(all, name+"="+value)
	}
	if w.terminal() {
		for _, name := range []string{"TERM", "COLORTERM", "NO_COLOR"} {
			if value, ok := os.LookupEnv(name); ok {
				set(name, value)
			}
		}
	}
	if u, err := user.Current(); err == nil {
		set("SUDO_USER", u.Username)
	}
	set("SUDO_UID", strconv.Itoa(os.Getuid()))
	set("SUDO_GID", strconv.Itoa(os.Getgid()))
	for _, entry := range w.setenv {
		name, value, given := strings.Cut(entry, "=")
		if !given {
			value, given = os.LookupEnv(name)
		}
		if name == "" || !given {
			return nil, usageError{fmt.Errorf("--setenv %q is neither NAME=value nor the name of a variable that is set", entry)}
		}
		set(name, value)
	}
	return all, nil
}

// running is one run of run.
type running struct {
	opening
	signals   chan os.Signal // since the beginning
	continued chan os.Signal // SIGCONT, once it is open
	courier   *courier
	front     *forwarding // nil when the command has our standard streams
	held      []api.Event // of PAM, while the terminal is the command's
}

func (t *tool) run(cmd *cobra.Command, w wanted, args []string) error {
	if t.out.json {
		return usageError{errors.New("run has no --json: standard output is the command's")}
	}
	options, err := w.options(args)
	if err != nil {
		return err
	}
	t.started = true
	r := &running{
		opening: opening{tool: t, prompts: map[uint64]struct{}{}, decisive: true},
		signals: make(chan os.Signal, 64), continued: make(chan os.Signal, 1),
	}
	// Of those that come early both channel and context hear, so none is lost in between.
	signal.Notify(r.signals, heeded(ending)...)
	defer signal.Stop(r.signals)
	early, stop := signal.NotifyContext(cmd.Context(), heeded(ending)...)
	defer stop()
	if r.client, err = api.Connect(early); err != nil {
		return interrupted(early, err)
	}
	defer func() { _ = r.client.Close() }()
	r.client.AllowInteraction(!t.noPassword)
	err = r.onTerminal(w, &options, func() error {
		if err := r.start(early, w, options); err != nil {
			return err
		}
		stop()
		return r.attend(cmd.Context())
	})
	return r.parted(err, options)
}

// onTerminal calls do with the terminals that there are, and leaves them as they were.
func (r *running) onTerminal(w wanted, options *api.Options, do func() error) error {
	var ours *terminal
	if !w.noAsk {
		if term, err := openTerminal(); err == nil {
			defer term.Close()
			ours, r.asker, options.Agent = term, newAsker(r.client, term), true
			r.asker.brief = !w.terminal()
			defer r.asker.stop()
		}
	}
	options.Stdio = []*os.File{os.Stdin, os.Stdout, os.Stderr}
	if w.terminal() {
		f, err := newForwarding(ours)
		if err != nil {
			return err
		}
		defer f.close()
		r.front = f
		// It would leave our terminal raw: a write fails instead. It is not ignored,
		// since polkit's agent, a child of ours, would ignore it too.
		signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
		options.Stdio, options.ControllingTerminal = []*os.File{f.slave, f.slave, f.slave}, true
	}
	return do()
}

// start returns when the session is open, and the command runs.
func (r *running) start(ctx context.Context, w wanted, options api.Options) error {
	if err := r.begin(ctx, w.service, w.user, options); err != nil {
		return err
	}
	if r.front == nil {
		if err := letGo(0, 1); err != nil {
			return r.abandon(err)
		}
	}
	err := r.until(ctx, api.StateOpen)
	if errors.Is(err, errInterrupted) && r.isOpen() {
		err = nil // the signal that came is the command's
	}
	if err != nil {
		return r.abandon(err)
	}
	return nil
}

// isOpen asks whether the session is or was open, since we may not have heard of it yet.
func (r *running) isOpen() bool {
	p, err := r.session.Properties(context.Background())
	return err == nil && !p.OpenedAt.IsZero()
}

// letGo puts /dev/null where descriptors are that the command has now: who is at
// the other end of a pipe is to see when the command closes it.
func letGo(fds ...int) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	for _, fd := range fds {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	return nil
}

// attend is with the command until it ends, and closes the session then.
func (r *running) attend(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.asker != nil {
		r.asker.stop()
	}
	last, err := r.forward(ctx)
	switch {
	case err == nil:
		return r.conclude(ctx, last)
	case errors.Is(err, errHangup):
		return err // nobody is left to wait, and that we leave the bus closes the session
	}
	if r.front != nil {
		r.front.close()
	}
	return r.abandon(err)
}

// exit is how the command has ended, or why that is not known.
type exit struct {
	last api.Properties
	err  error
}

// forward passes on what is typed, shown and signalled until the command has ended.
func (r *running) forward(ctx context.Context) (api.Properties, error) {
	signal.Notify(r.signals, heeded(stopping)...)
	signal.Notify(r.continued, unix.SIGCONT)
	defer signal.Stop(r.continued)
	r.courier = newCourier(ctx, r.session, r.front)
	over, err := r.handOver()
	exited := make(chan exit, 1)
	go func() {
		defer r.front.guard()
		last, err := r.session.WaitExit(ctx)
		exited <- exit{last, err}
	}()
	for err == nil {
		select {
		case e := <-exited:
			if e.last.Exited() {
				e.err = nil // however PAM has closed since
			}
			return e.last, e.err
		case e, ok := <-r.watcher.Events():
			if !ok {
				return api.Properties{}, cmp.Or(r.watcher.Err(), errInterrupted)
			}
			r.hold(e)
		case s := <-r.signals:
			err = r.signal(s)
		case <-r.continued:
			err = r.resume()
		case err = <-r.courier.failed:
		case err = <-over:
		}
	}
	return api.Properties{}, err
}

// handOver gives our terminal to the command, and what tells why to take it back.
func (r *running) handOver() (over <-chan error, err error) {
	if r.front != nil {
		return r.front.over, r.front.start()
	}
	if r.asker != nil {
		r.asker.term.restore()
	}
	return nil, nil
}

// hold keeps what modules say when they close the session until the command's
// last words are shown.
func (r *running) hold(e api.Event) {
	switch e.(type) {
	case api.Prompt, api.PromptClosed, api.Message, api.BrokerGone:
		r.held = append(r.held, e)
	}
}

// conclude shows the command's last words and waits until PAM is closed, or for a
// signal. The command's end is ours, whatever happens here.
func (r *running) conclude(ctx context.Context, last api.Properties) error {
	ctx, stop := signal.NotifyContext(ctx, heeded(ending)...)
	defer stop()
	if r.front != nil {
		r.front.finish(ctx)
	}
	err := r.unwind(ctx)
	if r.front != nil {
		r.front.settle(ctx)
	}
	switch {
	case errors.Is(err, errInterrupted):
		fmt.Fprintf(r.stderr, "pamprompt-client: session %d is still being closed\n", r.session.ID())
	case err != nil:
		fmt.Fprintf(r.stderr, "pamprompt-client: close session %d: %s\n", r.session.ID(), cleanLine(err.Error()))
	}
	if last.ExitStatus == 0 {
		return nil
	}
	return verdictError{int(last.ExitStatus)}
}

// unwind closes the session, which hangs up what the command has left behind, and
// waits until PAM is closed. A module may have something to say, or to ask.
func (r *running) unwind(ctx context.Context) error {
	for _, e := range r.held {
		if err := r.event(e); err != nil {
			return err
		}
	}
	err := patiently(ctx, r.session, func() error { return r.session.Close(ctx) })
	if err == nil {
		err = r.until(ctx, api.StateClosed)
	}
	switch {
	case errors.Is(err, api.NoSuchSession):
		return nil // a broker that was started again since never knew it
	case err != nil:
		return interrupted(ctx, err)
	}
	if p, err := r.session.Properties(ctx); err == nil && p.PAMResult != 0 {
		return errors.New(p.ResultText)
	}
	return nil
}
