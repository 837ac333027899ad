// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"os"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api/secret"
)

// maxCalls is how many calls of ours may be unanswered at a time. The bus
// refuses the 129th, and after a restart of the broker everybody who waits for
// a session asks for its state at once.
const maxCalls = 100

// slot takes one of the slots, which the caller gives back with <-c.slots.
func (c *Client) slot(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call calls a method of an object of the broker.
func (c *Client) call(ctx context.Context, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	if err := c.slot(ctx); err != nil {
		return &dbus.Call{Err: err}
	}
	defer func() { <-c.slots }()
	return c.conn.Object(BusName, path).CallWithContext(ctx, method, 0, args...)
}

// manager calls a method of the Manager interface.
func (c *Client) manager(ctx context.Context, method string, args ...any) *dbus.Call {
	return c.call(ctx, RootPath, ManagerInterface+"."+method, args...)
}

// abandonedCall bounds a call that nobody waits for.
const abandonedCall = 10 * time.Second

// Open starts a PAM transaction for user in service and returns as soon as a
// worker has it; Session.Wait waits for its result. A service that does not
// exist is InvalidArgument. When ctx ends first, a session that the broker
// opens nevertheless is closed.
func (c *Client) Open(ctx context.Context, service, user string, options Options) (*Session, error) {
	if err := sendable("service", service); err != nil {
		return nil, err
	}
	if err := sendable("user", user); err != nil {
		return nil, err
	}
	variants, err := options.variants()
	if err != nil {
		return nil, err
	}
	for _, f := range options.Stdio {
		f.Fd() // as os/exec does: programs expect descriptors that wait
	}
	return c.begin(ctx, managerCall("OpenSession", len(options.Stdio), service, user, variants), options.Stdio...)
}

// begin sends a call that opens a session, with its descriptors.
func (c *Client) begin(ctx context.Context, m *dbus.Message, files ...*os.File) (*Session, error) {
	if err := c.slot(ctx); err != nil {
		return nil, err
	}
	c.stream.Attach(m, files...)
	call := c.conn.Send(m, make(chan *dbus.Call, 1)) // which has written it when it returns
	c.stream.Detach(m)
	select {
	case <-call.Done:
		<-c.slots
		return c.opened(call)
	case <-ctx.Done():
		c.spawn(func() { c.disown(call) })
		return nil, ctx.Err()
	}
}

func (c *Client) opened(call *dbus.Call) (*Session, error) {
	var id uint64
	var path dbus.ObjectPath
	if err := call.Store(&id, &path); err != nil {
		return nil, fault("open a session", err)
	}
	return &Session{client: c, id: id, path: path}, nil
}

// disown closes the session of an Open whose caller has gone.
func (c *Client) disown(call *dbus.Call) {
	select {
	case <-call.Done:
		<-c.slots
	case <-c.ended:
		return
	}
	session, err := c.opened(call)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), abandonedCall)
	defer cancel()
	_ = session.Close(ctx)
}

// SessionInfo is a session as a list shows it.
type SessionInfo struct {
	ID       uint64          `json:"session"`
	Service  string          `json:"service"`
	User     string          `json:"user"`
	OwnerUID uint32          `json:"owner-uid"`
	State    string          `json:"state"`
	Path     dbus.ObjectPath `json:"path"`
}

// Sessions lists the sessions that the caller may see.
func (c *Client) Sessions(ctx context.Context) ([]SessionInfo, error) {
	var list []SessionInfo
	if err := c.manager(ctx, "ListSessions").Store(&list); err != nil {
		return nil, fault("ListSessions", err)
	}
	return list, nil
}

// Prompts lists the prompts that the caller may answer.
func (c *Client) Prompts(ctx context.Context) ([]Prompt, error) {
	var list []struct {
		ID             uint64
		Session        dbus.ObjectPath
		Style, Message string
		Details        map[string]dbus.Variant
	}
	if err := c.manager(ctx, "ListPrompts").Store(&list); err != nil {
		return nil, fault("ListPrompts", err)
	}
	prompts := make([]Prompt, 0, len(list))
	for _, p := range list {
		prompts = append(prompts, newPrompt(p.ID, p.Session, p.Style, p.Message, p.Details))
	}
	return prompts, nil
}

// Answer answers a prompt and returns when the module has the answer. The
// caller still wipes it. A prompt that somebody else answered is
// AlreadyAnswered; an answer that can never be right for the prompt (a NUL
// byte) is InvalidArgument, and the prompt waits on.
func (c *Client) Answer(ctx context.Context, prompt uint64, answer *secret.Secret) error {
	f, err := answer.Memfd()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := c.slot(ctx); err != nil {
		return err
	}
	defer func() { <-c.slots }()
	m := managerCall("AnswerPromptFD", 1, prompt, dbus.UnixFDIndex(0))
	c.stream.Attach(m, f)
	defer c.stream.Detach(m)
	call := <-c.conn.SendWithContext(ctx, m, nil).Done
	return fault("AnswerPromptFD", call.Err)
}

// managerCall is a call of the Manager interface.
func managerCall(member string, descriptors int, body ...any) *dbus.Message {
	return newCall(RootPath, ManagerInterface, member, descriptors, body...)
}

// newCall is a call with descriptors that ride along, or whose reply brings some. godbus
// would not build it, as it knows of none.
func newCall(path dbus.ObjectPath, iface, member string, descriptors int, body ...any) *dbus.Message {
	m := &dbus.Message{Type: dbus.TypeMethodCall, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(BusName),
		dbus.FieldPath:        dbus.MakeVariant(path),
		dbus.FieldInterface:   dbus.MakeVariant(iface),
		dbus.FieldMember:      dbus.MakeVariant(member),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(body...)),
	}}
	if descriptors > 0 {
		m.Headers[dbus.FieldUnixFDs] = dbus.MakeVariant(uint32(descriptors))
	}
	return m
}

// Cancel makes the module's question fail, which as a rule fails its session.
func (c *Client) Cancel(ctx context.Context, prompt uint64) error {
	return fault("CancelPrompt", c.manager(ctx, "CancelPrompt", prompt).Err)
}
