// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/api/transport"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	// maxCalls bounds how many calls of one connection are in flight.
	// dbus-daemon allows 128 of its own; dbus-broker has no such limit.
	maxCalls = 256
	// lookupTimeout bounds the question to the bus who a caller is.
	lookupTimeout = 20 * time.Second
)

// Call is one method call. Path, Interface, Member and Signature are as
// received; Interface may be empty.
type Call struct {
	Caller    *Peer
	Path      dbus.ObjectPath
	Interface string
	Member    string
	Signature string
	Args      []any // as godbus decodes them; `h` is a dbus.UnixFDIndex
	// Interactive says that the caller can wait while somebody is asked whether
	// it may (ALLOW_INTERACTIVE_AUTHORIZATION of the D-Bus Specification).
	Interactive bool

	fds  []int
	sent uint32 // how many of them the message says there are
}

// Handler answers a call with the values of the reply. An *os.File among them is a
// descriptor, of type `h`, which is closed when it is sent, or cannot be. An *api.Error or a
// dbus.Error goes to the caller as it is; of any other error the caller
// learns nothing, and the journal all.
type Handler func(context.Context, *Call) ([]any, error)

// Descriptor returns the descriptor that an argument of type `h` means. It
// stays the call's: it is closed when the handler returns.
func (c *Call) Descriptor(index dbus.UnixFDIndex) (int, error) {
	if int(index) >= len(c.fds) && uint32(index) < c.sent {
		// The kernel drops those for which there is no room (MSG_CTRUNC).
		return -1, errNoDescriptors
	}
	if int(index) >= len(c.fds) {
		return -1, &api.Error{Code: api.InvalidArgument, Text: "the message has no descriptor of that index"}
	}
	return c.fds[index], nil
}

// errNoDescriptors is what callers hear of EMFILE: it passes.
var errNoDescriptors = &api.Error{Code: api.LimitExceeded, Text: "the broker has too many open files: try again when sessions or prompts have ended"}

// errNoMemory is what callers hear when no memory can be locked: it passes.
var errNoMemory = &api.Error{Code: api.LimitExceeded, Text: "the broker can lock no memory for the answer (RLIMIT_MEMLOCK): try again later"}

// shortages have the log told of each at most once a minute: callers try again.
type shortages struct{ files, memory *rate.Limiter }

func newShortages() shortages {
	every := rate.Every(time.Minute)
	return shortages{files: rate.NewLimiter(every, 1), memory: rate.NewLimiter(every, 1)}
}

// calls keeps what a call needs between its arrival and its handler.
type calls struct {
	mu       sync.Mutex
	fds      map[*dbus.Message][]int
	replies  map[uint32][]int              // of replies that peers.go waits for, by the serial of the call
	leaving  map[dbus.UnixFDIndex]*os.File // of replies that are not sent yet, by what stands for it in the body
	left     dbus.UnixFDIndex              // the last of these
	inFlight map[string]int
}

func (c *calls) init() {
	c.fds, c.replies, c.inFlight = make(map[*dbus.Message][]int), make(map[uint32][]int), make(map[string]int)
	c.leaving = make(map[dbus.UnixFDIndex]*os.File)
}

// peerAlias stands for org.freedesktop.DBus.Peer between intercept and wrap:
// calls of that would be answered by godbus itself, without limits, and with the
// identity of the bus for that of the machine.
const peerAlias = "-peer"

// intercept runs in godbus's reader, once for every message. A method call
// will come to our wrapper, which closes its descriptors; a reply to outgoing
// to who asked; anything else must not have any.
func (c *calls) intercept(s *transport.Stream) dbus.Interceptor {
	return func(m *dbus.Message) {
		fds := s.Claim()
		if m.Type != dbus.TypeMethodCall {
			c.keepReply(m, fds)
			return
		}
		from, _ := m.Headers[dbus.FieldSender].Value().(string)
		c.enter(from)
		if m.Headers[dbus.FieldInterface].Value() == driver+".Peer" {
			m.Headers[dbus.FieldInterface] = dbus.MakeVariant(peerAlias)
		}
		if len(fds) == 0 {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fds[m] = fds
	}
}

// outgoing is where godbus tells the serial of a message before it is sent. The
// reply to a call may come at any moment from then on; a reply of ours gets its
// descriptors, of which godbus knows nothing.
func (c *calls) outgoing(s *transport.Stream) dbus.Interceptor {
	return func(m *dbus.Message) {
		switch {
		case m.Type == dbus.TypeMethodCall && m.Headers[dbus.FieldMember].Value() == getCredentials:
			c.mu.Lock()
			c.replies[m.Serial()] = nil
			c.mu.Unlock()
		case m.Type == dbus.TypeMethodReply:
			if files := c.depart(m.Body); len(files) > 0 {
				m.Headers[dbus.FieldUnixFDs] = dbus.MakeVariant(uint32(len(files)))
				s.Give(m, files...)
			}
		}
	}
}

// keepReply keeps descriptors that the bus itself sent to who asked it.
func (c *calls) keepReply(m *dbus.Message, fds []int) {
	serial, _ := m.Headers[dbus.FieldReplySerial].Value().(uint32)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, asked := c.replies[serial]; !asked || m.Type != dbus.TypeMethodReply || m.Headers[dbus.FieldSender].Value() != driver {
		transport.CloseAll(fds)
		return
	}
	c.replies[serial] = fds
}

// takeReply hands over the descriptors of a reply; the caller closes them.
// Those of one that comes later are closed.
func (c *calls) takeReply(serial uint32) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	fds := c.replies[serial]
	delete(c.replies, serial)
	return fds
}

func (c *calls) take(m *dbus.Message) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	fds := c.fds[m]
	delete(c.fds, m)
	return fds
}

func (c *calls) closePending() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for m, fds := range c.fds {
		transport.CloseAll(fds)
		delete(c.fds, m)
	}
}

// full is whether so many calls of a connection are in flight that no more is taken.
func (c *calls) full(sender []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFlight[string(sender)] >= maxCalls
}

// enter counts a call, in the reader: what comes after it is asked about then.
func (c *calls) enter(sender string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight[sender]++
}

func (c *calls) leave(sender string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inFlight[sender]--; c.inFlight[sender] == 0 {
		delete(c.inFlight, sender)
	}
}

// wrap is what every method call goes through.
func (c *Conn) wrap(m *dbus.Message, sender string) (reply []any, err error) {
	fds := c.calls.take(m)
	defer transport.CloseAll(fds)
	defer c.calls.leave(sender)
	noReply := m.Flags&dbus.FlagNoReplyExpected != 0
	defer func() {
		if noReply {
			err = nil // godbus would send it
		}
	}()
	call := &Call{Args: m.Body, Interactive: m.Flags&dbus.FlagAllowInteractiveAuthorization != 0, fds: fds}
	call.sent, _ = m.Headers[dbus.FieldUnixFDs].Value().(uint32)
	call.Path, _ = m.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	if call.Interface, _ = m.Headers[dbus.FieldInterface].Value().(string); call.Interface == peerAlias {
		call.Interface = driver + ".Peer"
	}
	call.Member, _ = m.Headers[dbus.FieldMember].Value().(string)
	if signature, ok := m.Headers[dbus.FieldSignature].Value().(dbus.Signature); ok {
		call.Signature = signature.String()
	}
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("a method panicked", "member", call.Member, "panic", r, "stack", string(debug.Stack()))
			reply, err = nil, errInternal
		}
	}()
	ctx, cancel := context.WithTimeout(c.conn.Context(), lookupTimeout)
	call.Caller, err = c.Peer(ctx, sender)
	cancel()
	if err != nil && c.conn.Context().Err() != nil {
		return nil, err // the bus has ended, which is said once
	}
	if err != nil {
		c.log.Warn("caller refused", "sender", sender, "member", call.Member, "why", err)
		return nil, &api.Error{Code: api.AccessDenied, Text: "who calls could not be established"}
	}
	if err = c.turns.wait(c.conn.Context(), call.Caller); err != nil {
		return nil, c.public(call, err)
	}
	defer c.turns.done(call.Caller)
	reply, err = c.serve(c.conn.Context(), call)
	if noReply {
		closeFiles(reply)
		reply = nil
	}
	c.calls.send(reply)
	// What the reply tells of was told by signals before: who reads that a
	// session is gone has heard how it ended.
	c.out.flush(c.conn.Context())
	return reply, c.public(call, err)
}

var errInternal = dbus.NewError("org.freedesktop.DBus.Error.Failed", []any{"internal error; the broker's log has the details"})

// public is the error that may cross the bus.
func (c *Conn) public(call *Call, err error) error {
	if err == nil {
		return nil
	}
	if own, ok := errors.AsType[*api.Error](err); ok {
		return own
	}
	if plain, ok := errors.AsType[*dbus.Error](err); ok {
		return plain
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		if c.short.files.Allow() {
			c.log.Error("a call failed for want of descriptors", "member", call.Member, "sender", call.Caller.Name, "error", err)
		}
		return errNoDescriptors
	}
	if errors.Is(err, secret.ErrNoMemory) {
		if c.short.memory.Allow() {
			c.log.Error("an answer is not taken", "member", call.Member, "sender", call.Caller.Name, "error", err)
		}
		return errNoMemory
	}
	c.log.Error("a method failed", "member", call.Member, "sender", call.Caller.Name, "error", err)
	return errInternal
}

// dispatcher makes godbus bring every call to wrap, whatever its path,
// interface and member: godbus's own look-ups leave no place to close
// descriptors when they fail.
type dispatcher struct{ c *Conn }

func (d dispatcher) LookupObject(dbus.ObjectPath) (dbus.ServerObject, bool) { return d, true }
func (d dispatcher) LookupInterface(string) (dbus.Interface, bool)          { return d, true }
func (d dispatcher) LookupMethod(string) (dbus.Method, bool)                { return d, true }

// NumArguments and the three after it are for godbus's own decoder, which
// DecodeArguments replaces.
func (d dispatcher) NumArguments() int     { return 0 }
func (d dispatcher) NumReturns() int       { return 0 }
func (d dispatcher) ArgumentValue(int) any { return nil }
func (d dispatcher) ReturnValue(int) any   { return nil }

func (d dispatcher) DecodeArguments(_ *dbus.Conn, sender string, m *dbus.Message, _ []any) ([]any, error) {
	return []any{m, sender}, nil
}

func (d dispatcher) Call(args ...any) ([]any, error) {
	return d.c.wrap(args[0].(*dbus.Message), args[1].(string))
}
