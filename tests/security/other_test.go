// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// A user who has matched every signal, and has been made an agent, hears that
// there are sessions and in what state: nothing of whose, of what, or what
// they ask.
func TestAnotherUserHearsNothingPrivate(t *testing.T) {
	onEitherBus(t, system.MachineOptions{}, func(t *testing.T, b *bench) {
		other := b.join(t, system.Other)
		for _, rule := range []string{
			"", "type='signal'", "eavesdrop='true'", "type='method_call',eavesdrop='true'", "type='method_return',eavesdrop='true'",
			"type='error',eavesdrop='true'", "sender='" + api.BusName + "'", "path_namespace='" + api.RootPath + "'",
			"interface='" + api.ManagerInterface + "',member='Prompt'", "destination='" + b.root.Names()[0] + "'",
			"destination='" + b.root.Names()[0] + "',eavesdrop='true'",
		} {
			// The bus may refuse to add some of them, which is well too.
			_ = other.BusObject().Call("org.freedesktop.DBus.AddMatch", 0, rule).Err
		}
		if err := other.BusObject().Call("org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, []string{}, uint32(0)).Err; err == nil {
			t.Fatal("another user may become a monitor")
		}
		other.agent()
		rootAgent := b.Conn(t)
		if err := call(rootAgent, api.RootPath, api.ManagerInterface+".RegisterAgent", options{}).Err; err != nil {
			t.Fatal(err)
		}
		b.history(t)
		other.settle()
		for _, m := range other.heard() {
			if text := leaked(m); text != "" {
				t.Errorf("it was sent %q: %v", text, m)
			}
		}
		for _, member := range []string{"Prompt", "PromptClosed", "Message"} {
			if n := len(other.signals(member)); n != 0 {
				t.Errorf("it was sent %d signals %s", n, member)
			}
		}
		for _, member := range []string{"SessionAdded", "SessionRemoved", "InterfacesAdded", "PropertiesChanged"} {
			if len(other.signals(member)) == 0 {
				t.Errorf("it has heard no %s: this test does not hear what there is to hear", member)
			}
		}
	})
}

// history is what sessions go through: answered, wrongly and rightly, opened,
// closed; cancelled; closed while a question waits.
func (b *bench) history(t *testing.T) {
	t.Helper()
	session, prompt := b.vault(t)
	if err := call(b.root, api.RootPath, api.ManagerInterface+".AnswerPrompt", prompt, answer).Err; err != nil {
		t.Fatal(err)
	}
	if state, text := b.wait(t, session, api.StateOpen); state != api.StateOpen {
		t.Fatalf("the session is %s: %s", state, text)
	}
	if err := call(b.root, session, api.SessionInterface+".Close").Err; err != nil {
		t.Fatal(err)
	}
	wrong, prompt := b.vault(t)
	if err := call(b.root, api.RootPath, api.ManagerInterface+".AnswerPrompt", prompt, "red").Err; err != nil {
		t.Fatal(err)
	}
	cancelled, prompt := b.vault(t)
	if err := call(b.root, api.RootPath, api.ManagerInterface+".CancelPrompt", prompt).Err; err != nil {
		t.Fatal(err)
	}
	owner := b.Conn(t)
	left := open(t, owner, service, user, nil)
	b.asked(t, left)
	gone := b.removed(t, left)
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []dbus.ObjectPath{session, wrong, cancelled} {
		b.wait(t, path, api.StateClosed)
	}
	<-gone
}

// removed returns a channel that is closed when a session's object is gone.
func (b *bench) removed(t *testing.T, session dbus.ObjectPath) <-chan struct{} {
	t.Helper()
	conn, done := b.Conn(t), make(chan struct{})
	if err := conn.AddMatchSignal(dbus.WithMatchSender(api.BusName), dbus.WithMatchMember("SessionRemoved")); err != nil {
		t.Fatal(err)
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	go func() {
		for signal := range signals {
			if len(signal.Body) == 2 && signal.Body[1] == session {
				close(done)
				return
			}
		}
	}()
	return done
}

// attempt is a call that is about a session or a prompt of this number.
type attempt struct {
	name string
	call func(conn *dbus.Conn, number uint64) *dbus.Call
}

// attempts are all members of all objects that are about one thing.
func attempts(t testing.TB) (onSessions, onPrompts []attempt) {
	t.Helper()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = null.Close() })
	session := func(member string, args ...any) {
		onSessions = append(onSessions, attempt{member, func(conn *dbus.Conn, number uint64) *dbus.Call {
			return call(conn, dbus.ObjectPath(fmt.Sprint(api.SessionPrefix, number)), member, args...)
		}})
	}
	prompt := func(member string, more ...any) {
		onPrompts = append(onPrompts, attempt{member, func(conn *dbus.Conn, number uint64) *dbus.Call {
			return call(conn, api.RootPath, api.ManagerInterface+"."+member, append([]any{number}, more...)...)
		}})
	}
	session(api.SessionInterface+".Wait", api.StateOpen)
	session(api.SessionInterface+".Wait", "nonsense")
	session(api.SessionInterface+".NextPrompt", uint64(0))
	session(api.SessionInterface+".Ask", api.StyleSecret, "Password: ", options{})
	session(api.SessionInterface+".Ask", "nonsense")
	session(api.SessionInterface + ".Close")
	session(api.SessionInterface+".Close", "with an argument")
	session("org.freedesktop.DBus.Properties.Get", api.SessionInterface, "State")
	session("org.freedesktop.DBus.Properties.Get", api.SessionInterface, "NoSuch")
	session("org.freedesktop.DBus.Properties.GetAll", api.SessionInterface)
	session("org.freedesktop.DBus.Properties.GetAll", "org.example.NoSuch")
	session("org.freedesktop.DBus.Properties.Set", api.SessionInterface, "State", dbus.MakeVariant("open"))
	session("org.freedesktop.DBus.Introspectable.Introspect")
	session("org.freedesktop.DBus.Peer.Ping")
	session("org.freedesktop.DBus.Peer.GetMachineId")
	session("org.example.NoSuch.Method")
	prompt("AnswerPrompt", "guess")
	prompt("AnswerPromptFD", dbus.UnixFD(null.Fd()))
	prompt("CancelPrompt")
	return onSessions, onPrompts
}

// nobody is a number that nothing has.
const nobody = 4711

// Whatever another user tries on anything, the answer is AccessDenied, in the
// same words whether the thing exists, has existed, or never did.
func TestAnotherUserIsRefusedInTheSameWords(t *testing.T) {
	onEitherBus(t, system.MachineOptions{}, sameWords)
}

// It is so too for whom polkit allows all but what is private here.
func TestAnotherUserWhoMayDoElseIsRefusedInTheSameWords(t *testing.T) {
	sameWords(t, start(t, system.MachineOptions{Polkit: `polkit.addRule(function(action) {
	return action.lookup("service") == "` + service + `" ? polkit.Result.NO : polkit.Result.YES;
});`}))
}

func sameWords(t *testing.T, b *bench) {
	t.Helper()
	other := b.join(t, system.Other)
	endedSession, endedPrompt := b.vault(t)
	if err := call(b.root, api.RootPath, api.ManagerInterface+".CancelPrompt", endedPrompt).Err; err != nil {
		t.Fatal(err)
	}
	b.wait(t, endedSession, api.StateClosed)
	session, prompt := b.vault(t)
	onSessions, onPrompts := attempts(t)
	compare := func(list []attempt, numbers ...uint64) {
		for _, a := range list {
			var first string
			for _, number := range append(numbers, nobody) {
				err := a.call(other.Conn, number).Err
				wantDenied(t, fmt.Sprint(a.name, " of ", number), err)
				said := fmt.Sprint(err)
				if first == "" {
					first = said
				}
				if said != first {
					t.Errorf("%s: %q for one number, %q for another", a.name, first, said)
				}
			}
		}
	}
	compare(onSessions, number(t, session), number(t, endedSession))
	compare(onPrompts, prompt, endedPrompt)
	if state, _ := b.wait(t, session, api.StateOpening); state != api.StateOpening {
		t.Errorf("afterwards the session is %s", state)
	}
}

// What lists, lists nothing; and what opens, opens nothing, in the same words
// whether the service exists, and who asks for whom.
func TestAnotherUserListsAndOpensNothing(t *testing.T) {
	onEitherBus(t, system.MachineOptions{}, func(t *testing.T, b *bench) {
		other := b.join(t, system.Other)
		list := func() []string {
			var all []string
			for _, c := range []*dbus.Call{
				other.manager("ListSessions"), other.manager("ListPrompts"),
				other.call(api.RootPath, "org.freedesktop.DBus.ObjectManager.GetManagedObjects"),
				other.call("/org/pamprompt/Broker1/session", "org.freedesktop.DBus.Introspectable.Introspect"),
				other.call(api.RootPath, "org.freedesktop.DBus.Introspectable.Introspect"),
			} {
				all = append(all, fmt.Sprint(c.Body, c.Err))
			}
			return all
		}
		before := list()
		session, _ := b.vault(t)
		for i, after := range list() {
			if after != before[i] || strings.Contains(after, fmt.Sprint(number(t, session))) {
				t.Errorf("without sessions it lists\n%s\nand with one\n%s", before[i], after)
			}
		}
		var first string
		for _, who := range []struct{ service, user string }{
			{service, user}, {"permit", "other"}, {"permit", "root"}, {"nosuch", user}, {"permit", "nosuch"}, {"polkit-1", "root"},
		} {
			err := other.manager("OpenSession", who.service, who.user, options{}).Err
			wantDenied(t, fmt.Sprintf("OpenSession(%q, %q)", who.service, who.user), err)
			if said := fmt.Sprint(err); first == "" {
				first = said
			} else if said != first {
				t.Errorf("OpenSession(%q, %q): %q, and for others %q", who.service, who.user, said, first)
			}
		}
	})
}

// Nobody but root is the broker, and nobody speaks to an agent in its name.
func TestAnotherUserIsNotTheBroker(t *testing.T) {
	onEitherBus(t, system.MachineOptions{}, func(t *testing.T, b *bench) {
		other := b.join(t, system.Other)
		b.Signal(t, 15)
		b.Ended(t)
		_, err := other.RequestName(api.BusName, dbus.NameFlagReplaceExisting|dbus.NameFlagAllowReplacement)
		if name := errorName(t, err); name != "org.freedesktop.DBus.Error.AccessDenied" {
			t.Errorf("it asked for the name: %v", err)
		}
		b.Restart(t)
	})
}

// What the bus itself says, nobody else says to the broker: that somebody has
// left, whose sessions end then, or that it has lost its name.
func TestAnotherUserIsNotTheBus(t *testing.T) {
	onEitherBus(t, system.MachineOptions{}, func(t *testing.T, b *bench) {
		other := b.join(t, system.Other)
		session, prompt := b.vault(t)
		var broker string
		if err := b.root.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, api.BusName).Store(&broker); err != nil {
			t.Fatal(err)
		}
		root := b.root.Names()[0]
		for _, destination := range []string{broker, api.BusName} {
			for member, body := range map[string][]any{"NameOwnerChanged": {root, root, ""}, "NameLost": {api.BusName}} {
				other.Send(&dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
					dbus.FieldDestination: dbus.MakeVariant(destination),
					dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")),
					dbus.FieldInterface:   dbus.MakeVariant("org.freedesktop.DBus"),
					dbus.FieldMember:      dbus.MakeVariant(member),
					dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(body...)),
				}}, nil)
			}
		}
		other.settle() // the broker has seen them
		if err := call(b.root, api.RootPath, api.ManagerInterface+".AnswerPrompt", prompt, answer).Err; err != nil {
			t.Fatal(err)
		}
		if state, text := b.wait(t, session, api.StateOpen); state != api.StateOpen {
			t.Errorf("the session is %s: %s", state, text)
		}
	})
}

// number is that of a session's path.
func number(t testing.TB, session dbus.ObjectPath) (n uint64) {
	t.Helper()
	if _, err := fmt.Sscan(strings.TrimPrefix(string(session), api.SessionPrefix), &n); err != nil {
		t.Fatal(err)
	}
	return n
}
