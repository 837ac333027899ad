// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api/transport"
)

func somebody(uid uint32) *Peer { return &Peer{UID: uid, gone: make(chan struct{})} }

// A uid has many calls at once, and then some a second; others do not wait for it.
func TestTurnsOfAUID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns, began := newTurns(), time.Now()
		call := func(p *Peer) error {
			err := turns.wait(context.Background(), p)
			if err == nil {
				turns.done(p)
			}
			return err
		}
		one, other, root := somebody(1001), somebody(1002), somebody(0)
		for range callBurst {
			if err := call(one); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("%d calls took %v", callBurst, took)
		}
		for range 10 {
			if err := call(one); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 10*callEvery {
			t.Errorf("ten more took %v, not %v", took, 10*callEvery)
		}
		began = time.Now()
		for range 3 * callBurst {
			if err := call(root); err != nil {
				t.Fatal(err)
			}
		}
		if err := call(other); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the calls of others took %v", took)
		}
		close(one.gone)
		for range 2 {
			if err := turns.wait(context.Background(), one); err == nil {
				turns.done(one)
			} else if !errors.Is(err, errNobodyWaits) {
				t.Error(err)
			}
		}
		time.Sleep(2 * callBurst * callEvery)
		_ = call(other)
		if len(turns.by) != 1 {
			t.Errorf("%d uids are remembered", len(turns.by))
		}
	})
}

func TestAUIDHasSoManyCallsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns, p := newTurns(), somebody(1001)
		for range maxOfOneID {
			if err := turns.wait(context.Background(), p); err != nil {
				t.Fatal(err)
			}
		}
		if err := turns.wait(context.Background(), p); !errors.Is(err, errTooManyCalls) {
			t.Errorf("one more: %v", err)
		}
		turns.done(p)
		if err := turns.wait(context.Background(), p); err != nil {
			t.Errorf("when one has ended: %v", err)
		}
	})
}

// What nobody needs is not even decoded.
func TestWhatIsAdmitted(t *testing.T) {
	c := new(Conn)
	c.calls.init()
	for range maxCalls {
		c.calls.enter(":1.7")
	}
	c.hint.Store(&hint{name: "org.example.Changed"})
	for _, test := range []struct {
		name string
		kind dbus.Type
		from transport.Origin
		want bool
	}{
		{"what the bus says", dbus.TypeSignal, transport.Origin{Sender: driver, Interface: driver, Member: "NameOwnerChanged"}, true},
		{"the signal that is listened to", dbus.TypeSignal, transport.Origin{Sender: ":1.9", Interface: "org.example", Member: "Changed"}, true},
		{"any other signal", dbus.TypeSignal, transport.Origin{Sender: ":1.9", Interface: driver, Member: "NameOwnerChanged"}, false},
		{"a call", dbus.TypeMethodCall, transport.Origin{Sender: ":1.9", Member: "Ping"}, true},
		{"a call of who has too many", dbus.TypeMethodCall, transport.Origin{Sender: ":1.7", Member: "Ping"}, false},
		{"a reply", dbus.TypeMethodReply, transport.Origin{Sender: ":1.7"}, true},
	} {
		if why, ok := c.admit(transport.Header{Type: test.kind}, test.from); ok != test.want || (why == tooMany) != (test.kind == dbus.TypeMethodCall && !ok) {
			t.Errorf("%s: %v, %q", test.name, ok, why)
		}
	}
	c.calls.leave(":1.7")
	if _, ok := c.admit(transport.Header{Type: dbus.TypeMethodCall}, transport.Origin{Sender: ":1.7"}); !ok {
		t.Error("when one has ended, the next is not admitted")
	}
}
