// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// most bounds the calls of one user, however fast they are.
const most = 20000

// absent are objects that there are not.
var absent = []dbus.ObjectPath{
	"/org/example", api.RootPath + "/nothing", api.SessionPrefix + "4711", api.SessionPrefix + "1", api.SessionPrefix + "01",
	api.SessionPrefix + "18446744073709551615", api.SessionPrefix + "18446744073709551616", api.SessionPrefix + "4711/4711",
}

// checkReply is what every reply must be: as described, or an error that is
// documented and short. It returns what was said.
func checkReply(t *testing.T, m member, path dbus.ObjectPath, call *dbus.Call) string {
	t.Helper()
	if call.Err == nil {
		for _, v := range call.Body {
			if fd, is := v.(dbus.UnixFD); is {
				closeFD(t, fd)
			}
		}
		if want := arity(t, m.out); len(call.Body) != want {
			t.Errorf("%s on %s returned %d values, not %d", m.name, path, len(call.Body), want)
		}
		return fmt.Sprint(call.Body)
	}
	var named dbus.Error
	if !errors.As(call.Err, &named) {
		t.Fatalf("%s on %s: %v, which is no error of D-Bus", m.name, path, call.Err)
	}
	code, own := strings.CutPrefix(named.Name, api.ErrorPrefix)
	if own && !api.Code(code).Known() || !own && !strings.HasPrefix(named.Name, "org.freedesktop.DBus.Error.") {
		t.Errorf("%s on %s: an error %s", m.name, path, named.Name)
	}
	said := named.Error()
	if len(said) > 1000 || said == "" || strings.Contains(said, "internal error") {
		t.Errorf("%s on %s: %s of %d bytes: %.300s", m.name, path, named.Name, len(said), said)
	}
	if strings.ContainsFunc(said, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Errorf("%s on %s: an error with a control character: %q", m.name, path, said)
	}
	return named.Name + ": " + said
}

func arity(t *testing.T, signature string) (n int) {
	t.Helper()
	depth := 0
	for _, c := range strings.NewReplacer("a", "").Replace(signature) {
		switch c {
		case '(', '{':
			depth++
		case ')', '}':
			if depth--; depth == 0 {
				n++
			}
		default:
			if depth == 0 {
				n++
			}
		}
	}
	return n
}

// A user who may do nothing tries everything on everything: the replies are the same
// words whether it is there or not.
func TestAUserWhoMayDoNothingCallsEverything(t *testing.T) {
	b := start(t)
	kept := b.set(b.root)
	pid, before := b.broker()
	r, until := luck(t)
	nobody := slices.Min(kept.numbers()) - 1 // nothing has it, and it is as long as the others
	g := &generator{Rand: r, fds: descriptors(t), numbers: append(kept.numbers(), nobody)}
	other := b.Join(t, system.Other).Conn
	tree := b.tree()
	paths := slices.Sorted(maps.Keys(tree))
	sessions := append(kept.paths(), api.SessionPrefix+dbus.ObjectPath(fmt.Sprint(nobody)))
	calls := 0
	try := func(path dbus.ObjectPath, m member, args []any) string {
		calls++
		said := checkReply(t, m, path, b.call(other, path, m.name, args...))
		if strings.Contains(said, private) {
			t.Errorf("%s on %s says %q", m.name, path, said)
		}
		return said
	}
	for deadline := time.Now().Add(until); time.Now().Before(deadline) && calls < most && !t.Failed(); {
		path := pick(g, paths)
		if len(tree[path]) == 0 {
			continue
		}
		m := pick(g, tree[path])
		args := g.arguments(m.in)
		targets, isSession := []dbus.ObjectPath{path, pick(g, absent)}, slices.Contains(kept.paths(), path)
		if isSession {
			targets = sessions
		}
		var first string
		for i, target := range targets {
			said := try(target, m, args)
			if isSession && i > 0 && said != first {
				t.Errorf("%s(%.200q): %q of one session, %q of another", m.name, fmt.Sprint(args), first, said)
			}
			first = said
		}
		if len(args) == 0 || isSession || !strings.HasPrefix(m.in, "t") {
			continue
		}
		first = ""
		for _, number := range g.numbers { // of prompts that there are, and are not
			args[0] = number
			if said := try(path, m, args); first == "" {
				first = said
			} else if said != first {
				t.Errorf("%s(%.200q): %q of one prompt, %q of another", m.name, fmt.Sprint(args), first, said)
			}
		}
	}
	t.Logf("%d calls", calls)
	_ = other.Close()
	b.survived(kept)
	b.unharmed(kept, pid, before)
}

// Root tries everything on all that is not to survive, many calls at once.
func TestRootCallsEverything(t *testing.T) {
	b := start(t)
	kept := b.set(b.root)
	b.closeOthers(kept)
	pid, before := b.broker()
	r, until := luck(t)
	fds := descriptors(t)
	calls := 0
	for deadline := time.Now().Add(until); time.Now().Before(deadline) && calls < most && !t.Failed(); {
		calls += b.round(r.Uint64(), kept, fds, deadline)
	}
	t.Logf("%d calls", calls)
	b.survived(kept)
	b.unharmed(kept, pid, before)
}

// unharmed checks the broker itself.
func (b *bench) unharmed(kept *set, pid uint32, before int) {
	b.t.Helper()
	b.must(b.call(b.root, api.RootPath, "org.freedesktop.DBus.Peer.Ping"))
	now, after := b.broker()
	if now != pid {
		b.t.Errorf("the broker was process %d, and is %d", pid, now)
	}
	if after > before+slack {
		b.t.Errorf("the broker has %d descriptors, before it had %d", after, before)
	}
	if log := b.Log(); strings.Contains(log, "panic") {
		b.t.Error("a method panicked")
	}
	b.quiet(kept)
}

// quiet checks that no goroutine is at work on a call, by the report of a broker that
// is made to end. The next one has its sessions.
func (b *bench) quiet(kept *set) {
	b.t.Helper()
	conn := b.Conn(b.t)
	added := make(chan *dbus.Signal, 64)
	conn.Signal(added)
	if err := conn.AddMatchSignal(dbus.WithMatchInterface(api.ManagerInterface), dbus.WithMatchMember("SessionAdded")); err != nil {
		b.t.Fatal(err)
	}
	before := len(b.Log())
	b.Signal(b.t, syscall.SIGQUIT)
	b.Ended(b.t)
	report := b.Log()[before:]
	if !strings.Contains(report, "goroutine ") {
		b.t.Fatal("the broker ended without a report")
	}
	if n := strings.Count(report, "bus.(*Conn).wrap("); n > 0 {
		b.t.Errorf("%d calls are at work in the broker, and nobody waits for one", n)
	}
	if n := strings.Count(report, "\ngoroutine "); n > 64 {
		b.t.Errorf("the broker has %d goroutines", n)
	} else {
		b.t.Logf("the broker has %d goroutines", n)
	}
	b.Restart(b.t)
	// The broker serves before its workers are back: what ends all sessions at the end
	// of the test does not know of those that are not.
	late, away := time.After(patience), map[dbus.ObjectPath]bool{kept.open: true, kept.waiting: true}
	for len(away) > 0 {
		select {
		case signal := <-added:
			if signal.Name == api.ManagerInterface+".SessionAdded" { // and no NameAcquired of the bus
				delete(away, signal.Body[1].(dbus.ObjectPath))
			}
		case <-late:
			b.t.Fatalf("%v have not come back", slices.Collect(maps.Keys(away)))
		}
	}
}
