// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

// Session is one PAM session of the broker.
type Session struct {
	client *Client
	id     uint64
	path   dbus.ObjectPath
}

// Session is the session with this number, whether it exists or not.
func (c *Client) Session(id uint64) *Session {
	return &Session{client: c, id: id, path: dbus.ObjectPath(SessionPrefix + strconv.FormatUint(id, 10))}
}

// ID is the session's number.
func (s *Session) ID() uint64 { return s.id }

// Path is the session's D-Bus object.
func (s *Session) Path() dbus.ObjectPath { return s.path }

// call calls a method on the session's object.
func (s *Session) call(ctx context.Context, method string, args ...any) *dbus.Call {
	return s.client.call(ctx, s.path, method, args...)
}

// fault is the function fault, and knows what a missing object is.
func (s *Session) fault(call string, err error) error {
	if unknownObject(err) {
		return &Error{Code: NoSuchSession, Text: fmt.Sprintf("there is no session %d", s.id)}
	}
	return fault(call, err)
}

// Properties are what the broker says of a session at one moment.
type Properties struct {
	ID           uint64    `json:"session"`
	Service      string    `json:"service"`
	User         string    `json:"user"`
	UID          *uint32   `json:"uid,omitempty"` // nil while NSS has not named one
	OwnerUID     uint32    `json:"owner-uid"`
	OwnerPID     uint32    `json:"owner-pid"`
	State        string    `json:"state"`
	PAMResult    int32     `json:"pam-result"`
	ResultText   string    `json:"result-text,omitempty"`
	Environment  []string  `json:"environment"` // NAME=value, as PAM left it
	Leader       uint32    `json:"leader,omitempty"`
	ExitStatus   int32     `json:"exit-status"`           // of the command: 0 to 255, 128 and the signal, or -1 while it runs and without one
	ExitSignal   int32     `json:"exit-signal,omitempty"` // that ended the command; 0 if none did
	Linger       bool      `json:"linger"`
	Conversation bool      `json:"conversation,omitempty"` // of a program that runs PAM itself
	OpenedAt     time.Time `json:"opened-at,omitzero"`     // zero if it never was open

	Alternatives []string `json:"alternatives,omitempty"` // services beside Service of which one opens it
	UsedService  string   `json:"used-service,omitempty"` // the one that does, or Service; empty while that is not decided
}

// noUID is what the property UID says as long as there is none: (uid_t) -1.
const noUID = ^uint32(0)

// Properties asks for all properties at once.
func (s *Session) Properties(ctx context.Context) (Properties, error) {
	var all map[string]dbus.Variant
	err := s.call(ctx, driver+".Properties.GetAll", SessionInterface).Store(&all)
	if err != nil {
		return Properties{}, s.fault("GetAll", err)
	}
	p := Properties{
		ID: value[uint64](all, "Id"), Service: value[string](all, "Service"), User: value[string](all, "User"),
		OwnerUID: value[uint32](all, "OwnerUID"), OwnerPID: value[uint32](all, "OwnerPID"),
		State: value[string](all, "State"), PAMResult: value[int32](all, "PAMResult"),
		ResultText: value[string](all, "ResultText"), Environment: value[[]string](all, "Environment"),
		Leader: value[uint32](all, "Leader"), ExitStatus: value[int32](all, "ExitStatus"),
		ExitSignal: value[int32](all, "ExitSignal"),
		Linger:     value[bool](all, "Linger"), Conversation: value[bool](all, "Conversation"),

		Alternatives: value[[]string](all, "Alternatives"), UsedService: value[string](all, "UsedService"),
	}
	if uid := optional[uint32](all, "UID"); uid != nil && *uid != noUID {
		p.UID = uid
	}
	if usec := value[uint64](all, "OpenedAt"); usec != 0 {
		p.OpenedAt = time.UnixMicro(int64(usec))
	}
	return p, nil
}

// Err is why the session failed, as *Error; nil if it did not.
func (p Properties) Err() error {
	if p.State != StateFailed {
		return nil
	}
	if known := ParseResult(p.ResultText); known != nil {
		return known
	}
	return &Error{Code: PAMFailed, Text: fmt.Sprintf("session %d failed with PAM result %d: %q", p.ID, p.PAMResult, p.ResultText)}
}

// Ended reports whether the session is over.
func (p Properties) Ended() bool { return p.State == StateClosed || p.State == StateFailed }

// reached says whether a wait for state is over, and with what.
func (p Properties) reached(state string) (bool, error) {
	switch {
	case p.State == state, state == StateOpen && !p.OpenedAt.IsZero():
		return true, nil
	case p.State == StateFailed:
		return true, p.Err()
	case p.State == StateClosed && state == StateOpen:
		return true, &Error{Code: Cancelled, Text: fmt.Sprintf("session %d was closed before it opened", p.ID)}
	default:
		return p.State == StateClosed, nil
	}
}

// Exited reports whether the command of the session has ended, and it is known how.
func (p Properties) Exited() bool { return p.ExitStatus >= 0 && !p.OpenedAt.IsZero() }

// exited says whether a wait for the end of the command is over, and with what.
func (p Properties) exited() (bool, error) {
	switch {
	case p.State == StateFailed:
		return true, p.Err()
	case p.Exited():
		return true, nil
	case p.State == StateClosed:
		return true, &Error{Code: Cancelled, Text: fmt.Sprintf("session %d was closed, and how its command ended is not known", p.ID)}
	}
	return false, nil
}

// settle is how long after a start of the broker a session that it does not
// know may still be reported by its worker, which dials again every second.
const settle = 5 * time.Second

// Wait waits until the session has reached a state: StateOpen (it is or was
// open), StateClosing or StateClosed. It fails with the *Error that the
// session failed with, or with Cancelled when it was closed before it opened.
// It goes on waiting while the broker is started again.
func (s *Session) Wait(ctx context.Context, state string) error {
	if state != StateOpen && state != StateClosing && state != StateClosed {
		return &Error{Code: InvalidArgument, Text: fmt.Sprintf("cannot wait for state %q: open, closing or closed", state)}
	}
	_, err := s.until(ctx, func(p Properties) (bool, error) { return p.reached(state) })
	return err
}

// WaitExit waits until the command of the session has ended, and returns the
// properties as they are then, with ExitStatus and ExitSignal. Other processes of
// the session may run on, and PAM is not closed yet. It fails with the *Error that
// the session failed with, and with Cancelled when nobody knows how the command
// ended. Like Wait it goes on while the broker is started again.
func (s *Session) WaitExit(ctx context.Context) (Properties, error) {
	return s.until(ctx, Properties.exited)
}

// until looks at the session at every change, until over says so.
func (s *Session) until(ctx context.Context, over func(Properties) (bool, error)) (Properties, error) {
	w, done := s.client.wait(s.path)
	defer done()
	for {
		p, err := s.Properties(ctx)
		if errors.Is(err, NoSuchSession) {
			// The broker forgets a session that has ended when its owner leaves.
			if last, ended := s.client.noted(w); ended {
				p, err = last, nil
			}
		}
		if err == nil {
			if over, result := over(p); over {
				return p, result
			}
		}
		patience, err := s.client.patience(err)
		if err != nil {
			return Properties{}, err
		}
		select {
		case <-w.hint:
		case <-patience:
		case <-ctx.Done():
			return Properties{}, ctx.Err()
		case <-s.client.ended:
			return Properties{}, fmt.Errorf("%w: it was closed", ErrNoBus)
		}
	}
}

func isNoBroker(err error) bool { return errors.Is(err, ErrNoBroker) }

// patience says how long to wait for a hint after err: without end while
// nothing is wrong or the broker is away for a moment, and until the workers
// have dialled again after it came back. It returns err when waiting is no use.
func (c *Client) patience(err error) (<-chan time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil, isNoBroker(err) && c.broker.seen:
		return nil, nil
	case errors.Is(err, NoSuchSession) && !c.broker.since.IsZero():
		if left := time.Until(c.broker.since.Add(settle)); left > 0 {
			return time.After(left), nil
		}
	}
	return nil, err
}

// Kill sends a signal to processes of the session, whose target is KillLeader,
// KillGroup or KillAll. Those of a command that has ended get none, which is no
// error. It returns when the broker has passed it on.
func (s *Session) Kill(ctx context.Context, target string, signal syscall.Signal) error {
	return s.fault("Kill", s.call(ctx, SessionInterface+".Kill", target, int32(signal)).Err)
}

// Close ends the session, whatever its state, and returns when the broker has
// taken that up. Wait(ctx, StateClosed) waits until PAM has unwound.
func (s *Session) Close(ctx context.Context) error {
	return s.fault("Close", s.call(ctx, SessionInterface+".Close").Err)
}
