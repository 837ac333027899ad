// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/godbus/dbus/v5"
	"golang.org/x/time/rate"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/transport"
)

// maxMessage bounds a message, in bytes. The largest that has a use is an
// answer of 64 KiB or an environment of the same size.
const maxMessage = 1 << 20

const driver = "org.freedesktop.DBus"

// ErrNameTaken says that another connection owns the name.
var ErrNameTaken = errors.New("the name is owned by another connection")

// Conn is a connection that serves calls. Its methods may be called from
// several goroutines.
type Conn struct {
	conn   *dbus.Conn
	stream *transport.Stream
	log    *slog.Logger
	serve  Handler
	id     string // of the bus
	peers  peers
	calls  calls
	out    outbox
	turns  turns
	loud   *rate.Limiter // of refusals that the log is told
	short  shortages
	hint   atomic.Pointer[hint] // nil while nobody listens
}

// Options of Dial.
type Options struct {
	Handler Handler     // answers every method call
	Gone    func(*Peer) // a peer that was looked up has left the bus; must not block
	Log     *slog.Logger
}

// Dial connects to the bus at a D-Bus address list. The caller closes the
// Conn; calls are served from the moment it returns.
func Dial(ctx context.Context, address string, o Options) (*Conn, error) {
	c := &Conn{log: o.Log, serve: o.Handler, turns: newTurns(), loud: rate.NewLimiter(toldRefusals, toldRefusals), short: newShortages()}
	s, err := transport.Dial(ctx, address, transport.Options{MaxMessage: maxMessage, Descriptors: true, Admit: c.admit, Refused: c.refuse})
	if err != nil {
		return nil, err
	}
	c.stream = s
	c.peers.init(c, o.Gone)
	c.calls.init()
	c.out.init()
	conn, err := dbus.NewConn(s,
		dbus.WithHandler(dispatcher{c}), dbus.WithSignalHandler(signals{c}), dbus.WithIncomingInterceptor(c.calls.intercept(s)),
		dbus.WithOutgoingInterceptor(c.calls.outgoing(s)))
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	c.conn = conn
	if err := c.introduce(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	go c.out.run(conn)
	return c, nil
}

func (c *Conn) introduce(ctx context.Context) error {
	// Auth and Hello know no context: a bus that does not answer is left.
	defer context.AfterFunc(ctx, func() { _ = c.conn.Close() })()
	if err := c.conn.Auth(nil); err != nil {
		return fmt.Errorf("authenticate with the bus: %w", err)
	}
	if err := c.conn.Hello(); err != nil {
		return fmt.Errorf("say hello to the bus: %w", err)
	}
	if err := c.conn.BusObject().CallWithContext(ctx, driver+".GetId", 0).Store(&c.id); err != nil {
		return fmt.Errorf("ask the bus for its id: %w", err)
	}
	// One rule for everybody who leaves, instead of one for each caller: it
	// is there before the first caller is looked up, so nobody slips through,
	// and a script's call does not cost two more round trips.
	if err := c.conn.BusObject().CallWithContext(ctx, driver+".AddMatch", 0, ownerChanged+",arg2=''").Err; err != nil {
		return fmt.Errorf("watch who leaves the bus: %w", err)
	}
	return nil
}

// ID is the identity of the bus (org.freedesktop.DBus.GetId): unique names
// mean something only together with it.
func (c *Conn) ID() string { return c.id }

// Own takes a well-known name, or fails with ErrNameTaken or what the bus says.
func (c *Conn) Own(ctx context.Context, name string) error {
	var reply uint32
	err := c.conn.BusObject().CallWithContext(ctx, driver+".RequestName", 0, name, uint32(dbus.NameFlagDoNotQueue)).Store(&reply)
	if err != nil {
		return err
	}
	if r := dbus.RequestNameReply(reply); r != dbus.RequestNameReplyPrimaryOwner && r != dbus.RequestNameReplyAlreadyOwner {
		return ErrNameTaken
	}
	return nil
}

// Property asks another service, if it runs, for a property that is a string.
func (c *Conn) Property(ctx context.Context, name string, path dbus.ObjectPath, iface, property string) (string, error) {
	var value dbus.Variant
	call := c.conn.Object(name, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, iface, property)
	if err := call.Store(&value); err != nil {
		return "", err
	}
	text, ok := value.Value().(string) // Store makes a letter of a number
	if !ok {
		return "", fmt.Errorf("property %s of %s is no string", property, name)
	}
	return text, nil
}

// Call calls a method of another service, which is started if it can be, and
// stores the reply's values. It fails with what the service says (a dbus.Error),
// and when the context ends, whatever becomes of the call then.
func (c *Conn) Call(ctx context.Context, name string, path dbus.ObjectPath, method string, args, reply []any) error {
	return c.conn.Object(name, path).CallWithContext(ctx, method, 0, args...).Store(reply...)
}

// Tell calls a method of another service and does not wait for a reply.
func (c *Conn) Tell(name string, path dbus.ObjectPath, method string, args ...any) {
	c.conn.Object(name, path).Go(method, dbus.FlagNoReplyExpected|dbus.FlagNoAutoStart, nil, args...)
}

// Listen has f run whenever a service sends a signal of that name
// (interface.member), and whenever the service's name has got an owner: the service
// has come, or come again. Anybody may send us such a signal: it is a hint to look
// again, and no more. That there is an owner only the bus can say. f runs in the
// reader and must not block. Listen may be called once.
func (c *Conn) Listen(ctx context.Context, service string, path dbus.ObjectPath, signal string, f func()) error {
	c.hint.Store(&hint{service, signal, f})
	dot := strings.LastIndexByte(signal, '.')
	for _, rule := range []string{
		fmt.Sprintf("type='signal',sender='%s',path='%s',interface='%s',member='%s'", service, path, signal[:dot], signal[dot+1:]),
		ownerChanged + ",arg0='" + service + "'",
	} {
		if err := c.conn.BusObject().CallWithContext(ctx, driver+".AddMatch", 0, rule).Err; err != nil {
			return err
		}
	}
	return nil
}

// ownerChanged is a match rule for what the bus says of all names.
const ownerChanged = "type='signal',sender='" + driver + "',path='/org/freedesktop/DBus',interface='" + driver + "',member='NameOwnerChanged'"

// hint is a service that is listened to.
type hint struct {
	service string
	name    string // of its signal
	f       func()
}

// Done is closed when the connection is lost or closed.
func (c *Conn) Done() <-chan struct{} { return c.conn.Context().Done() }

// Close ends the connection. Calls in flight go on and their replies are lost.
func (c *Conn) Close() error {
	err := c.conn.Close()
	c.calls.closePending()
	c.peers.close()
	return err
}

// Signal is a signal to send: to everybody when Dest is empty.
type Signal struct {
	Dest   string
	Path   dbus.ObjectPath
	Name   string // interface.member
	Values []any
}

// Send queues a signal and never blocks; signals leave in the order of the
// calls. The text in it must be UTF-8 without NUL.
func (c *Conn) Send(s Signal) {
	dot := strings.LastIndexByte(s.Name, '.')
	m := &dbus.Message{Type: dbus.TypeSignal, Body: s.Values, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldInterface: dbus.MakeVariant(s.Name[:dot]),
		dbus.FieldMember:    dbus.MakeVariant(s.Name[dot+1:]),
		dbus.FieldPath:      dbus.MakeVariant(s.Path),
	}}
	if s.Dest != "" {
		m.Headers[dbus.FieldDestination] = dbus.MakeVariant(s.Dest)
	}
	if len(s.Values) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(s.Values...))
	}
	c.out.put(m)
}

// WaitRoom waits while so much is queued that whoever adds to it should wait.
// Neither the owner of the broker's state nor a method may.
func (c *Conn) WaitRoom() { c.out.room(c.conn.Context()) }

// toldRefusals is how many refusals the log is told in a second.
const toldRefusals = 10

// tooMany is why a call is not admitted.
var tooMany = fmt.Sprintf("over %d calls of this connection are in flight", maxCalls)

// admit is asked before a message is decoded. Signals that nobody listens to, and
// calls without end that want no reply, are what the bus does not bound: they must
// not stand in the way of others' messages.
func (c *Conn) admit(h transport.Header, from transport.Origin) (why string, ok bool) {
	switch h.Type {
	case dbus.TypeSignal:
		hint := c.hint.Load()
		return "", string(from.Sender) == driver || hint != nil && hint.name == string(from.Interface)+"."+string(from.Member)
	case dbus.TypeMethodCall:
		if c.calls.full(from.Sender) {
			return tooMany, false
		}
	}
	return "", true
}

// refuse answers a call that never reached godbus. It runs in the reader.
func (c *Conn) refuse(h transport.Header, from, why string) {
	if c.loud.Allow() {
		c.log.Warn("message refused", "sender", from, "why", why)
	}
	if h.Type != dbus.TypeMethodCall || h.Flags&dbus.FlagNoReplyExpected != 0 || from == "" || c.out.crowded() {
		return
	}
	name := "org.freedesktop.DBus.Error.LimitsExceeded"
	if why == tooMany {
		name = api.ErrorPrefix + string(api.LimitExceeded)
	}
	c.out.put(&dbus.Message{Type: dbus.TypeError, Body: []any{why}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(from),
		dbus.FieldErrorName:   dbus.MakeVariant(name),
		dbus.FieldReplySerial: dbus.MakeVariant(h.Serial),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(why)),
	}})
}

// signals takes what the bus itself says, and the one signal of Listen.
type signals struct{ c *Conn }

// DeliverSignal runs in the reader and must not block.
func (s signals) DeliverSignal(iface, name string, signal *dbus.Signal) {
	h := s.c.hint.Load()
	if h != nil && signal.Name == h.name {
		h.f()
		return
	}
	if signal.Sender != driver || iface != driver {
		return
	}
	switch name {
	case "NameOwnerChanged":
		if len(signal.Body) != 3 {
			return
		}
		who, _ := signal.Body[0].(string)
		owner, _ := signal.Body[2].(string)
		switch {
		case strings.HasPrefix(who, ":") && owner == "":
			s.c.peers.left(who)
		case h != nil && who == h.service && owner != "":
			h.f()
		}
	case "NameLost":
		if len(signal.Body) == 1 && signal.Body[0] != s.c.conn.Names()[0] {
			s.c.log.Error("the bus took our name away", "name", signal.Body[0])
			go func() { _ = s.c.conn.Close() }()
		}
	}
}
