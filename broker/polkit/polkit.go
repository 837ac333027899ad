// SPDX-License-Identifier: Apache-2.0

// Package polkit asks polkit whether somebody may do something
// (org.freedesktop.PolicyKit1.Authority, polkit(8)). Anything but a clear yes in
// time is a no: polkit that cannot be reached, is slow, fails, or would first
// have to ask somebody whom nobody offered to ask. Which of these are polkit's own
// word is told apart (Undecided) for those who may ask again.
//
//	polkit.go  questions and answers
//	health.go  whether polkit answers at all
package polkit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/broker/bus"
)

const (
	service   = "org.freedesktop.PolicyKit1"
	path      = dbus.ObjectPath("/org/freedesktop/PolicyKit1/Authority")
	authority = "org.freedesktop.PolicyKit1.Authority"

	// allowInteraction is AllowUserInteraction of CheckAuthorizationFlags.
	allowInteraction = 1
	// maxChecks is how many questions of one uid may wait. polkit deals with one at
	// a time, and has no more than one of a uid that asks nobody: the others' turn
	// must come.
	maxChecks = 16
)

// How long an answer may take: polkit's own, and somebody's who has to look for
// a password first.
const (
	timeout            = 5 * time.Second
	interactiveTimeout = 2 * time.Minute
)

// Reasons of a refusal. They are for the log: whoever asked must not hear them,
// or it could tell what exists from what does not.
var (
	ErrNo        = errors.New("polkit does not allow it")
	ErrChallenge = errors.New("polkit would ask somebody first, and the caller did not allow that")
	ErrTooMany   = fmt.Errorf("%d questions of this uid wait for polkit already", maxChecks)
	ErrLeft      = errors.New("the caller has left the bus")
	ErrSlow      = errors.New("polkit did not answer in time")
	ErrAway      = errors.New("polkit could not be reached")
	ErrDetails   = errors.New("polkit would ask somebody first, but only because of details that must not show")
)

// Undecided reports whether an error of Check is no word of polkit's: it is away, was
// slow, or had no time for the question. That is a no as well, but the same question
// may have another answer later, though nothing has changed that polkit tells of.
func Undecided(err error) bool {
	return errors.Is(err, ErrAway) || errors.Is(err, ErrSlow) || errors.Is(err, ErrTooMany)
}

// Question is what polkit is asked. The subject is the caller's connection to
// the bus (system-bus-name): polkit looks itself who that is.
type Question struct {
	Caller      *bus.Peer
	Action      string            // org.pamprompt.*, of the file of actions
	Details     map[string]string // for rules and for the texts of the action
	Interactive bool              // somebody may be asked for a password
	// Private says that the caller did not say the details itself. Whoever asks
	// for the password may be a program of the caller's own, which sees them in
	// a message with $(service) and in the choice of a rule of the administrator
	// (addAdminRule) of who may give the password.
	Private bool
}

// Authority asks. Its methods may be called from any goroutine.
type Authority struct {
	bus    *bus.Conn
	health health

	mu     sync.Mutex
	checks map[uint32]int           // under way, by uid
	turns  map[uint32]chan struct{} // of one question at a time, by uid
	serial uint64                   // of the last cancellation id
}

// New returns an Authority on a bus. It does not connect to anything.
func New(c *bus.Conn, log *slog.Logger) *Authority {
	return &Authority{bus: c, health: newHealth(log), checks: make(map[uint32]int), turns: make(map[uint32]chan struct{})}
}

// Check returns nil if polkit says yes, else why not; within 5 seconds, or 2
// minutes if somebody may be asked, and at once when the caller leaves the bus.
func (a *Authority) Check(ctx context.Context, q Question) error {
	if q.Caller.Left() {
		return ErrLeft
	}
	if !a.enter(q.Caller.UID) {
		return ErrTooMany
	}
	defer a.leave(q.Caller.UID)
	if !q.Interactive || !q.Private {
		return a.once(ctx, q)
	}
	// Rules may say yes or no by the details. If it takes a password, they are
	// left out of the question, and must not be why it does.
	silent, blank := q, q
	silent.Interactive = false
	if err := a.once(ctx, silent); !errors.Is(err, ErrChallenge) {
		return err
	}
	blank.Details = make(map[string]string)
	for name := range q.Details {
		blank.Details[name] = ""
	}
	silent.Details = blank.Details
	switch err := a.once(ctx, silent); {
	case err == nil:
		return ErrDetails
	case !errors.Is(err, ErrChallenge):
		return err
	}
	return a.once(ctx, blank)
}

// once asks one question.
func (a *Authority) once(ctx context.Context, q Question) error {
	limit := timeout
	var flags uint32
	if q.Interactive {
		limit, flags = interactiveTimeout, allowInteraction
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, ErrSlow)
	defer cancel()
	ctx, left := context.WithCancelCause(ctx)
	defer left(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-q.Caller.Gone():
			left(ErrLeft)
		case <-ctx.Done():
		}
	}()
	err := a.inTurn(ctx, q, flags)
	left(nil)
	<-watched
	if err == nil && q.Caller.Left() {
		err = ErrLeft // and its name is nobody's: CVE-2021-3560
	}
	return err
}

// inTurn asks when no other question of the uid is with polkit. One for which
// somebody looks for a password has no turn: it would hold the others up.
func (a *Authority) inTurn(ctx context.Context, q Question, flags uint32) error {
	if flags&allowInteraction == 0 {
		a.mu.Lock()
		turn := a.turns[q.Caller.UID]
		a.mu.Unlock()
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err := a.ask(ctx, q, flags)
	// Somebody who looks for a password may take their time.
	if flags&allowInteraction == 0 || !errors.Is(err, ErrSlow) {
		a.health.note(err)
	}
	return err
}

// subject is a polkit subject, (sa{sv}).
type subject struct {
	Kind    string
	Details map[string]dbus.Variant
}

// result is an AuthorizationResult, (bba{ss}).
type result struct {
	Authorized, Challenge bool
	Details               map[string]string
}

func (a *Authority) ask(ctx context.Context, q Question, flags uint32) error {
	who := subject{"system-bus-name", map[string]dbus.Variant{"name": dbus.MakeVariant(q.Caller.Name)}}
	details := q.Details
	if details == nil {
		details = map[string]string{}
	}
	id := a.cancellation()
	var r result
	err := a.bus.Call(ctx, service, path, authority+".CheckAuthorization",
		[]any{who, q.Action, details, flags, id}, []any{&r})
	switch {
	case ctx.Err() != nil:
		// A dialog must not stay on somebody's screen.
		a.bus.Tell(service, path, authority+".CancelCheckAuthorization", id)
		return context.Cause(ctx)
	case isAway(err):
		return fmt.Errorf("%w: %w", ErrAway, err)
	case err != nil:
		return fmt.Errorf("ask polkit: %w", err)
	case r.Authorized:
		return nil
	case r.Challenge:
		return ErrChallenge
	}
	return ErrNo
}

// cancellation is an id that only this connection can use, and has not used.
func (a *Authority) cancellation() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	return "pamprompt-" + strconv.FormatUint(a.serial, 10)
}

func (a *Authority) enter(uid uint32) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.checks[uid] >= maxChecks {
		return false
	}
	if a.checks[uid]++; a.turns[uid] == nil {
		a.turns[uid] = make(chan struct{}, 1)
	}
	return true
}

func (a *Authority) leave(uid uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.checks[uid]--; a.checks[uid] == 0 {
		delete(a.checks, uid)
		delete(a.turns, uid)
	}
}

// Watch has changed run whenever polkit says that its answers may be others now
// (rules, actions, or who sits in front of the machine), and whenever it has come to
// the bus: of what it could not be asked before it knows by then. Anybody may send
// such a signal, so that it costs changed must be bounded by changed. It must not
// block.
func (a *Authority) Watch(ctx context.Context, changed func()) error {
	return a.bus.Listen(ctx, service, path, authority+".Changed", changed)
}
