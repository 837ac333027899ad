// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// ConversationOptions of Client.OpenConversation. The zero value asks for the defaults.
type ConversationOptions struct {
	Reason      string        // shown to whoever answers, as the caller's words
	Timeout     time.Duration // how long a question waits; 0 is for ever; rounded up to microseconds
	AskPassword string        // AskPasswordYes, AskPasswordNo or AskPasswordFallback
	Agent       bool          // the Client's watchers are told of the questions
	PID         int           // on whose behalf, for root alone; 0 is the caller
	UID         *uint32       // of the user, as NSS has it, for root alone; nil where it is not known
}

// Conversation is where a program that runs PAM itself puts the questions of its
// modules. It belongs to its Client, and ends with Close, with the Client and with the
// broker: then Ask and ReadResponse fail with ErrNoBroker, and a program may open
// another one and ask again. Its methods may be called from several goroutines, and any
// number of questions may wait.
type Conversation struct {
	session *Session
	broker  string // whose it is: its unique name, "" if that was not heard
}

// OpenConversation opens a conversation about user, in the name of service. It is for
// root and for whom a rule lets converse. When ctx ends first, one that the broker opens
// nevertheless is closed.
func (c *Client) OpenConversation(ctx context.Context, service, user string, o ConversationOptions) (*Conversation, error) {
	for what, text := range map[string]string{
		"service": service, "user": user, "option " + OptionReason: o.Reason, "option " + OptionAskPassword: o.AskPassword,
	} {
		if err := sendable(what, text); err != nil {
			return nil, err
		}
	}
	variants, err := o.variants()
	if err != nil {
		return nil, err
	}
	session, err := c.begin(ctx, managerCall("OpenConversation", 0, service, user, variants))
	if err != nil {
		return nil, err
	}
	return &Conversation{session, c.owner()}, nil
}

func (o ConversationOptions) variants() (map[string]dbus.Variant, error) {
	switch {
	case o.Timeout < 0:
		return nil, &Error{Code: InvalidArgument, Text: fmt.Sprintf("option timeout is negative: %v", o.Timeout)}
	case o.PID < 0 || o.PID > math.MaxInt32:
		return nil, &Error{Code: InvalidArgument, Text: fmt.Sprintf("option pid is %d, which is no process", o.PID)}
	}
	set := map[string]dbus.Variant{}
	if o.Reason != "" {
		set[OptionReason] = dbus.MakeVariant(o.Reason)
	}
	if o.AskPassword != "" {
		set[OptionAskPassword] = dbus.MakeVariant(o.AskPassword)
	}
	if o.Timeout > 0 {
		set[OptionTimeout] = dbus.MakeVariant(microseconds(o.Timeout))
	}
	if o.Agent {
		set[OptionAgent] = dbus.MakeVariant(true)
	}
	if o.PID > 0 {
		set[OptionPID] = dbus.MakeVariant(uint32(o.PID))
	}
	if o.UID != nil {
		set[OptionUID] = dbus.MakeVariant(*o.UID)
	}
	return set, nil
}

// microseconds rounds up.
func microseconds(d time.Duration) uint64 {
	return uint64((d + time.Microsecond - 1) / time.Microsecond)
}

// ID is the number of the conversation's session.
func (c *Conversation) ID() uint64 { return c.session.ID() }

// Session is the session of the conversation, which others see too.
func (c *Conversation) Session() *Session { return c.session }

// Question is what a module asks. Style is StyleSecret, StyleVisible, StyleChoice or
// StyleBinary; what is zero is not sent.
type Question struct {
	Style, Message string
	Choices        []string      // with StyleChoice; without, yes, no and maybe
	Binary         []byte        // with StyleBinary: a packet of libpamc; its answer is one in base64
	Timeout        time.Duration // how long it waits, instead of ConversationOptions.Timeout
	Phase          string        // what PAM does: authenticate, account, change-token, ...
	Attempt        uint32        // at authentication, from 1
}

func (q Question) details() (map[string]dbus.Variant, error) {
	if q.Timeout < 0 {
		return nil, &Error{Code: InvalidArgument, Text: fmt.Sprintf("detail timeout is negative: %v", q.Timeout)}
	}
	if err := sendable("detail "+DetailChoices, q.Choices...); err != nil {
		return nil, err
	}
	if err := sendable("detail "+DetailPhase, q.Phase); err != nil {
		return nil, err
	}
	set := map[string]dbus.Variant{}
	if len(q.Choices) > 0 {
		set[DetailChoices] = dbus.MakeVariant(q.Choices)
	}
	if len(q.Binary) > 0 {
		set[DetailBinary] = dbus.MakeVariant(base64.StdEncoding.EncodeToString(q.Binary))
	}
	if q.Timeout > 0 {
		set[DetailTimeout] = dbus.MakeVariant(microseconds(q.Timeout))
	}
	if q.Phase != "" {
		set[DetailPhase] = dbus.MakeVariant(q.Phase)
	}
	if q.Attempt > 0 {
		set[DetailAttempt] = dbus.MakeVariant(q.Attempt)
	}
	return set, nil
}

// Ask puts a question; the caller closes response, which ReadResponse reads. It returns
// as soon as the broker has the question. Who closes response does not wait any more:
// the question is withdrawn. LimitExceeded says that too many wait already.
func (c *Conversation) Ask(ctx context.Context, q Question) (id uint64, response *os.File, err error) {
	details, err := q.details()
	if err != nil {
		return 0, nil, err
	}
	return c.ask(ctx, q.Style, q.Message, details)
}

// Tell passes on what a module says without asking; style is StyleInfo or StyleError.
func (c *Conversation) Tell(ctx context.Context, style, text string) error {
	if style != StyleInfo && style != StyleError {
		return &Error{Code: InvalidArgument, Text: fmt.Sprintf("style %q wants an answer: Tell takes info and error", style)}
	}
	_, response, err := c.ask(ctx, style, text, map[string]dbus.Variant{})
	if err != nil {
		return err
	}
	return response.Close()
}

func (c *Conversation) ask(ctx context.Context, style, message string, details map[string]dbus.Variant) (uint64, *os.File, error) {
	if err := sendable("the style", style); err != nil {
		return 0, nil, err
	}
	if err := sendable("the message", message); err != nil {
		return 0, nil, err
	}
	m := newCall(c.session.path, SessionInterface, askMember, 0, style, message, details)
	call, fds, err := c.session.client.callForDescriptors(ctx, m)
	if err != nil {
		return 0, nil, c.fault(err)
	}
	var id uint64
	var index dbus.UnixFDIndex
	if err := call.Store(&id, &index); err != nil || len(fds) != 1 || index != 0 {
		closeAll(fds)
		return 0, nil, fmt.Errorf("the reply to Ask has %d descriptors: %w", len(fds), errors.Join(err, errReply))
	}
	// A file that does not wait is one that Go waits for without a thread.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		closeAll(fds)
		return 0, nil, fmt.Errorf("take the response: %w", err)
	}
	return id, os.NewFile(uintptr(fds[0]), "response"), nil
}

var errReply = errors.New("not what Ask replies")

// fault tells a conversation that is gone with its broker from one that somebody ended.
func (c *Conversation) fault(err error) error {
	err = c.session.fault("Ask", err)
	if (errors.Is(err, NoSuchSession) || errors.Is(err, AccessDenied)) && c.session.client.owner() != c.broker {
		return fmt.Errorf("%w: the one that had the conversation has ended: open another one", ErrNoBroker)
	}
	return err
}

// Close ends the conversation. What was asked in it is withdrawn.
func (c *Conversation) Close(ctx context.Context) error {
	err := c.session.Close(ctx)
	if errors.Is(err, NoSuchSession) || errors.Is(err, AccessDenied) && c.session.client.owner() != c.broker {
		return nil // it has ended
	}
	return err
}
