// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestAnAgentIsToldWhatIsPending(t *testing.T) {
	opener := connect(t)
	own := watch(t, opener, api.WatchOptions{})
	s := open(t, opener, "matrix", api.Options{Agent: true})
	asked := promptOf(t, own, s)

	agent := connect(t)
	first := watch(t, agent, api.WatchOptions{Agent: true})
	if p := promptOf(t, first, s); p.ID != asked.ID {
		t.Errorf("the agent is told of prompt %d, not %d", p.ID, asked.ID)
	}
	second := watch(t, agent, api.WatchOptions{Agent: true}) // has all told again
	promptOf(t, second, s)
	if err := give(t, agent, asked.ID, "correct horse"); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*api.Watcher{own, first, second} {
		for {
			event := next(t, w, func(api.Event) bool { return true })
			if p, ok := event.(api.Prompt); ok && p.ID == asked.ID {
				t.Error("a prompt was told twice")
			}
			if e, ok := event.(api.PromptClosed); ok && e.ID == asked.ID {
				break
			}
		}
	}
}

func TestTheLastAgentUnregisters(t *testing.T) {
	s := system.StartOnBus(t, stacks(t))
	conn := s.Conn(t)
	agents := func() uint32 {
		v, err := conn.Object(api.BusName, api.RootPath).GetProperty(api.ManagerInterface + ".Agents")
		if err != nil {
			t.Fatal(err)
		}
		return v.Value().(uint32)
	}
	c, err := api.Dial(within(t), s.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	first, second := watch(t, c, api.WatchOptions{Agent: true}), watch(t, c, api.WatchOptions{Agent: true})
	first.Close()
	if n := agents(); n != 1 {
		t.Errorf("with one watcher left there are %d agents", n)
	}
	second.Close()
	if n := agents(); n != 0 {
		t.Errorf("with none left there are %d agents", n)
	}
}

func TestAnAgentRegistersWithTheNextBroker(t *testing.T) {
	s := system.StartOnBus(t, stacks(t))
	agent := s.Client(t)
	w := watch(t, agent, api.WatchOptions{Agent: true})
	opener := s.Client(t)
	old := open(t, opener, "matrix", api.Options{})
	pending := promptOf(t, w, old)
	s.Kill(t)
	next(t, w, func(api.BrokerGone) bool { return true })
	s.Restart(t)
	next(t, w, func(api.BrokerBack) bool { return true })
	if p := promptOf(t, w, old); p.ID != pending.ID {
		t.Errorf("the prompt was %d and is %d", pending.ID, p.ID)
	}
	if err := give(t, agent, pending.ID, "correct horse"); err != nil {
		t.Fatal(err)
	}
	if err := old.Wait(within(t), api.StateOpen); err != nil {
		t.Error(err)
	}
	promptOf(t, w, open(t, opener, "matrix", api.Options{}))
}

func TestEventsOfASessionComeInOrder(t *testing.T) {
	c := connect(t)
	w := watch(t, c, api.WatchOptions{})
	s := open(t, c, "permit", api.Options{})
	if err := s.Wait(within(t), api.StateOpen); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	next(t, w, func(e api.SessionAdded) bool { return e.ID == s.ID() })
	for _, want := range []string{api.StateOpen, api.StateClosing, api.StateClosed} {
		got := next(t, w, func(e api.SessionChanged) bool { return e.ID == s.ID() })
		if got.State != want {
			t.Fatalf("got state %s, want %s", got.State, want)
		}
	}
}

func TestAWatcherThatIsNotReadEnds(t *testing.T) {
	c := connect(t)
	w := watch(t, c, api.WatchOptions{Queue: 1})
	if err := open(t, c, "permit", api.Options{}).Wait(within(t), api.StateOpen); err != nil {
		t.Fatal(err)
	}
	other := watch(t, c, api.WatchOptions{})
	s := open(t, c, "permit", api.Options{})
	next(t, other, func(e api.SessionChanged) bool { return e.ID == s.ID() })
	for range w.Events() { // what was queued is still there
	}
	if err := w.Err(); !errors.Is(err, api.ErrBehind) {
		t.Errorf("got %v, want ErrBehind", err)
	}
}

func TestAWatcherEndsWithItsContext(t *testing.T) {
	c := connect(t)
	ctx, cancel := context.WithCancel(context.Background())
	w, err := c.Watch(ctx, api.WatchOptions{Agent: true})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for range w.Events() {
	}
	if err := w.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAWatcherIsToldThatTheBusIsGone(t *testing.T) {
	s := system.Start(t, system.Options{})
	c := s.Client(t)
	w := watch(t, c, api.WatchOptions{Agent: true})
	s.Stop(t)
	for range w.Events() {
	}
	if err := w.Err(); !errors.Is(err, api.ErrNoBus) {
		t.Errorf("got %v, want ErrNoBus", err)
	}
}

// forge sends a signal to a client from a connection that is not the broker's,
// and returns when the bus has passed it on.
func forge(t *testing.T, conn *dbus.Conn, to, name string, values ...any) {
	t.Helper()
	m := &dbus.Message{Type: dbus.TypeSignal, Body: values, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(to),
		dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath(api.RootPath)),
		dbus.FieldInterface:   dbus.MakeVariant(api.ManagerInterface),
		dbus.FieldMember:      dbus.MakeVariant(name),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(values...)),
	}}
	if call := conn.Send(m, nil); call.Err != nil {
		t.Fatal(call.Err)
	}
	if err := conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil {
		t.Fatal(err)
	}
}

// others are the connections on the bus that are neither conn nor the broker.
func others(t *testing.T, conn *dbus.Conn) (names []string) {
	t.Helper()
	var all []string
	if err := conn.BusObject().Call("org.freedesktop.DBus.ListNames", 0).Store(&all); err != nil {
		t.Fatal(err)
	}
	var broker string
	if err := conn.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, api.BusName).Store(&broker); err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if name[0] == ':' && name != conn.Names()[0] && name != broker {
			names = append(names, name)
		}
	}
	return names
}

func TestOnlyTheBrokerIsHeard(t *testing.T) {
	s := system.Start(t, stacks(t))
	c, liar := s.Client(t), s.Conn(t)
	w := watch(t, c, api.WatchOptions{Agent: true})
	for _, name := range others(t, liar) {
		forge(t, liar, name, "Prompt", uint64(7), dbus.ObjectPath(api.SessionPrefix+"7"),
			api.StyleSecret, "Password of root: ", map[string]dbus.Variant{})
	}
	session := open(t, c, "matrix", api.Options{})
	if p := next(t, w, func(api.Prompt) bool { return true }); p.Session != session.ID() {
		t.Errorf("a forged prompt was told: %+v", p)
	}
}

// godbus 5.2.4 by itself panics at the second of these.
func TestDescriptorsThatNobodyAskedForAreClosed(t *testing.T) {
	s := system.Start(t, system.Options{Stacks: map[string]string{"permit": system.Permit()}})
	c := s.Client(t)
	other := s.Conn(t)
	before := descriptors(t)
	fd := dbus.UnixFD(os.Stdin.Fd())
	for _, name := range others(t, other) {
		forge(t, other, name, "Hello", fd, fd, map[string]dbus.Variant{"x": dbus.MakeVariant(fd)})
		forge(t, other, name, "Hello", []dbus.UnixFD{fd, fd})
	}
	if _, err := c.Sessions(within(t)); err != nil { // all that came before the reply has been read
		t.Fatal(err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("there were %d descriptors and are %d", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
