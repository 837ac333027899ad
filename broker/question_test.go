// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
)

func wantSeeds(f *testing.F) {
	f.Helper()
	if seeds, err := os.ReadDir(filepath.Join("testdata/fuzz", f.Name())); err != nil || len(seeds) == 0 {
		f.Fatal("the committed seeds are missing")
	}
}

// FuzzQuestion: style, message and details of Ask come from anybody who may have
// a conversation. What is accepted must be a question as a worker may ask it, and
// a signal that the bus takes.
func FuzzQuestion(f *testing.F) {
	wantSeeds(f)
	f.Fuzz(func(t *testing.T, style, message, name, signature string, body []byte) {
		given := oneOf(name, signature, body)
		if name != "" && given == nil || !fitsBus(message, given) {
			return
		}
		p, timeout, err := parseQuestion(style, message, given)
		if err != nil {
			wantNamed(t, err)
			return
		}
		if timeout != nil && (*timeout < 0 || *timeout > maxTimeout) {
			t.Fatalf("a timeout of %v was accepted", *timeout)
		}
		packet := &worker.ToBroker{Message: &worker.ToBroker_Text{Text: &worker.Message{Style: p.GetStyle(), Text: p.GetText()}}}
		if p.GetStyle().Asks() {
			if p.GetPhase() == worker.Phase_PHASE_UNSPECIFIED { // only a program may not say it
				p.Phase = worker.Phase_PHASE_AUTHENTICATE
			}
			packet.Message = &worker.ToBroker_Prompt{Prompt: p}
		}
		if err := worker.Check(packet); err != nil {
			t.Fatalf("style %q with detail %q was accepted, and then: %v", style, name, err)
		}
		start := &worker.Start{Service: "s", User: "u", Options: &worker.Options{}, Owner: &worker.Owner{}}
		if !fitsBus(clean(p.GetText()), details(start, p)) {
			t.Fatalf("style %q with detail %q was accepted, and the bus takes no signal of it", style, name)
		}
	})
}

// FuzzConversation: so do the options of OpenConversation. What is accepted must be
// a Start, as those of workers are.
func FuzzConversation(f *testing.F) {
	wantSeeds(f)
	f.Fuzz(func(t *testing.T, name, signature string, body []byte) {
		given := oneOf(name, signature, body)
		if given == nil || !fitsBus("", given) {
			return
		}
		o := &opening{Options: &worker.Options{Attempts: 1}}
		if err := o.set("OpenConversation", conversationOptions, given); err != nil {
			wantNamed(t, err)
			return
		}
		if err := worker.Check(&worker.ToWorker{Message: &worker.ToWorker_Start{Start: &worker.Start{
			Session: 1, Service: "s", User: "u", UserUid: o.uid, Options: o.Options, Owner: &worker.Owner{Pid: o.pid},
		}}}); err != nil || o.runs() || o.stdio != nil || o.alternatives != nil {
			t.Fatalf("option %q was accepted, and then: %v", name, err)
		}
	})
}

// fitsBus is whether these could be in a message.
func fitsBus(text string, entries map[string]dbus.Variant) bool {
	m := &dbus.Message{Type: dbus.TypeSignal, Body: []any{text, entries}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/")), dbus.FieldInterface: dbus.MakeVariant("a.b"), dbus.FieldMember: dbus.MakeVariant("C"),
		dbus.FieldSignature: dbus.MakeVariant(dbus.ParseSignatureMust("sa{sv}")),
	}}
	var raw bytes.Buffer
	return m.EncodeTo(&raw, binary.LittleEndian) == nil
}

func wantNamed(t *testing.T, err error) {
	t.Helper()
	if own := new(api.Error); !errors.As(err, &own) || !own.Code.Known() {
		t.Fatalf("an error of no name: %v", err)
	}
	if len(err.Error()) > 1000 {
		t.Fatalf("an error of %d bytes: %.100s", len(err.Error()), err)
	}
}
