// SPDX-License-Identifier: Apache-2.0

package polkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/time/rate"
)

// What the bus says in polkit's place is no word of polkit's. It is a no all the same.
func TestWhatIsNoWordOfPolkits(t *testing.T) {
	const own, general, systemd = service + ".Error.", "org.freedesktop.DBus.Error.", "org.freedesktop.systemd1."
	for name, undecided := range map[string]bool{
		general + "ServiceUnknown": true, general + "NameHasNoOwner": true, general + "NoReply": true,
		general + "LimitsExceeded": true, general + "TimedOut": true, general + "Spawn.ChildExited": true,
		systemd + "NoSuchUnit": true,
		own + "Failed":         false, own + "NotAuthorized": false, general + "UnknownMethod": false,
		general + "AccessDenied": false, "org.example.Unheard": false, general + "Spawned": false,
	} {
		p := pretend(t, func(asked) (result, *dbus.Error) {
			return result{Authorized: true}, dbus.NewError(name, []any{"for the test"})
		})
		_, peer := p.caller()
		err := p.Check(t.Context(), Question{Caller: peer, Action: "org.pamprompt.list"})
		if err == nil || Undecided(err) != undecided || errors.Is(err, ErrAway) != undecided {
			t.Errorf("%s: the answer is %v, undecided %v", name, err, Undecided(err))
		}
	}
	for _, test := range []struct {
		err  error
		want bool
	}{{ErrSlow, true}, {ErrTooMany, true}, {ErrNo, false}, {ErrChallenge, false}, {ErrLeft, false}, {ErrDetails, false}, {nil, false}} {
		if got := Undecided(test.err); got != test.want {
			t.Errorf("%v: undecided %v", test.err, got)
		}
	}
	p := pretend(t, nil)
	_, peer := p.caller()
	if err := p.Check(t.Context(), Question{Caller: peer, Action: "org.pamprompt.list"}); !errors.Is(err, ErrAway) {
		t.Errorf("where nobody is, the answer is %v", err)
	}
}

// The log says once that polkit is away, and once that it is back; where that goes to
// and fro it says so now and then.
func TestThatPolkitIsAwayIsLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	h := newHealth(slog.New(slog.NewTextHandler(&out, nil)))
	away := fmt.Errorf("%w: the bus says so", ErrAway)
	lines := func() (away, back int) {
		return strings.Count(out.String(), "polkit does not answer"), strings.Count(out.String(), "polkit answers again")
	}
	want := func(what string, away, back int) {
		t.Helper()
		if a, b := lines(); a != away || b != back {
			t.Errorf("%s: %d lines say that it is away, %d that it is back, not %d and %d", what, a, b, away, back)
		}
	}
	h.note(nil)
	want("it answers", 0, 0)
	for range 100 {
		h.note(away)
		h.note(ErrLeft)
		h.note(ErrSlow)
	}
	want("a hundred questions later", 1, 0)
	h.note(ErrNo)
	h.note(nil)
	want("it says no, and yes", 1, 1)
	for range 100 {
		h.note(ErrSlow)
		h.note(ErrChallenge)
	}
	want("to and fro", toldBurst, toldBurst)
	h.loud = rate.NewLimiter(rate.Every(toldEvery), 1) // as it is by then
	h.note(away)
	want("a minute later", toldBurst+1, toldBurst)
}

// Whoever looks for a password while polkit waits is no fault of polkit's.
func TestSomebodyWhoLooksForAPasswordIsNoFault(t *testing.T) {
	var out bytes.Buffer
	goOn := make(chan struct{})
	p := pretend(t, func(asked) (result, *dbus.Error) { <-goOn; return result{Authorized: true}, nil })
	defer close(goOn)
	p.health.log = slog.New(slog.NewTextHandler(&out, nil))
	_, peer := p.caller()
	for _, interactive := range []bool{true, false} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, ErrSlow)
		if err := p.Check(ctx, Question{Caller: peer, Action: "org.pamprompt.list", Interactive: interactive}); !errors.Is(err, ErrSlow) {
			t.Errorf("the answer is %v", err)
		}
		cancel()
		if said := out.Len() > 0; said == interactive {
			t.Errorf("interactive %v: the log says %q", interactive, &out)
		}
	}
}
