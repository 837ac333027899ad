// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
)

func TestWhatAnotherProgramAsksIsAnsweredByBusctlAlone(t *testing.T) {
	b := one(t, password(t))
	a := b.asker("Disk secret")
	b.bus.asked() // when to look
	list := b.busctl("ListPrompts")
	fields := strings.Fields(list)
	if !strings.HasPrefix(list, "a(tossa{sv}) 1 ") || !strings.Contains(list, `"/" "secret" "Disk secret"`) || !strings.Contains(list, `"source" s "ask-password"`) {
		t.Fatalf("busctl lists %s", list)
	}
	b.busctl("AnswerPrompt", "ts", fields[2], "correct horse")
	a.prints("correct horse\n")
	if list := b.busctl("ListPrompts"); list != "a(tossa{sv}) 0" {
		t.Errorf("busctl lists %s", list)
	}
}

func TestWhatAnotherProgramAsks(t *testing.T) {
	b := one(t, password(t))
	for _, test := range []struct {
		name           string
		args           []string
		style, message string
		id             string
		expires        bool
		answer         string
	}{
		{"a secret, for ever", []string{"--timeout=0", "Disk secret"}, api.StyleSecret, "Disk secret", "", false, "correct horse"},
		{"what may be seen", []string{"--timeout=0", "--echo", "Your name:"}, api.StyleVisible, "Your name:", "", false, "jürgen"},
		{"with an id and a time", []string{"--timeout=60", "--id=cryptsetup:/dev/sda3", "Disk secret"}, api.StyleSecret, "Disk secret", "cryptsetup:/dev/sda3", true, ""},
		{"as long as it takes", []string{"--timeout=0", "Disk secret"}, api.StyleSecret, "Disk secret", "", false, strings.Repeat("x", 2046)},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.during(t)
			a := b.asker(test.args...)
			p := b.bus.asked()
			file := b.theirs()
			if p.Path != "/" || p.Session != 0 || p.Style != test.style || p.Message != test.message || p.RequestID != test.id ||
				p.OwnerPID != uint32(a.cmd.Process.Pid) || p.Expires != file.NotAfter || (p.Expires != 0) != test.expires {
				t.Errorf("the prompt is %+v", p)
			}
			b.wantDetails(p, test.id != "", test.expires)
			b.bus.answer(p, test.answer)
			b.bus.closed(p, api.OutcomeAnswered)
			a.prints(test.answer + "\n")
			b.wantAudited("event=answer", fmt.Sprintf("prompt=%d", p.ID), "channel=dbus", "caller-uid=0")
			if err := b.bus.give(p.ID, "too late"); !errors.Is(err, api.AlreadyAnswered) {
				t.Errorf("a second answer: %v", err)
			}
		})
	}
}

// wantAudited checks that one line of the log holds all of this.
func (b *stage) wantAudited(attributes ...string) {
	b.t.Helper()
	log := b.Log()
	for line := range strings.Lines(log) {
		words := strings.Fields(line)
		if !slices.ContainsFunc(attributes, func(a string) bool { return !slices.Contains(words, a) }) {
			return
		}
	}
	b.t.Errorf("no line of the log holds %q:\n%s", attributes, log)
}

// wantDetails compares the details with docs/dbus.md, to the last one.
func (b *stage) wantDetails(p api.Prompt, id, expires bool) {
	b.t.Helper()
	var list []struct {
		ID             uint64
		Session        dbus.ObjectPath
		Style, Message string
		Details        map[string]dbus.Variant
	}
	if err := b.Conn(b.t).Object(api.BusName, api.RootPath).Call(api.ManagerInterface+".ListPrompts", 0).Store(&list); err != nil || len(list) != 1 {
		b.t.Fatalf("%d prompts: %v", len(list), err)
	}
	want := map[string]dbus.Variant{
		"source": dbus.MakeVariant(api.SourceAskPassword), "owner-uid": dbus.MakeVariant(uint32(0)), "index": dbus.MakeVariant(uint32(0)),
		"owner-pid": dbus.MakeVariant(p.OwnerPID), "owner-comm": dbus.MakeVariant(askPassword[:15]), // as much as the kernel keeps
	}
	if id {
		want["request-id"] = dbus.MakeVariant(p.RequestID)
	}
	if expires {
		want["expires"] = dbus.MakeVariant(p.Expires)
	}
	got := maps.Clone(list[0].Details)
	delete(got, "owner-unit") // that is whatever runs the tests
	if !maps.Equal(got, want) {
		b.t.Errorf("the details are %v\nnot             %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

func TestAnAnswerThatAnotherProgramCannotTake(t *testing.T) {
	b := one(t, password(t))
	a := b.asker("Disk secret")
	p := b.bus.asked()
	for _, test := range []struct {
		name, answer string
		code         api.Code
	}{
		{"longer than its buffer", strings.Repeat("x", 2049), api.LimitExceeded},
		{"as long as an answer may be", strings.Repeat("x", api.MaxResponse), api.LimitExceeded},
		{"with a NUL in it", "correct\x00horse", api.InvalidArgument},
		{"with a NUL at its end", "correct horse\x00", api.InvalidArgument},
	} {
		if err := b.bus.give(p.ID, test.answer); !errors.Is(err, test.code) {
			t.Errorf("%s: %v, not %s", test.name, err, test.code)
		}
	}
	if waits := b.bus.pending(); len(waits) != 1 || waits[0].ID != p.ID {
		t.Errorf("there wait %+v", waits)
	}
	b.bus.answer(p, "correct horse")
	a.prints("correct horse\n")
}

func TestAnotherProgramIsCancelled(t *testing.T) {
	b := one(t, password(t))
	a := b.asker("Disk secret")
	p := b.bus.asked()
	b.bus.cancel(p)
	b.bus.closed(p, api.OutcomeCancelled)
	a.fails()
	if err := b.bus.give(p.ID, "too late"); !errors.Is(err, api.Cancelled) {
		t.Errorf("an answer afterwards: %v", err)
	}
}

// Of several agents on D-Bus one is heard, and the others are told so.
func TestTwoAnswersToAnotherProgramAtTheSameInstant(t *testing.T) {
	b := one(t, password(t))
	other := b.listen()
	for range 50 {
		q := b.put("twice", "")
		p := b.bus.asked()
		errs := together(func() error { return b.bus.give(p.ID, "one") }, func() error { return other.give(p.ID, "two") })
		switch {
		case errs[0] == nil && errors.Is(errs[1], api.AlreadyAnswered):
			q.hears("+one")
		case errs[1] == nil && errors.Is(errs[0], api.AlreadyAnswered):
			q.hears("+two")
		default:
			t.Errorf("they heard %v", errs)
		}
		q.silent()
		b.bus.closed(p, api.OutcomeAnswered)
		other.closed(p, api.OutcomeAnswered)
		q.gone()
	}
}

// What root is asked is not for everybody: neither to see nor to answer.
func TestSomebodyElseSeesNothingOfIt(t *testing.T) {
	b := one(t, password(t))
	somebody := watch(t, b.clientOf(nobody), true)
	a := b.asker("Disk secret")
	p := b.bus.asked()
	if list := somebody.pending(); len(list) > 0 {
		t.Errorf("somebody sees %+v", list)
	}
	if err := somebody.give(p.ID, "mallory's"); !errors.Is(err, api.AccessDenied) {
		t.Errorf("somebody answers: %v", err)
	}
	if err := somebody.Cancel(within(t), p.ID); !errors.Is(err, api.AccessDenied) {
		t.Errorf("somebody cancels: %v", err)
	}
	if there, not := somebody.give(p.ID, "x"), somebody.give(1, "x"); there.Error() != not.Error() {
		t.Errorf("what is there is told by %q from what is not, %q", there, not)
	}
	b.bus.answer(p, "correct horse")
	b.bus.closed(p, api.OutcomeAnswered)
	a.prints("correct horse\n")
	// This call is answered after all that was sent before.
	somebody.pending()
	somebody.Close()
	for event := range somebody.events {
		switch event.(type) {
		case api.Prompt, api.PromptClosed, api.Message:
			t.Errorf("somebody was told %+v", event)
		}
	}
}

// What we ask ourselves is no question of another program.
func TestOurOwnRequestsAreNotReadBack(t *testing.T) {
	b := one(t, password(t))
	s, p, _ := b.ask(api.Options{})
	q := b.put("other", "")
	theirs := b.bus.asked() // in the order of the directory's changes
	if list := b.bus.pending(); len(list) != 2 {
		t.Errorf("there wait %+v", list)
	}
	b.bus.answer(theirs, "for them")
	q.hears("+for them")
	b.bus.answer(p, answer)
	b.bus.opened(s)
}

// What was asked before the broker came, or while it was away.
func TestABrokerFindsWhatIsAskedAlready(t *testing.T) {
	b := one(t, password(t))
	a := b.asker("Disk secret")
	before := b.bus.asked()
	b.Kill(t)
	next(b.bus, func(api.BrokerGone) bool { return true })
	q := b.put("meanwhile", "")
	b.Restart(t)
	for range 2 {
		p := b.bus.asked()
		if p.ID == before.ID {
			t.Errorf("number %d comes twice", p.ID)
		}
		b.bus.answer(p, p.Message)
	}
	a.prints("Disk secret\n")
	q.hears("+meanwhile?")
}
