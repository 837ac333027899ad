// SPDX-License-Identifier: Apache-2.0

package main

// doctor looks at all that pamprompt needs and writes a line about each thing to
// standard output: ok, note (it works, but not as somebody may expect) or bad, and
// below it what to do. It changes nothing, but the bus may start the broker when it is
// asked. The exit code is 1 if something is bad.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/policy"
)

// doctorTime bounds each question to the bus and to the broker.
const doctorTime = 10 * time.Second

// The states of a finding.
const (
	fine = "ok"
	note = "note"
	bad  = "bad"
)

// finding is what was found out about one thing.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"`
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"`
}

// errUnwell is the exit code when something is bad, which was said already.
var errUnwell = verdictError{exitFailure}

// examination collects findings.
type examination struct {
	root  string // of the file system that is looked at, "" or without a slash at the end
	admin bool   // may look everywhere
	all   []finding
}

func (e *examination) find(check, state, text, advice string) {
	e.all = append(e.all, finding{check, state, text, advice})
}

func (t *tool) doctorCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at all that pamprompt needs, and say what to do about it",
		Long: "doctor looks at the bus, the broker, the rule files, polkit, systemd's password agents, the workers'\n" +
			"socket and the PAM services, and writes a line about each: ok, note or bad. It changes nothing.\n" +
			"The exit code is 1 if something is bad. Root sees more.",
		Example: "  sudo pamprompt-client doctor\n" +
			"  pamprompt-client doctor --root /mnt    # the files of another system alone",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return t.doctor(cmd, root) },
	}
	cmd.Flags().StringVar(&root, "root", "", "look at the files below this `directory`, and at no bus")
	if err := cmd.MarkFlagDirname("root"); err != nil {
		panic(err)
	}
	return cmd
}

func (t *tool) doctor(cmd *cobra.Command, root string) error {
	t.started = true
	e := &examination{root: strings.TrimRight(root, "/"), admin: os.Geteuid() == 0}
	if root == "" {
		e.bus(cmd.Context())
	} else if _, err := os.Stat(root); err != nil {
		return usageError{fmt.Errorf("--root: %w", err)}
	}
	e.rules()
	if root == "" {
		e.passwordAgents()
		e.socket()
	}
	e.services()
	e.module()
	worst := fine
	for _, f := range e.all {
		if f.State == bad {
			worst = bad
		}
		human := fmt.Sprintf("%-5s %-15s %s", f.State, f.Check, cleanLine(f.Text))
		if f.Advice != "" {
			human += "\n" + strings.Repeat(" ", 22) + "-> " + cleanLine(f.Advice)
		}
		if err := t.out.line(f, human); err != nil {
			return err
		}
	}
	if worst == bad {
		return errUnwell
	}
	return nil
}

// bus looks at the bus, the broker on it, and polkit.
func (e *examination) bus(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	client, err := api.Connect(ctx)
	if err != nil {
		e.find("bus", bad, err.Error(), advice(err))
		return
	}
	defer func() { _ = client.Close() }()
	where := "the system bus answers"
	if address := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"); address != "" {
		where = "the bus of DBUS_SYSTEM_BUS_ADDRESS answers, " + address
	}
	e.find("bus", fine, where, "")
	e.broker(ctx, client)
	e.polkit(ctx, client)
}

func (e *examination) broker(ctx context.Context, client *api.Client) {
	running, activatable, err := client.OnBus(ctx, api.BusName)
	if err != nil {
		e.find("broker", bad, err.Error(), "")
		return
	}
	if !running && !activatable {
		e.find("broker", bad, api.BusName+" is not on the bus, and the bus cannot start it",
			"install the package, or `systemctl start pamprompt-broker`; `systemctl reload dbus` if it was installed just now")
		return
	}
	status, err := client.Status(ctx)
	if err != nil {
		e.find("broker", bad, err.Error(), "`systemctl status pamprompt-broker` and `journalctl -u pamprompt-broker` say why")
		return
	}
	e.find("broker", fine, fmt.Sprintf("version %s answers: %d sessions, %d prompts that wait, %d agents",
		status.Version, status.Sessions, status.Prompts, status.Agents), "")
	if status.Version != version {
		e.find("broker", note, fmt.Sprintf("it has version %s, and this program %s", status.Version, version),
			"`systemctl restart pamprompt-broker`: open sessions stay")
	}
	if status.Agents == 0 && status.Prompts > 0 {
		e.find("agents", note, "prompts wait, and no agent on D-Bus is told of them",
			"`pamprompt-client agent` answers them here")
	}
}

func (e *examination) polkit(ctx context.Context, client *api.Client) {
	running, activatable, err := client.OnBus(ctx, "org.freedesktop.PolicyKit1")
	switch {
	case err != nil:
		e.find("polkit", bad, err.Error(), "")
	case !running && !activatable:
		e.find("polkit", note, "it is not on the bus: whatever is for polkit to decide is refused, root and the rule files decide alone",
			"install polkit (polkitd), if others than root shall answer")
	default:
		if _, err := os.Stat(e.root + "/usr/share/polkit-1/actions/org.pamprompt.policy"); err != nil {
			e.find("polkit", bad, "it does not know pamprompt's actions, and refuses what it does not know: "+err.Error(), "install the package again")
			return
		}
		e.find("polkit", fine, "it is on the bus, and knows pamprompt's actions", "")
	}
}

// rules looks at the rule files.
func (e *examination) rules() {
	dir := e.root + policy.Dir
	rules, err := policy.Load(dir)
	if _, missing := os.Stat(dir); errors.Is(missing, os.ErrNotExist) {
		e.find("policy", fine, "there is no "+dir+": what is no rule's to decide is as pamprompt-policy(5) says", "")
		return
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		e.find("policy", note, err.Error(), "run this as root to have the rule files looked at")
	case err != nil:
		e.find("policy", bad, err.Error(), "nobody but root is allowed anything until that is mended; then `systemctl reload pamprompt-broker`")
	default:
		e.find("policy", fine, "the rule files of "+dir+" are right", "")
		for _, warning := range rules.Warnings() {
			e.find("policy", note, warning, "")
		}
	}
}
