// SPDX-License-Identifier: Apache-2.0

// Package conv lets a Go program that runs PAM with github.com/msteinert/pam have the
// questions of its modules answered through the broker, by whoever may:
//
//	handler := conv.New(client, "cron", user, conv.Options{Reason: "job 7"})
//	defer handler.Close()
//	transaction, err := pam.Start("cron", user, handler)
//
// PAM runs in the program; only questions and texts leave it. The package links libpam,
// which package api does not. It refuses to keep answers: each is in locked memory, and
// is wiped when the module asks again or with Wipe.
package conv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/msteinert/pam/v2"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/libpamc"
	"github.com/pamprompt/pamprompt/api/secret"
)

// radioType is PAM_RADIO_TYPE, which msteinert/pam has no name for.
const radioType pam.Style = 5

// Options of New.
type Options struct {
	Reason      string          // shown to whoever answers, as the program's words
	Timeout     time.Duration   // how long each question waits; 0 is for ever
	AskPassword string          // as api.ConversationOptions has it
	PID         int             // on whose behalf, for root alone; 0 is the program
	Context     context.Context // its end fails every question; nil is none
}

// Handler is a pam.BinaryConversationHandler. It serves one transaction at a time; its
// methods may be called from several goroutines.
type Handler struct {
	client        *api.Client
	service, user string
	options       Options
	over          context.Context
	end           context.CancelFunc

	mu           sync.Mutex
	conversation *api.Conversation // nil before the first message
	phase        string
	attempt      uint32
	err          error // of the last message that failed
	// lent is the answer that libpam was given last. msteinert/pam copies it after the
	// handler has returned, so it is wiped when the module asks again, not before.
	lent *secret.Secret
}

var _ pam.BinaryConversationHandler = (*Handler)(nil)

// New makes a handler for a transaction about user, in the name of service. Its
// conversation is opened with the first message, and opened anew when the broker has
// ended: then a question that waited is put again. The client stays the caller's.
func New(client *api.Client, service, user string, o Options) *Handler {
	h := &Handler{client: client, service: service, user: user, options: o}
	if o.Context == nil {
		o.Context = context.Background()
	}
	h.over, h.end = context.WithCancel(o.Context)
	return h
}

// SetPhase says what PAM does from now on, for whoever answers: one of authenticate,
// account, change-token, credentials, session, close-session, delete-credentials; and
// which attempt at authentication it is, from 1, or 0 for none.
func (h *Handler) SetPhase(phase string, attempt uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase, h.attempt = phase, attempt
}

// Err is why the last question had no answer: PAM says no more than PAM_CONV_ERR. It is
// nil after one that had.
func (h *Handler) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// Wipe overwrites the answer that libpam had last. Call it after each call of PAM.
func (h *Handler) Wipe() { h.lend(nil) }

// Close fails what is asked, wipes and ends the conversation.
func (h *Handler) Close() error {
	h.end()
	h.Wipe()
	h.mu.Lock()
	v := h.conversation
	h.conversation = nil
	h.mu.Unlock()
	if v == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := v.Close(ctx); err != nil && !errors.Is(err, api.ErrNoBroker) {
		return err
	}
	return nil
}

// RespondPAM is called for every message but binary ones.
func (h *Handler) RespondPAM(style pam.Style, text string) (string, error) {
	switch style {
	case pam.TextInfo:
		return "", h.tell(api.StyleInfo, text)
	case pam.ErrorMsg:
		return "", h.tell(api.StyleError, text)
	case pam.PromptEchoOff:
		return h.askText(api.StyleSecret, text)
	case pam.PromptEchoOn:
		return h.askText(api.StyleVisible, text)
	case radioType:
		return h.askText(api.StyleChoice, text)
	}
	return "", h.failed(fmt.Errorf("a module's message has the style %d, which pam_conv(3) does not know", style))
}

// RespondPAMBinary is called for PAM_BINARY_PROMPT.
func (h *Handler) RespondPAMBinary(p pam.BinaryPointer) ([]byte, error) {
	h.lend(nil)
	packet, err := libpamc.Copy(unsafe.Pointer(p))
	if err != nil {
		return nil, h.failed(err)
	}
	text, err := h.ask(api.Question{Style: api.StyleBinary, Binary: packet})
	if err != nil {
		return nil, h.failed(err)
	}
	defer text.Wipe()
	answer, err := libpamc.Decode(text.Bytes())
	if err != nil {
		return nil, h.failed(err)
	}
	h.lend(answer)
	return answer.Bytes(), h.failed(nil)
}

func (h *Handler) askText(style, text string) (string, error) {
	h.lend(nil)
	answer, err := h.ask(api.Question{Style: style, Message: clean(text)})
	if err != nil {
		return "", h.failed(err)
	}
	h.lend(answer)
	// Not a copy: a string cannot be wiped, the memory under this one is.
	return unsafe.String(unsafe.SliceData(answer.Bytes()), answer.Len()), h.failed(nil)
}

// lend wipes the answer that libpam had before, and keeps the next one for it.
func (h *Handler) lend(answer *secret.Secret) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lent.Wipe()
	h.lent = answer
}

func (h *Handler) failed(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	return err
}

// tell does not fail a transaction because nobody could be told.
func (h *Handler) tell(style, text string) error {
	ctx, cancel := h.bound(grace)
	defer cancel()
	_ = h.again(ctx, func(v *api.Conversation) error { return v.Tell(ctx, style, clean(text)) })
	if err := h.over.Err(); err != nil {
		return h.failed(err)
	}
	return nil
}

// ask waits for the answer to a question; the caller wipes it.
func (h *Handler) ask(q api.Question) (answer *secret.Secret, err error) {
	h.mu.Lock()
	q.Phase, q.Attempt = h.phase, h.attempt
	h.mu.Unlock()
	var limit time.Duration
	if h.options.Timeout > 0 {
		limit = h.options.Timeout + grace
	}
	ctx, cancel := h.bound(limit)
	defer cancel()
	err = h.again(ctx, func(v *api.Conversation) error {
		_, response, err := v.Ask(ctx, q)
		if err != nil {
			return err
		}
		defer func() { _ = response.Close() }()
		answer, err = api.ReadResponse(ctx, response)
		return err
	})
	return answer, err
}

// bound is a context that ends with the handler, and after a time that is not 0.
func (h *Handler) bound(limit time.Duration) (context.Context, context.CancelFunc) {
	if limit > 0 {
		return context.WithTimeout(h.over, limit)
	}
	return context.WithCancel(h.over)
}
