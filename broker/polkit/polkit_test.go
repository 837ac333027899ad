// SPDX-License-Identifier: Apache-2.0

package polkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"go.uber.org/goleak"

	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/tests/dbusdaemon"
)

// The real polkitd is in tests/security. This one says what that never would:
// yes, for somebody who is gone.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// asked is one question that a pretended polkit got.
type asked struct {
	Subject subject
	Action  string
	Details map[string]string
	Flags   uint32
	ID      string
}

// pretended is an authority under the test's control.
type pretended struct {
	*Authority
	t       *testing.T
	address string
	reply   func(asked) (result, *dbus.Error)
	cancels chan string
	polkitd *dbus.Conn

	mu    sync.Mutex
	asked []asked
}

// CheckAuthorization is polkit's.
func (p *pretended) CheckAuthorization(s subject, action string, details map[string]string, flags uint32, id string) (result, *dbus.Error) {
	q := asked{s, action, details, flags, id}
	p.mu.Lock()
	p.asked = append(p.asked, q)
	p.mu.Unlock()
	return p.reply(q)
}

// CancelCheckAuthorization is polkit's.
func (p *pretended) CancelCheckAuthorization(id string) *dbus.Error {
	p.cancels <- id
	return nil
}

func (p *pretended) questions() []asked {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *pretended) connect() *dbus.Conn {
	p.t.Helper()
	c, err := dbus.Connect(p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// caller is somebody on the bus.
func (p *pretended) caller() (*dbus.Conn, *bus.Peer) {
	p.t.Helper()
	c := p.connect()
	peer, err := p.bus.Peer(p.t.Context(), c.Names()[0])
	if err != nil {
		p.t.Fatal(err)
	}
	return c, peer
}

func yes(asked) (result, *dbus.Error) { return result{Authorized: true}, nil }

func pretend(t *testing.T, reply func(asked) (result, *dbus.Error)) *pretended {
	t.Helper()
	dir, err := os.MkdirTemp("", "polkit") // short: it becomes the name of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &pretended{t: t, reply: reply, cancels: make(chan string, 8)}
	p.address = dbusdaemon.Start(t, dir, fmt.Sprintf(`<busconfig><type>session</type><listen>unix:path=%s/bus</listen>
		<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, dir))
	conn, err := bus.Dial(t.Context(), p.address, bus.Options{
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
		Handler: func(context.Context, *bus.Call) ([]any, error) { return nil, errors.New("nobody calls us") },
		Gone:    func(*bus.Peer) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p.Authority = New(conn, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if reply == nil {
		return p
	}
	p.polkitd = p.connect()
	if err := p.polkitd.Export(p, path, authority); err != nil {
		t.Fatal(err)
	}
	if _, err := p.polkitd.RequestName(service, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOnlyAClearYesIsAYes(t *testing.T) {
	for name, test := range map[string]struct {
		reply func(asked) (result, *dbus.Error)
		want  error // nil with fails for any error
		fails bool
	}{
		"yes":       {reply: yes},
		"no":        {func(asked) (result, *dbus.Error) { return result{}, nil }, ErrNo, true},
		"challenge": {func(asked) (result, *dbus.Error) { return result{Challenge: true}, nil }, ErrChallenge, true},
		"an error": {func(asked) (result, *dbus.Error) {
			return result{Authorized: true}, dbus.MakeFailedError(errors.New("no"))
		}, nil, true},
		"nobody": {nil, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := pretend(t, test.reply)
			_, peer := p.caller()
			err := p.Check(t.Context(), Question{Caller: peer, Action: "org.pamprompt.list", Details: map[string]string{"service": "login"}})
			if (err != nil) != test.fails || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("the answer is %v", err)
			}
			for _, q := range p.questions() {
				name, _ := q.Subject.Details["name"].Value().(string)
				if q.Subject.Kind != "system-bus-name" || name != peer.Name || q.Flags != 0 || q.Details["service"] != "login" {
					t.Errorf("it was asked %+v", q)
				}
			}
		})
	}
}

// TestACallerThatLeavesIsRefused, whatever polkit says by then: that a name that
// was gone counted as root was CVE-2021-3560.
func TestACallerThatLeavesIsRefused(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	p := pretend(t, func(asked) (result, *dbus.Error) {
		close(arrived)
		<-goOn
		return result{Authorized: true}, nil
	})
	defer close(goOn)
	conn, peer := p.caller()
	verdict := make(chan error, 1)
	go func() { verdict <- p.Check(t.Context(), Question{Caller: peer, Action: "org.pamprompt.manage"}) }()
	<-arrived
	_ = conn.Close()
	if err := <-verdict; !errors.Is(err, ErrLeft) {
		t.Errorf("the answer is %v", err)
	}
	if id := <-p.cancels; id != p.questions()[0].ID {
		t.Errorf("question %q was cancelled, not %q", id, p.questions()[0].ID)
	}
	if err := p.Check(t.Context(), Question{Caller: peer, Action: "org.pamprompt.manage"}); !errors.Is(err, ErrLeft) {
		t.Errorf("for who left before, the answer is %v", err)
	}
}

// TestAYesThatComesWithTheEndOfItsCaller is no yes.
func TestAYesThatComesWithTheEndOfItsCaller(t *testing.T) {
	type someone struct {
		conn *dbus.Conn
		peer *bus.Peer
	}
	who := make(chan someone, 1)
	p := pretend(t, func(asked) (result, *dbus.Error) {
		s := <-who
		_ = s.conn.Close()
		<-s.peer.Gone()
		return result{Authorized: true}, nil
	})
	conn, peer := p.caller()
	who <- someone{conn, peer}
	if err := p.Check(t.Context(), Question{Caller: peer, Action: "org.pamprompt.manage"}); !errors.Is(err, ErrLeft) {
		t.Errorf("the answer is %v", err)
	}
}

func TestPolkitThatIsSlowIsCancelled(t *testing.T) {
	goOn := make(chan struct{})
	p := pretend(t, func(asked) (result, *dbus.Error) { <-goOn; return result{Authorized: true}, nil })
	defer close(goOn)
	_, peer := p.caller()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, ErrSlow)
	defer cancel()
	if err := p.Check(ctx, Question{Caller: peer, Action: "org.pamprompt.list", Interactive: true}); !errors.Is(err, ErrSlow) {
		t.Errorf("the answer is %v", err)
	}
	if id := <-p.cancels; id != p.questions()[0].ID || p.questions()[0].Flags != allowInteraction {
		t.Errorf("question %q of %+v was cancelled", id, p.questions())
	}
}

func TestOneUIDCannotKeepPolkitBusy(t *testing.T) {
	goOn := make(chan struct{})
	var at, most atomic.Int32 // questions of it that polkit has
	var p *pretended
	p = pretend(t, func(asked) (result, *dbus.Error) {
		if n := at.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer at.Add(-1)
		<-goOn
		_ = p.polkitd.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err // the next one would come meanwhile
		return result{Authorized: true}, nil
	})
	_, peer := p.caller()
	var all sync.WaitGroup
	verdicts := make(chan error, maxChecks+1)
	for range maxChecks + 1 {
		all.Go(func() { verdicts <- p.Check(t.Context(), Question{Caller: peer, Action: "org.pamprompt.list"}) })
	}
	if err := <-verdicts; !errors.Is(err, ErrTooMany) { // the others wait
		t.Errorf("the first answer is %v", err)
	}
	close(goOn)
	all.Wait()
	for range maxChecks {
		if err := <-verdicts; err != nil {
			t.Errorf("an answer is %v", err)
		}
	}
	if err := p.Check(t.Context(), Question{Caller: peer, Action: "org.pamprompt.list"}); err != nil {
		t.Errorf("afterwards the answer is %v", err)
	}
	if most.Load() != 1 {
		t.Errorf("polkit had %d questions at a time", most.Load())
	}
	if len(p.checks)+len(p.turns) != 0 {
		t.Errorf("there is still %v, %v", p.checks, p.turns)
	}
}

// TestPrivateDetailsDoNotShowInADialog: rules see them before anybody is asked.
func TestPrivateDetailsDoNotShowInADialog(t *testing.T) {
	for name, test := range map[string]struct {
		named, blank result // without interaction
		want         error
		asked        int
	}{
		"yes by the details":             {result{Authorized: true}, result{}, nil, 1},
		"no by the details":              {result{}, result{Challenge: true}, ErrNo, 1},
		"a password in any case":         {result{Challenge: true}, result{Challenge: true}, nil, 3},
		"a password because of details":  {result{Challenge: true}, result{Authorized: true}, ErrDetails, 2},
		"no without details, a question": {result{Challenge: true}, result{}, ErrNo, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := pretend(t, func(q asked) (result, *dbus.Error) {
				switch {
				case q.Flags == allowInteraction:
					return result{Authorized: true}, nil
				case q.Details["user"] == "":
					return test.blank, nil
				}
				return test.named, nil
			})
			_, peer := p.caller()
			err := p.Check(t.Context(), Question{
				Caller: peer, Action: "org.pamprompt.answer-any", Details: map[string]string{"user": "anna"}, Interactive: true, Private: true,
			})
			if !errors.Is(err, test.want) || len(p.questions()) != test.asked {
				t.Errorf("the answer is %v, not %v, after %d questions, not %d", err, test.want, len(p.questions()), test.asked)
			}
			for _, q := range p.questions() {
				if q.Flags == allowInteraction && q.Details["user"] != "" {
					t.Errorf("a dialog has the details %v", q.Details)
				}
			}
		})
	}
}

func TestPolkitsHintIsHeard(t *testing.T) {
	p := pretend(t, yes)
	heard := make(chan struct{}, 1)
	if err := p.Watch(t.Context(), func() { heard <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	if err := p.polkitd.Emit(path, authority+".Changed"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-heard:
	case <-time.After(10 * time.Second):
		t.Fatal("the hint was not heard")
	}
}
