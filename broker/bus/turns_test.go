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

func origin(from ...string) transport.Origin {
	return transport.Origin{Sender: []byte(from[0]), Interface: []byte(from[1]), Member: []byte(from[2])}
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
		from []string // sender, interface, member
		want bool
	}{
		{"what the bus says", dbus.TypeSignal, []string{driver, driver, "NameOwnerChanged"}, true},
		{"the signal that is listened to", dbus.TypeSignal, []string{":1.9", "org.example", "Changed"}, true},
		{"a signal whose name starts with it", dbus.TypeSignal, []string{":1.9", "org.example", "ChangedAll"}, false},
		{"a signal whose interface ends elsewhere", dbus.TypeSignal, []string{":1.9", "org.exampl", ".Changed"}, false},
		{"any other signal", dbus.TypeSignal, []string{":1.9", driver, "NameOwnerChanged"}, false},
		{"a call", dbus.TypeMethodCall, []string{":1.9", "", "Ping"}, true},
		{"a call of who has too many", dbus.TypeMethodCall, []string{":1.7", "", "Ping"}, false},
		{"a reply", dbus.TypeMethodReply, []string{":1.7", "", ""}, true},
	} {
		if why, ok := c.admit(transport.Header{Type: test.kind}, origin(test.from...)); ok != test.want || (why == tooMany) != (test.kind == dbus.TypeMethodCall && !ok) {
			t.Errorf("%s: %v, %q", test.name, ok, why)
		}
	}
	c.calls.leave(":1.7")
	if _, ok := c.admit(transport.Header{Type: dbus.TypeMethodCall}, origin(":1.7", "", "")); !ok {
		t.Error("when one has ended, the next is not admitted")
	}
}
