// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
	"pgregory.net/rapid"

	"github.com/pamprompt/pamprompt/api"
)

// waiter is a call of Wait or NextPrompt that has not returned, as far as anybody has
// looked.
type waiter struct {
	s     *session
	state string // of Wait; empty for NextPrompt
	after uint64 // of NextPrompt
	reply chan *dbus.Call
}

// wait calls Wait or NextPrompt of a session, for something that may be long ago.
func (w *world) wait(rt *rapid.T) {
	s := w.pick(rt, func(s *session) bool { return s.listed })
	x := &waiter{s: s, reply: make(chan *dbus.Call, 1)}
	path := api.SessionPrefix
	object := w.caller.Object(api.BusName, dbus.ObjectPath(path+number(s.id)))
	switch rapid.SampledFrom([]string{api.StateOpen, api.StateClosing, api.StateClosed, "prompt", "another"}).Draw(rt, "what") {
	case api.StateOpen:
		x.state = api.StateOpen
	case api.StateClosing:
		x.state = api.StateClosing
	case api.StateClosed:
		x.state = api.StateClosed
	case "another":
		for _, q := range s.pending {
			x.after = max(x.after, q.number)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	rt.Cleanup(cancel)
	if x.state != "" {
		object.GoWithContext(ctx, api.SessionInterface+".Wait", 0, x.reply, x.state)
	} else {
		object.GoWithContext(ctx, api.SessionInterface+".NextPrompt", 0, x.reply, x.after)
	}
	w.waiters = append(w.waiters, x)
}

// checkWaiters has each call that must have returned do so, with what the model allows.
func (w *world) checkWaiters() {
	w.waiters = slices.DeleteFunc(w.waiters, func(x *waiter) bool {
		var call *dbus.Call
		if !x.must() {
			select {
			case call = <-x.reply:
			default:
				return false
			}
		} else {
			call = w.returned(x)
		}
		if x.state != "" {
			w.checkWait(x, call)
		} else {
			w.checkNext(x, call)
		}
		return true
	})
}

// must is whether the call has something to say by now.
func (x *waiter) must() bool {
	s := x.s
	switch {
	case s.over():
		return true
	case x.state != "":
		return x.state == api.StateOpen && s.state == api.StateOpen
	}
	return s.conversation == nil && s.state == api.StateOpen ||
		slices.ContainsFunc(s.pending, func(q *question) bool { return q.number > x.after })
}

func (w *world) returned(x *waiter) *dbus.Call {
	select {
	case call := <-x.reply:
		return call
	case <-time.After(patience):
		w.rt.Fatalf("who waits for %+v of session %+v hears nothing", *x, *x.s)
		return nil
	}
}

func (w *world) checkWait(x *waiter, call *dbus.Call) {
	var state, text string
	var result int32
	if err := call.Store(&state, &result, &text); err != nil {
		w.rt.Fatalf("Wait for %s of session %d: %v", x.state, x.s.id, err)
	}
	if ranks[state] < ranks[x.state] || ranks[state] > ranks[x.s.state] || x.s.over() && x.s.listed && ranks[state] == ranks[x.s.state] && state != x.s.state {
		w.rt.Fatalf("Wait for %s of session %d, which is %s, says %s", x.state, x.s.id, x.s.state, state)
	}
}

func (w *world) checkNext(x *waiter, call *dbus.Call) {
	var id uint64
	var style, message string
	var details map[string]dbus.Variant
	err := call.Store(&id, &style, &message, &details)
	if err == nil {
		what := w.numbers[id]
		want := "prompt " + number(uint64(value[uint32](details, "index"))) + " of session " + number(x.s.id) + ": " + message
		if id <= x.after || what != want {
			w.rt.Fatalf("NextPrompt after %d of session %d says %d, %s, which is %s", x.after, x.s.id, id, want, what)
		}
		return
	}
	if code(err) != api.NoSuchPrompt || !x.s.over() && (x.s.conversation != nil || x.s.state != api.StateOpen) {
		w.rt.Fatalf("NextPrompt after %d of session %d, which is %s, says %v", x.after, x.s.id, x.s.state, err)
	}
}

// loseWaiters is what becomes of those who wait when the broker is killed: the bus says
// that nobody will reply.
func (w *world) loseWaiters() {
	for _, x := range w.waiters {
		w.returned(x)
	}
	w.waiters = nil
}

// code is the code of an error of the broker, whoever made it an error of Go; empty for
// none.
func code(err error) api.Code {
	if known := new(api.Error); errors.As(err, &known) {
		return known.Code
	}
	for _, c := range api.Codes() {
		if remote := new(dbus.Error); errors.As(err, remote) && remote.Name == api.ErrorPrefix+string(c) {
			return c
		}
	}
	return ""
}

func value[T any](details map[string]dbus.Variant, name string) T {
	v, _ := details[name].Value().(T)
	return v
}
