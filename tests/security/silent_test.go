// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// outage is a machine with somebody on whom polkit decides, who is not an agent yet, and
// bystanders: another owner, whose session waits for an answer, and root's agent, which
// hears all.
type outage struct {
	*bench
	agent     *person
	root      *person
	bystander *person
	theirs    dbus.ObjectPath
	from      int // in the log
}

const bystanders = `
[[rule]]
action = "open"
service = "ask"
caller = "uid:60001"
verdict = "allow"
`

func begin(t *testing.T, b *bench) *outage {
	t.Helper()
	o := &outage{bench: b, agent: b.join(t, system.Agent), root: b.join(t, system.Identity{}).agent(), bystander: b.join(t, system.Opener)}
	o.theirs = o.bystander.open("ask", "anna", options{"agent": dbus.MakeVariant(true)})
	o.bystander.prompt(o.theirs)
	o.from = len(b.Log())
	return o
}

// ask has root open a session, and waits until root's agent knows of its question.
func (o *outage) ask(t *testing.T, service string) (session dbus.ObjectPath, prompt uint64) {
	t.Helper()
	session = open(t, o.bench.root, service, user, nil)
	prompt, _ = o.root.prompt(session)
	return session, prompt
}

// wantUntold checks that the agent has heard of nothing of a session.
func (o *outage) wantUntold(t *testing.T, when string, session dbus.ObjectPath) {
	t.Helper()
	o.agent.settle()
	for _, member := range []string{"Prompt", "Message"} {
		for _, m := range o.agent.signals(member) {
			if slices.Contains(m.Body, any(session)) {
				t.Errorf("%s the agent is told %v", when, m.Body)
			}
		}
	}
}

// lines counts what the log says since the outage began.
func (o *outage) lines(text string) int { return strings.Count(o.Log()[o.from:], text) }

const (
	gone   = "polkit does not answer"
	back   = "polkit answers again"
	silent = "polkit has not said whether an agent may know"
)

// answered checks that the agent was told of a session what it should, the prompt at
// last, and answers.
func (o *outage) answered(t *testing.T, session dbus.ObjectPath, prompt uint64, want ...string) {
	t.Helper()
	if got, _ := o.agent.prompt(session); got != prompt {
		t.Errorf("the agent is told of prompt %d, not %d", got, prompt)
	}
	var heard []string
	for _, m := range o.agent.heard() {
		member, _ := m.Headers[dbus.FieldMember].Value().(string)
		if m.Type == dbus.TypeSignal && slices.Contains(m.Body, any(session)) && member != "SessionAdded" {
			heard = append(heard, member)
		}
	}
	if !slices.Equal(heard, want) {
		t.Errorf("of the session the agent heard %q, not %q", heard, want)
	}
	if err := o.agent.manager("AnswerPrompt", prompt, answer).Err; err != nil {
		t.Fatal(err)
	}
	if state, text := o.wait(t, session, api.StateOpen); state != api.StateOpen {
		t.Errorf("the session is %s: %s", state, text)
	}
}

// others checks that the bystander's session can be answered, and that sessions open.
func (o *outage) others(t *testing.T) {
	t.Helper()
	prompt, _ := o.bystander.prompt(o.theirs)
	if err := o.bystander.manager("AnswerPrompt", prompt, "right").Err; err != nil {
		t.Errorf("the bystander's answer: %v", err)
	}
	if state, text := o.wait(t, o.theirs, api.StateOpen); state != api.StateOpen {
		t.Errorf("the bystander's session is %s: %s", state, text)
	}
	next := o.bystander.open("ask", "anna", options{"agent": dbus.MakeVariant(true)})
	o.bystander.prompt(next)
}

// What is asked while polkitd is away is told to agents on whom it decides when it has
// come again and says yes, without their asking; and not, when it says no.
func TestWhatIsAskedWhilePolkitIsAway(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: bystanders, Polkit: operatorsAnswer}, func(t *testing.T, b *bench) {
		o := begin(t, b)
		o.agent.agent()
		o.StopPolkit(t)
		session, prompt := o.ask(t, service)
		o.AwaitLog(t, func(string) bool { return o.lines(silent) > 0 })
		o.wantUntold(t, "without polkit", session)
		wantDenied(t, "an answer without polkit", o.agent.manager("AnswerPrompt", prompt, answer).Err)
		o.others(t)
		since := time.Now()
		o.StartPolkit(t)
		o.answered(t, session, prompt, "Message", "Prompt")
		t.Attr("saw", fmt.Sprintf("an agent on whom polkit decides is told of what waits %v after polkitd was started", time.Since(since).Round(100*time.Millisecond)))
		if away, again := o.lines(gone), o.lines(back); away != 1 || again != 1 {
			t.Errorf("%d lines of the log say that polkit is away, %d that it answers", away, again)
		}

		o.StopPolkit(t)
		second, prompt := o.ask(t, service)
		o.WritePolkitRules(t, "") // which says no, and logs what it is asked
		asked := len(o.Log())
		o.StartPolkit(t)
		o.AwaitLog(t, func(log string) bool { return strings.Contains(log[asked:], "org.pamprompt.answer-any for agent") })
		wantDenied(t, "an answer when polkit says no", o.agent.manager("AnswerPrompt", prompt, answer).Err)
		o.wantUntold(t, "when polkit says no", second)
	})
}

// The same when polkitd hangs, and goes on, of which nobody is told: it is asked again.
func TestWhatIsAskedWhilePolkitHangs(t *testing.T) {
	// One question is with polkit when it goes on, and no other: no text comes before
	// the prompt, and whom that is about is known when the agent comes.
	const quiet = "quiet"
	o := begin(t, start(t, system.MachineOptions{
		Options: system.Options{Stacks: map[string]string{quiet: system.Every("PROBE", "[auth:ask=secret,"+question+"]", "[auth:expect="+answer+"]")}},
		Policy:  bystanders, Polkit: strings.Replace(operatorsAnswer, service, quiet, 1),
	}))
	o.FreezePolkit(t)
	session, prompt := o.ask(t, quiet)
	o.others(t)
	o.agent.agent()
	o.AwaitLog(t, func(string) bool { return o.lines(silent) > 0 }) // after 5 s
	o.wantUntold(t, "of a polkit that hangs", session)
	o.ThawPolkit(t)
	since := time.Now()
	o.answered(t, session, prompt, "Prompt")
	t.Attr("saw", fmt.Sprintf("an agent on whom polkit decides is told of what waits %v after polkitd, which hung for 5 s, goes on", time.Since(since).Round(100*time.Millisecond)))
	if away, again := o.lines(gone), o.lines(back); away != 1 || again != 1 {
		t.Errorf("%d lines of the log say that polkit is away, %d that it answers", away, again)
	}
}
