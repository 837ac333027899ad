// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
)

var version = "0.1.0-dev" // stamped by make build

// interrupt is Ctrl-C.
var interrupt os.Signal = os.Interrupt

func main() {
	// Other processes of the same user could attach to this one.
	if err := secret.ProtectProcess(); err != nil {
		fmt.Fprintf(os.Stderr, "pamprompt-client: %v\n", err)
		os.Exit(exitFailure)
	}
	os.Exit(run(arguments()))
}

// tool is what every subcommand gets.
type tool struct {
	out        *output
	stderr     io.Writer
	noPassword bool // polkit is not to ask for one
	started    bool // the command line was right: what fails from now on is not its usage
}

func run(args []string) int {
	t := &tool{out: &output{w: os.Stdout}, stderr: os.Stderr}
	root := t.root()
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return exitOK
	}
	var verdict verdictError
	if errors.As(err, &verdict) {
		return verdict.code
	}
	if !t.started {
		err = usageError{err}
	}
	fmt.Fprintf(os.Stderr, "pamprompt-client: %s\n", cleanText(err.Error()))
	if hint := advice(err); hint != "" {
		fmt.Fprintf(os.Stderr, "pamprompt-client: %s\n", hint)
	}
	return exitCode(err)
}

func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "pamprompt-client",
		Short: "Open PAM sessions over D-Bus and answer their prompts",
		Long: "pamprompt-client opens PAM sessions through pamprompt-broker, answers what PAM asks,\n" +
			"and watches both.\n\n" + exitHelp,
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              cobra.NoArgs,
		RunE:              func(*cobra.Command, []string) error { return errors.New("which command? --help lists them") },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.PersistentFlags().Var(jsonFlag{t.out}, "json", "write JSON: short, which is one object a line, or pretty")
	root.PersistentFlags().Lookup("json").NoOptDefVal = "short"
	offerFlag(root, "json", fixed("short", "pretty", "off"))
	root.PersistentFlags().BoolVar(&t.noPassword, "no-ask-password", false, "do not have polkit ask for a password")
	root.AddCommand(t.openCommand(), t.runCommand(), t.listCommand(), t.showCommand(), t.promptsCommand(), t.answerCommand(),
		t.cancelCommand(), t.closeCommand(), t.watchCommand(), t.agentCommand(), t.policyCommand(), t.doctorCommand())
	return root
}

// connect returns a client and a context that ends with the first of the
// signals that end a program. stop releases both.
func (t *tool) connect(cmd *cobra.Command, signals ...os.Signal) (ctx context.Context, client *api.Client, stop func(), err error) {
	t.started = true
	ctx, cancel := signal.NotifyContext(cmd.Context(), append(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)...)
	client, err = api.Connect(ctx)
	if err != nil {
		cancel()
		return nil, nil, nil, err
	}
	return ctx, client, func() { _ = client.Close(); cancel() }, nil
}

// about makes a command of something to be done to the session or prompt whose
// number is the argument.
func (t *tool) about(what string, do func(context.Context, *api.Client, uint64) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		id, err := number(what, args[0])
		if err != nil {
			return err
		}
		ctx, client, stop, err := t.connect(cmd, interrupt)
		if err != nil {
			return err
		}
		defer stop()
		client.AllowInteraction(!t.noPassword)
		defer t.askForPolkit(ctx)()
		return unsure(do(ctx, client, id), what, id)
	}
}

// number parses the number of a session or prompt.
func number(what, arg string) (uint64, error) {
	id, err := strconv.ParseUint(arg, 10, 64)
	if err != nil || id == 0 {
		return 0, usageError{fmt.Errorf("%s %q is not a number", what, arg)}
	}
	return id, nil
}
