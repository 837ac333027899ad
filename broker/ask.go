// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/libpamc"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// conversationOptions are the options of OpenConversation.
var conversationOptions = map[string]setter{
	api.OptionReason:      openOptions[api.OptionReason],
	api.OptionTimeout:     openOptions[api.OptionTimeout],
	api.OptionAgent:       openOptions[api.OptionAgent],
	api.OptionAskPassword: openOptions[api.OptionAskPassword],
	api.OptionPID:         typed("a uint32", setPID),
	api.OptionUID:         typed("a uint32", setUID),
}

func setPID(o *opening, pid uint32) error {
	if pid == 0 || pid > math.MaxInt32 {
		return fmt.Errorf("is %d, which is no process", pid)
	}
	o.pid = pid
	return nil
}

func setUID(o *opening, uid uint32) error {
	if uid == math.MaxUint32 {
		return fmt.Errorf("is %d, which is nobody", uid)
	}
	o.uid = &uid
	return nil
}

// mayConverse is whether a caller may open the conversation that it wants, and what is
// to be known of it.
func (b *Broker) mayConverse(ctx context.Context, t target) (*worker.Start, error) {
	service, user := t.call.Args[0].(string), t.call.Args[1].(string)
	o := &opening{Options: &worker.Options{Attempts: 1}}
	err := o.set("OpenConversation", conversationOptions, t.call.Args[2].(map[string]dbus.Variant))
	if user != "" { // PAM may not know it yet, and ask
		err = cmp.Or(checkUser(user), err)
	}
	if err = cmp.Or(checkService(service), err); err != nil {
		return nil, err
	}
	if !b.isAdmin(t.call.Caller.UID) {
		if o.pid != 0 {
			return nil, denied("set option pid: whoever answers is told of the process that the bus knows")
		}
		if o.uid != nil {
			return nil, denied("set option uid: it decides who is told what you ask")
		}
		if err := b.admit(t.call.Caller, 1); err != nil {
			return nil, err
		}
		if _, _, err := b.permitOpen(ctx, t.call, policy.Converse, service, user); err != nil {
			return nil, unless(err, "open conversations for this service")
		}
	}
	owner := b.describe(t.call.Caller)
	if o.pid != 0 {
		owner.Pid = o.pid
		if owner.Unit, owner.Comm = bus.DescribeProcess(o.pid); owner.Comm == "" {
			return nil, invalid("option pid is %d, and there is no such process", o.pid)
		}
	}
	return &worker.Start{Service: service, User: user, UserUid: o.uid, Options: o.Options, Owner: owner}, nil
}

// ask puts a question, or tells something, in a conversation of the caller's own. It
// returns at once; the answer comes on the pipe.
func ask(b *Broker, ctx context.Context, t target) ([]any, error) {
	if err := b.look(func() error { _, err := b.conversationOf(t); return err }); err != nil {
		return nil, err
	}
	p, timeout, err := parseQuestion(t.call.Args[0].(string), t.call.Args[1].(string), t.call.Args[2].(map[string]dbus.Variant))
	if err != nil {
		return nil, err
	}
	var number uint64
	if p.GetStyle().Asks() {
		ctx, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		if number, err = b.numbers.next(ctx); err != nil {
			return nil, &api.Error{Code: api.LimitExceeded, Text: "too much is asked at once: try again"}
		}
	}
	reader, r, err := b.responses.pipe()
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return nil, &api.Error{Code: api.LimitExceeded, Text: "there are too many pipes: try again"}
	}
	if err != nil {
		return nil, err
	}
	if err := b.look(func() error { return b.askIn(t, p, number, r, timeout) }); err != nil {
		b.responses.drop(r)
		_ = reader.Close()
		return nil, err
	}
	return []any{number, reader}, nil
}

// askIn is the owner's part of ask.
func (b *Broker) askIn(t target, p *worker.Prompt, number uint64, r *response, timeout *time.Duration) error {
	c, err := b.conversationOf(t)
	if err != nil {
		return err
	}
	if uid := t.call.Caller.UID; !b.isAdmin(uid) {
		if err := b.askings.take(uid, time.Now()); err != nil {
			return err
		}
	}
	if !p.GetStyle().Asks() {
		c.tell(&worker.Message{Style: p.GetStyle(), Text: p.GetText()})
		b.responses.acknowledge(r)
		return nil
	}
	if timeout == nil {
		usual := time.Duration(c.s.start.GetOptions().GetTimeoutUsec()) * time.Microsecond
		timeout = &usual
	}
	return c.ask(p, number, r, *timeout)
}

// conversationOf is the conversation that a call is for, if it is the caller's own: that
// of its connection, since it gets the answers. Not even root asks in that of another.
func (b *Broker) conversationOf(t target) (*conversation, error) {
	s, err := b.find(t.session)
	switch {
	case err != nil:
		return nil, err
	case s.conversation == nil:
		return nil, invalid("session %d is no conversation: its modules ask by themselves, and OpenConversation makes one", s.id)
	case s.owner == nil || s.owner.peer != t.call.Caller:
		return nil, denied("ask in a conversation of another connection: open one")
	case t.call.Caller.Left():
		return nil, errCallerLeft
	case s.over() || s.asked:
		return nil, &api.Error{Code: api.Cancelled, Text: strings.TrimSuffix(fmt.Sprintf("conversation %d has ended: %s", s.id, s.text), ": ")}
	}
	return s.conversation, nil
}

var styles = map[string]worker.Style{
	api.StyleSecret:  worker.Style_STYLE_SECRET,
	api.StyleVisible: worker.Style_STYLE_VISIBLE,
	api.StyleInfo:    worker.Style_STYLE_INFO,
	api.StyleError:   worker.Style_STYLE_ERROR,
	api.StyleChoice:  worker.Style_STYLE_CHOICE,
	api.StyleBinary:  worker.Style_STYLE_BINARY,
}

// parseQuestion bounds what Ask was given. timeout is nil where the conversation's
// counts.
func parseQuestion(word, message string, given map[string]dbus.Variant) (p *worker.Prompt, timeout *time.Duration, err error) {
	style, known := styles[word]
	switch {
	case !known:
		return nil, nil, invalid("%s is no style: it is one of %s", quote(word), strings.Join(sortedKeys(styles), ", "))
	case len(message) > worker.MaxText:
		return nil, nil, invalid("the message is %d bytes long, at most %d are allowed", len(message), worker.MaxText)
	case !style.Asks() && len(given) > 0:
		return nil, nil, invalid("a message of style %s has no details, and detail %s is given", word, quote(sortedKeys(given)[0]))
	}
	q := &asked{Prompt: &worker.Prompt{Style: style, Text: []byte(message)}}
	for _, name := range sortedKeys(given) {
		set, known := askDetails[name]
		if !known {
			return nil, nil, &api.Error{Code: api.UnknownOption, Text: fmt.Sprintf("Ask has no detail %s; it has %s",
				quote(name), strings.Join(sortedKeys(askDetails), ", "))}
		}
		if err := set(q, name, given[name]); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case style == worker.Style_STYLE_BINARY && q.Binary == nil:
		return nil, nil, invalid("a question of style binary needs detail binary: a packet of libpamc in base64")
	case style == worker.Style_STYLE_CHOICE && q.Choices == nil:
		q.Choices = []string{"yes", "no", "maybe"} // of a PAM_RADIO_TYPE: _pam_types.h
	}
	return q.Prompt, q.timeout, nil
}

// asked is what the details of Ask say.
type asked struct {
	*worker.Prompt
	timeout *time.Duration
}

type detail func(q *asked, name string, v dbus.Variant) error

// askDetails are the details of Ask.
var askDetails = map[string]detail{
	api.DetailChoices: of("an array of strings", worker.Style_STYLE_CHOICE, setChoices),
	api.DetailBinary:  of("a string", worker.Style_STYLE_BINARY, setBinary),
	api.DetailTimeout: of("a uint64, in microseconds", 0, setWait),
	api.DetailPhase:   of("a string", 0, setPhase),
	api.DetailAttempt: of("a uint32", 0, setAttempt),
}

// of makes a detail of a function that takes a value of one type. A style means that
// only questions of that style have it.
func of[T any](what string, style worker.Style, set func(*asked, T) error) detail {
	return func(q *asked, name string, v dbus.Variant) error {
		value, ok := v.Value().(T)
		if !ok {
			return invalid("detail %s is %s, not of type %q", name, what, v.Signature().String())
		}
		if style != 0 && q.Style != style {
			return invalid("detail %s is of style %s, not of %s", name, styleName(style), styleName(q.Style))
		}
		if err := set(q, value); err != nil {
			return invalid("detail %s %v", name, err)
		}
		return nil
	}
}

func setChoices(q *asked, choices []string) error {
	if len(choices) == 0 || len(choices) > worker.MaxChoices {
		return fmt.Errorf("has %d entries, 1 to %d are allowed", len(choices), worker.MaxChoices)
	}
	for _, choice := range choices {
		if choice == "" || len(choice) > worker.MaxString {
			return fmt.Errorf("has an entry of %d bytes, 1 to %d are allowed", len(choice), worker.MaxString)
		}
	}
	q.Choices = choices
	return nil
}

func setBinary(q *asked, text string) error {
	if most := base64.StdEncoding.EncodedLen(worker.MaxBinary); len(text) > most {
		return fmt.Errorf("is %d bytes long, at most %d are allowed", len(text), most)
	}
	packet, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return errors.New("is no base64")
	}
	if err := libpamc.Check(packet); err != nil {
		return fmt.Errorf("is no packet: %w", err)
	}
	q.Binary = packet
	return nil
}

func setWait(q *asked, usec uint64) error {
	if usec > uint64(maxTimeout/time.Microsecond) {
		return errors.New("is over a year: 0 waits for ever")
	}
	timeout := time.Duration(usec) * time.Microsecond
	q.timeout = &timeout
	return nil
}

// phaseWords are the words for phases.
var phaseWords = func() map[string]worker.Phase {
	words := make(map[string]worker.Phase)
	for number := range worker.Phase_name {
		if phase := worker.Phase(number); phase != worker.Phase_PHASE_UNSPECIFIED {
			words[phase.Word()] = phase
		}
	}
	return words
}()

func setPhase(q *asked, word string) error {
	phase, known := phaseWords[word]
	if !known {
		words := sortedKeys(phaseWords)
		slices.SortFunc(words, func(a, b string) int { return int(phaseWords[a] - phaseWords[b]) })
		return fmt.Errorf("is %s, which is none of %s", quote(word), strings.Join(words, ", "))
	}
	q.Phase = phase
	return nil
}

func setAttempt(q *asked, n uint32) error {
	if n == 0 {
		return errors.New("is 0, and attempts are counted from 1")
	}
	q.Attempt = n
	return nil
}
