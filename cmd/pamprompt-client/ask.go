// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pamprompt/pamprompt/api"
)

// asker shows prompts on the terminal, one after the other, and sends the
// answers. Its methods are called from one goroutine; another one reads the
// terminal for it and reports on done.
type asker struct {
	client  *api.Client
	term    *terminal
	agent   bool // prompts of anybody: say whose
	resting bool // mind the terminal between prompts
	brief   bool // give the terminal back before the answer is sent, since a command may want it then

	queue []api.Prompt
	now   *question // what the terminal is read for; nil when it is not read
	done  chan error
	live  int // messages shown as they happened, since the last prompt
}

// question is what the terminal is being read for.
type question struct {
	prompt   *api.Prompt // nil between prompts
	withdraw context.CancelFunc
	why      string // outcome with which it was withdrawn
}

func newAsker(client *api.Client, term *terminal) *asker {
	return &asker{client: client, term: term, done: make(chan error, 1)}
}

// handle takes what the broker tells.
func (a *asker) handle(e api.Event) {
	switch e := e.(type) {
	case api.Prompt:
		a.queue = append(a.queue, e)
	case api.PromptClosed:
		a.withdraw(e.ID, e.Outcome)
	case api.Message:
		a.show(e)
	case api.BrokerGone:
		a.queue = nil
		if a.asking() {
			a.withdraw(a.now.prompt.ID, "the broker went away")
		}
	}
}

// drop forgets all prompts, as nobody takes answers to them any more, and returns when
// none is on the terminal. It returns what finish does.
func (a *asker) drop(why string) error {
	a.queue = nil
	if !a.asking() {
		return nil
	}
	a.withdraw(a.now.prompt.ID, why)
	return a.finish(<-a.done)
}

// asking says whether a prompt is on the terminal.
func (a *asker) asking() bool { return a.now != nil && a.now.prompt != nil }

// withdraw takes a prompt back that waits no more. The one whose answer is
// under way is let go on: either it is why the prompt closed, or the broker
// will say that it came too late.
func (a *asker) withdraw(id uint64, why string) {
	a.queue = slices.DeleteFunc(a.queue, func(p api.Prompt) bool { return p.ID == id })
	if a.asking() && a.now.prompt.ID == id {
		a.now.why = why
		a.now.withdraw()
	}
}

// next has the terminal read for the next prompt, or for Ctrl-D between
// prompts. It does nothing while a prompt is on the terminal.
func (a *asker) next(ctx context.Context) error {
	switch {
	case a.asking():
	case a.now != nil && len(a.queue) > 0:
		a.now.withdraw() // finish follows, then the prompt
	case a.now == nil && len(a.queue) > 0:
		p := a.queue[0]
		a.queue = a.queue[1:]
		return a.ask(ctx, p)
	case a.now == nil && a.resting:
		reading, withdraw := context.WithCancel(ctx)
		a.now = &question{withdraw: withdraw}
		go func() { a.done <- a.term.rest(reading) }()
	}
	return nil
}

// ask shows a prompt and starts to read its answer.
func (a *asker) ask(ctx context.Context, p api.Prompt) error {
	if err := a.term.engage(); err != nil {
		return err
	}
	if a.resting { // what was typed before the prompt was there is no answer to it
		a.term.forget()
	}
	a.introduce(p)
	if p.Style == api.StyleBinary {
		a.term.print(fmt.Sprintf("(prompt %d wants binary data, which a terminal cannot answer)", p.ID))
		return nil
	}
	reading, withdraw := context.WithCancel(ctx)
	a.now = &question{prompt: &p, withdraw: withdraw}
	go func() { a.done <- a.answer(ctx, reading, p) }()
	return nil
}

// answer reads an answer and sends it.
func (a *asker) answer(ctx, reading context.Context, p api.Prompt) error {
	answer, err := a.term.read(reading, cleanText(p.Message), shown(p.Style))
	if err != nil {
		return err
	}
	defer answer.Wipe()
	if a.brief {
		a.term.restore()
	}
	return a.client.Answer(ctx, p.ID, answer)
}

// finish takes up what came over done. It returns errEndOfInput when the user
// wants to leave, and errors that end everything.
func (a *asker) finish(err error) error {
	q := a.now
	a.now = nil
	q.withdraw()
	if q.prompt == nil {
		if errors.Is(err, errWithdrawn) {
			return nil
		}
		return err
	}
	var known *api.Error
	switch {
	case err == nil, errors.Is(err, errWithdrawn) && q.why == "": // or we are leaving
	case errors.Is(err, errWithdrawn), errors.Is(err, errLongLine) && q.why != "":
		a.say(fmt.Sprintf("(prompt %d is gone: %s)", q.prompt.ID, q.why))
	case errors.Is(err, api.ErrNoBus):
		a.say(fmt.Sprintf("(prompt %d: the connection to the bus was lost, and whether the answer was taken is not known)", q.prompt.ID))
	case errors.Is(err, errLongLine), errors.Is(err, api.InvalidArgument):
		a.say(fmt.Sprintf("(%v)", err))
		a.queue = slices.Insert(a.queue, 0, *q.prompt) // it still waits
	case errors.As(err, &known), errors.Is(err, api.ErrNoBroker):
		a.say(fmt.Sprintf("(prompt %d: %v)", q.prompt.ID, err))
	default:
		return err
	}
	return nil
}

// cancel takes the prompt off the terminal and has it cancelled. It says whether
// the prompt still waited.
func (a *asker) cancel(ctx context.Context) (waited bool, err error) {
	a.now.why = api.OutcomeCancelled
	a.now.withdraw()
	return a.refuse(ctx, a.now.prompt.ID)
}

// refuse cancels a prompt, and says whether it still waited. One that is gone
// already is no error.
func (a *asker) refuse(ctx context.Context, id uint64) (waited bool, err error) {
	err = a.client.Cancel(ctx, id)
	var known *api.Error
	if errors.As(err, &known) {
		return false, nil
	}
	return err == nil, err
}

// stop ends the reading, so that the terminal can be closed.
func (a *asker) stop() {
	if a.now != nil {
		a.now.withdraw()
		<-a.done
		a.now = nil
	}
}

// say prints what we have to say ourselves.
func (a *asker) say(text string) { a.term.print(cleanText(text)) }

// show prints a message as it happens.
func (a *asker) show(m api.Message) {
	text := cleanText(m.Text.Text)
	if a.agent {
		text = fmt.Sprintf("session %d: %s: %s", m.Session, m.Style, text)
	}
	a.term.print(text)
	a.live++
}

// introduce prints what stands above a prompt: whose it is, and what the
// module said before. Whoever is asked for one session alone has seen that
// just now; an agent may have seen other sessions' prompts since.
func (a *asker) introduce(p api.Prompt) {
	messages := p.Messages
	if a.agent {
		a.say("\n" + heading(p))
	} else {
		messages = messages[min(a.live, len(messages)):]
	}
	a.live = 0
	for _, m := range messages {
		a.term.print(cleanText(m.Text))
	}
}

// heading says who asks whom for what.
func heading(p api.Prompt) string {
	if p.Source == api.SourceAskPassword {
		about := ""
		if p.RequestID != "" {
			about = fmt.Sprintf(", about %q", p.RequestID)
		}
		return fmt.Sprintf("prompt %d: %s asks systemd's password agents%s", p.ID, owner(p), about)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "prompt %d, session %d: %s asks for user %q in service %q", p.ID, p.Session, owner(p), p.User, p.Service)
	if p.Attempt > 1 {
		fmt.Fprintf(&b, ", attempt %d", p.Attempt)
	}
	if len(p.Command) > 0 {
		fmt.Fprintf(&b, "\nto run: %s", cleanLine(commandLine(p.Command)))
	}
	if p.Reason != "" {
		fmt.Fprintf(&b, "\nreason, in the caller's words: %s", cleanLine(p.Reason))
	}
	return b.String()
}

// commandLine is a command as one would type it in a shell.
func commandLine(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		if quoted[i] = word; !plainWord.MatchString(word) {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=,+@%-]+$`)

// owner is who opened the session, or asks without one: the uid is certain, the rest for display.
func owner(p api.Prompt) string {
	if p.OwnerUID == nil {
		return "somebody"
	}
	name := "uid " + strconv.FormatUint(uint64(*p.OwnerUID), 10)
	if u, err := user.LookupId(strconv.FormatUint(uint64(*p.OwnerUID), 10)); err == nil {
		name += " (" + u.Username + ")"
	}
	comm := p.OwnerComm
	if comm == "" {
		comm = "a program"
	}
	return fmt.Sprintf("%s, pid %d, %s,", cleanLine(comm), p.OwnerPID, name)
}

// shown says whether an answer may be seen as it is typed. A style of a later
// version is not known to be one.
func shown(style string) bool { return style == api.StyleVisible || style == api.StyleChoice }
