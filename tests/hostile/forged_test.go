// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// forge writes a message that looks as if it were the broker's, but for the sender,
// which the bus sets.
func forge(t testing.TB, to, member string, path dbus.ObjectPath, reply uint32, body ...any) []byte {
	t.Helper()
	m := &dbus.Message{Type: dbus.TypeMethodReply, Flags: dbus.FlagNoReplyExpected, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...))}}
	if to != "" {
		m.Headers[dbus.FieldDestination] = dbus.MakeVariant(to)
	}
	if reply != 0 {
		m.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(reply)
	} else {
		m.Type = dbus.TypeSignal
		m.Headers[dbus.FieldPath] = dbus.MakeVariant(path)
		m.Headers[dbus.FieldInterface], m.Headers[dbus.FieldMember] = dbus.MakeVariant(api.ManagerInterface), dbus.MakeVariant(member)
	}
	var raw bytes.Buffer
	if err := m.EncodeTo(&raw, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(raw.Bytes()[8:], 2) // the serial
	return raw.Bytes()
}

// What another user sends in the broker's words is heeded by no agent and no caller
// of the library.
func TestForgedSignalsAndRepliesAreNotHeeded(t *testing.T) {
	for _, bus := range system.Buses {
		t.Run(string(bus), func(t *testing.T) {
			b := startOn(t, bus)
			kept := b.set(b.root)
			const forged = 4711
			client := b.Client(t)
			w, err := client.Watch(context.Background(), api.WatchOptions{Agent: true})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			waits := make(chan error, 1)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			number := kept.numbers()
			go func() { waits <- client.Session(number[3]).Wait(ctx, api.StateOpen) }() // of kept.waiting

			liar := system.Socket(t, b.Address, system.Other)
			greet(t, liar, system.Other)
			var names []string
			b.must(b.root.BusObject().Call("org.freedesktop.DBus.ListNames", 0), &names)
			names = append(names, "") // to all
			none := map[string]dbus.Variant{}
			sent := 0
			for _, to := range names {
				if to != "" && to[0] != ':' {
					continue
				}
				messages := [][]byte{
					forge(t, to, "Prompt", api.RootPath, 0, uint64(forged), kept.waiting, api.StyleSecret, "Password: ", none),
					forge(t, to, "PromptClosed", api.RootPath, 0, kept.prompt, api.OutcomeAnswered),
					forge(t, to, "SessionAdded", api.RootPath, 0, uint64(forged), api.SessionPrefix+"4711"),
					forge(t, to, "SessionRemoved", api.RootPath, 0, number[3], kept.waiting),
				}
				if to != "" {
					for serial := uint32(1); serial <= 64; serial++ {
						messages = append(messages, forge(t, to, "", "", serial, api.StateOpen, int32(0), "forged"))
					}
				}
				for _, raw := range messages {
					if _, err := liar.Write(raw); err != nil {
						t.Fatalf("the bus has had enough after %d: %v", sent, err)
					}
					sent++
				}
			}
			// The bus takes what one says in order: with this reply all has been passed on.
			if _, err := liar.Write(flood{message: managerCall("ListPrompts", 0)}.encode(t)); err != nil {
				t.Fatal(err)
			}
			for {
				m, err := dbus.DecodeMessage(liar)
				if err != nil {
					t.Fatal(err)
				}
				if from, _ := m.Headers[dbus.FieldSender].Value().(string); m.Type == dbus.TypeMethodReply && from != "org.freedesktop.DBus" {
					break
				}
			}
			select {
			case err := <-waits:
				t.Errorf("a caller took a forged reply for the broker's: %v", err)
			default:
			}
			session, prompt := b.own(b.root)
			for late, seen := time.After(patience), false; !seen; {
				select {
				case event := <-w.Events():
					switch e := event.(type) {
					case api.Prompt:
						seen = e.ID == prompt
						if e.ID == forged {
							t.Error("an agent was told of a prompt by somebody else")
						}
					case api.PromptClosed:
						t.Errorf("an agent heard from somebody else that prompt %d is closed", e.ID)
					case api.SessionAdded:
						if e.ID == forged {
							t.Error("an agent heard from somebody else of a session")
						}
					case api.SessionRemoved:
						t.Errorf("an agent heard from somebody else that session %d is gone", e.ID)
					}
				case <-late:
					t.Fatal("the agent is not told of a prompt any more")
				}
			}
			b.must(b.call(b.root, session, api.SessionInterface+".Close"))
			b.survived(kept)
			if err := <-waits; err != nil {
				t.Errorf("who waited for the session to be open: %v", err)
			}
			t.Logf("%d messages were forged", sent)
		})
	}
}

// Signals to the broker alone have no use, and any number of them is taken by a bus:
// the policy that is shipped has the bus refuse them. Who owns the name instead of the
// broker sees what it would see.
func TestTheBusRefusesSignalsToTheBroker(t *testing.T) {
	for _, bus := range system.Buses {
		t.Run(string(bus), func(t *testing.T) {
			b := startOn(t, bus)
			b.Kill(t)
			service := system.Socket(t, b.Address, system.Identity{})
			unique := greet(t, service, system.Identity{})
			own := message{"org.freedesktop.DBus", dbus.TypeMethodCall, "org.freedesktop.DBus.RequestName", []any{api.BusName, uint32(0)}, 0}
			write(t, service, flood{message: own}.encode(t))
			sees(t, service, "NameAcquired")

			liar := system.Socket(t, b.Address, system.Other)
			greet(t, liar, system.Other)
			for _, to := range []string{unique, api.BusName} {
				write(t, liar, forge(t, to, "Changed", api.RootPath, 0, "x"))
			}
			write(t, liar, flood{message: managerCall("ListPrompts", 0)}.encode(t)) // after them
			sees(t, service, "ListPrompts")
		})
	}
}

func write(t testing.TB, c *net.UnixConn, raw []byte) {
	t.Helper()
	if _, err := c.Write(raw); err != nil {
		t.Fatal(err)
	}
}

// sees reads until the call or signal of that name, and fails at any signal that is
// not the bus's.
func sees(t testing.TB, c *net.UnixConn, member string) {
	t.Helper()
	for {
		m, err := dbus.DecodeMessage(c)
		if err != nil {
			t.Fatal(err)
		}
		from := m.Headers[dbus.FieldSender].Value()
		if m.Type == dbus.TypeSignal && from != "org.freedesktop.DBus" {
			t.Fatalf("the bus has passed on %v from %v", m.Headers, from)
		}
		if m.Headers[dbus.FieldMember].Value() == member {
			return
		}
	}
}
