// SPDX-License-Identifier: Apache-2.0

package main

// policy check reads the rule files and says what they decide, and which of
// them does. It asks neither the bus nor the broker, so it shows what holds
// after a reload. The verdict goes to standard output: a word, a colon and the
// reason. Warnings about the rules go to standard error. With --json there is one
// object with all of it. The exit code is the verdict. It does not use the
// terminal.

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pamprompt/pamprompt/policy"
)

// verdictError is a verdict that is not a yes. It was written to standard output
// already; only the exit code is left.
type verdictError struct{ code int }

func (e verdictError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// inquiry is what policy check is asked.
type inquiry struct {
	caller, action, service, user, dir string
	owner, about                       string // uids, or empty
}

func (t *tool) policyCommand() *cobra.Command {
	group := &cobra.Command{
		Use:   "policy",
		Short: "Explain what the rule files decide",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return errors.New("which command? policy check is the only one") },
	}
	q := inquiry{}
	check := &cobra.Command{
		Use:   "check --caller uid:UID[,group:GROUP...][,unit:UNIT] [flags]",
		Short: "Say what the rules decide, and which rule does",
		Long: "policy check says whether a caller may do something, as the rule files have it now, and which\n" +
			"rule decides. Without a group in --caller, the groups are those that this machine knows.\n\n" +
			"Exit codes:\n  0   allowed\n  4   denied\n  10  polkit decides",
		Example: "  pamprompt-client policy check --caller uid:1000 --service backup --user anna\n" +
			"  pamprompt-client policy check --caller uid:1000,group:27 --action answer --about 1000",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return t.policyCheck(q) },
	}
	flags := check.Flags()
	flags.StringVar(&q.caller, "caller", "", "who asks: uid:UID, with group:NAME or group:GID and unit:UNIT after commas")
	flags.StringVar(&q.action, "action", "open", "what for: open, run, converse, see, answer, manage, agent")
	flags.StringVar(&q.service, "service", "", "the session's PAM service")
	flags.StringVar(&q.user, "user", "", "the session's user")
	flags.StringVar(&q.owner, "owner", "0", "the uid of who opened the session")
	flags.StringVar(&q.about, "about", "", "the uid of the session's user (default: that of --user on this machine)")
	flags.StringVar(&q.dir, "dir", policy.Dir, "the directory with the rule files")
	group.AddCommand(check)
	return group
}

// explanation is what --json writes.
type explanation struct {
	Verdict  string   `json:"verdict"`
	Polkit   []string `json:"polkit"` // one of them has to be granted
	Why      string   `json:"why"`
	Groups   []uint32 `json:"groups"` // that the caller was taken to be in
	Warnings []string `json:"warnings"`
}

func (t *tool) policyCheck(q inquiry) error {
	caller, action, object, err := q.parse()
	if err != nil {
		return err
	}
	t.started = true
	rules, err := policy.Load(q.dir)
	if err != nil {
		return err
	}
	if rules.WantsName() && caller.Name == "" {
		caller.Name = accountName(caller.UID)
	}
	d := rules.Decide(caller, action, object)
	if err := t.explain(d, caller, rules.Warnings()); err != nil {
		return err
	}
	switch d.Verdict {
	case policy.Allow:
		return nil
	case policy.Polkit:
		return verdictError{exitPolkit}
	}
	return verdictError{exitDenied}
}

func (t *tool) explain(d policy.Decision, c policy.Caller, warnings []string) error {
	if !t.out.json {
		for _, warning := range warnings {
			fmt.Fprintf(t.stderr, "pamprompt-client: %s\n", cleanLine(warning))
		}
	}
	human := d.Verdict.String()
	if d.Polkit != nil {
		human += " " + strings.Join(d.Polkit, " or ")
	}
	return t.out.line(explanation{d.Verdict.String(), append([]string{}, d.Polkit...), d.Why, append([]uint32{}, c.Groups...), append([]string{}, warnings...)},
		cleanLine(human+": "+d.Why))
}

// parse makes of the flags what policy is asked.
func (q inquiry) parse() (c policy.Caller, a policy.Action, o policy.Object, err error) {
	if c, err = parseCaller(q.caller); err != nil {
		return c, a, o, err
	}
	a, ok := policy.ParseAction(q.action)
	if !ok {
		return c, a, o, fmt.Errorf("--action is %q: try open, run, converse, see, answer, manage or agent", q.action)
	}
	o = policy.Object{Exists: !a.Begins() && a != policy.Agent, Service: q.service, User: q.user}
	if a.Begins() && (q.service == "" || q.user == "") {
		return c, a, o, errors.New("to open a session, to run something or to converse, --service and --user are needed")
	}
	if o.OwnerUID, err = policy.ParseID(q.owner); err != nil {
		return c, a, o, fmt.Errorf("--owner: %q %w", q.owner, err)
	}
	if q.about != "" {
		if o.UserUID, err = policy.ParseID(q.about); err != nil {
			return c, a, o, fmt.Errorf("--about: %q %w", q.about, err)
		}
		o.UserKnown = true
	} else if known, err := user.Lookup(q.user); err == nil && !a.Begins() { // the broker then knows the name alone
		uid, err := policy.ParseID(known.Uid)
		o.UserKnown, o.UserUID = err == nil, uid
	}
	return c, a, o, nil
}

// parseCaller reads --caller. Root is the admin.
func parseCaller(text string) (policy.Caller, error) {
	var c policy.Caller
	if text == "" {
		return c, errors.New("--caller is missing: say who asks, as uid:1000")
	}
	uid, groups := false, false
	for word := range strings.SplitSeq(text, ",") {
		kind, rest, _ := strings.Cut(word, ":")
		var err error
		switch {
		case kind == "uid" && !uid:
			c.UID, err = policy.ParseID(rest)
			uid = true
		case kind == "group":
			var gid uint32
			gid, err = groupID(rest)
			c.Groups = append(c.Groups, gid)
			groups = true
		case kind == "unit" && rest != "" && c.Unit == "":
			c.Unit = rest
		default:
			err = errors.New("is not one uid:UID, group:GROUP or one unit:UNIT")
		}
		if err != nil {
			return c, fmt.Errorf("--caller: %q %w", word, err)
		}
	}
	if !uid {
		return c, fmt.Errorf("--caller is %q, without uid:UID", text)
	}
	c.Admin = c.UID == 0
	if !groups {
		c.Groups = groupsOf(c.UID)
	}
	return c, nil
}

// groupID is the number of a group that is named by it or by its name.
func groupID(text string) (uint32, error) {
	if id, err := policy.ParseID(text); err == nil {
		return id, nil
	}
	g, err := user.LookupGroup(text)
	if err != nil {
		return 0, errors.New("is no group of this machine")
	}
	return policy.ParseID(g.Gid)
}

// accountName is empty for a uid without an account.
func accountName(uid uint32) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return ""
	}
	return u.Username
}

// groupsOf are the groups of an account, sorted; none without an account.
func groupsOf(uid uint32) []uint32 {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil
	}
	var groups []uint32
	for _, id := range ids {
		if gid, err := policy.ParseID(id); err == nil {
			groups = append(groups, gid)
		}
	}
	slices.Sort(groups)
	return groups
}
