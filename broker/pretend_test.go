// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/workers"
	"github.com/pamprompt/pamprompt/policy"
)

// patience bounds what must happen; nothing waits for it to pass.
const patience = 10 * time.Second

// pretended is a polkit that answers when the test wants, which the real one of
// tests/security does not: each question is on asked, and waits for what is put
// on said.
type pretended struct {
	t     *testing.T
	conn  *dbus.Conn
	asked chan string // action and details
	said  chan polkitReply
}

// polkitReply is what it says, or an error of that name.
type polkitReply struct {
	yes   bool
	error string
}

// polkitResult is an AuthorizationResult, (bba{ss}).
type polkitResult struct {
	Authorized, Challenge bool
	Details               map[string]string
}

// CheckAuthorization is polkit's.
func (p *pretended) CheckAuthorization(_ struct {
	Kind    string
	Details map[string]dbus.Variant
}, action string, details map[string]string, _ uint32, _ string) (polkitResult, *dbus.Error) {
	p.asked <- fmt.Sprint(action, " ", details["service"], " ", details["user"])
	select {
	case r := <-p.said:
		if r.error != "" {
			return polkitResult{}, dbus.NewError(r.error, nil)
		}
		return polkitResult{Authorized: r.yes}, nil
	case <-p.t.Context().Done():
		return polkitResult{}, nil
	}
}

// CancelCheckAuthorization is polkit's.
func (p *pretended) CancelCheckAuthorization(string) *dbus.Error { return nil }

const polkitName = "org.freedesktop.PolicyKit1"

func pretendPolkit(t *testing.T, address string) *pretended {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &pretended{t, conn, make(chan string, 1024), make(chan polkitReply)}
	if err := conn.Export(p, "/org/freedesktop/PolicyKit1/Authority", polkitName+".Authority"); err != nil {
		t.Fatal(err)
	}
	p.come()
	return p
}

// come has it be there.
func (p *pretended) come() {
	p.t.Helper()
	if _, err := p.conn.RequestName(polkitName, dbus.NameFlagDoNotQueue); err != nil {
		p.t.Fatal(err)
	}
}

// leave has it be away.
func (p *pretended) leave() {
	p.t.Helper()
	if _, err := p.conn.ReleaseName(polkitName); err != nil {
		p.t.Fatal(err)
	}
}

// wantAsked waits for the next question.
func (p *pretended) wantAsked(want string) {
	p.t.Helper()
	select {
	case got := <-p.asked:
		if got != want {
			p.t.Fatalf("polkit is asked for %q, not for %q", got, want)
		}
	case <-time.After(patience):
		p.t.Fatalf("polkit is not asked for %q", want)
	}
}

// say answers the question that was asked.
func (p *pretended) say(yes bool) { p.t.Helper(); p.reply(polkitReply{yes: yes}) }

// fail answers it by an error.
func (p *pretended) fail(name string) { p.t.Helper(); p.reply(polkitReply{error: name}) }

func (p *pretended) reply(r polkitReply) {
	p.t.Helper()
	select {
	case p.said <- r:
	case <-time.After(patience):
		p.t.Fatal("polkit was asked nothing")
	}
}

// always answers every question from now on.
func (p *pretended) always(yes bool) {
	go func() {
		for {
			select {
			case p.said <- polkitReply{yes: yes}:
			case <-p.t.Context().Done():
				return
			}
		}
	}()
}

// ear is an agent, and what it hears.
type ear struct {
	t       *testing.T
	b       *Broker
	peer    *bus.Peer
	conn    *dbus.Conn
	signals chan *dbus.Signal
}

const stranger = 60001

// newEar registers an agent on whom polkit decides: the bus said, as it were, that
// its uid is not the test's.
func newEar(t *testing.T, b *Broker, address string) *ear {
	t.Helper()
	peer, conn := peerOn(t, b, address)
	peer.UID = stranger
	e := &ear{t, b, peer, conn, make(chan *dbus.Signal, 256)}
	conn.Signal(e.signals)
	e.enlist()
	return e
}

func (e *ear) enlist() {
	e.t.Helper()
	if err := e.b.look(func() error { return e.b.enlist(e.peer, policy.Caller{UID: stranger}) }); err != nil {
		e.t.Fatal(err)
	}
}

// wantHeard checks what came since the last time, up to a signal of our own that
// is behind all that was sent before.
func (e *ear) wantHeard(want ...string) {
	e.t.Helper()
	const mark = "org.example.Mark.Mark"
	e.b.do(func() { e.b.bus.Send(bus.Signal{Dest: e.peer.Name, Path: "/", Name: mark}) })
	var heard []string
	for late := time.After(patience); ; {
		select {
		case s := <-e.signals:
			switch s.Name {
			case mark:
				if !slices.Equal(heard, want) {
					e.t.Errorf("the agent heard %q, not %q", heard, want)
				}
				return
			case api.ManagerInterface + ".Prompt":
				heard = append(heard, fmt.Sprint("prompt ", s.Body[0]))
			case api.ManagerInterface + ".PromptClosed":
				heard = append(heard, fmt.Sprint("end ", s.Body[0]))
			case api.ManagerInterface + ".Message":
				heard = append(heard, fmt.Sprint(s.Body[2]))
			}
		case <-late:
			e.t.Fatalf("the agent heard %q and nothing more", heard)
		}
	}
}

// settle waits until the owner knows what polkit said last, and has no question.
func (e *ear) settle() {
	e.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		busy := true
		e.b.do(func() {
			c := e.b.clients[e.peer.Name]
			busy = c != nil && (c.vetting.works || len(c.vetting.queue) > 0)
		})
		if !busy {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatal("the agent is still asked about")
		}
	}
}

// newTransaction is a transaction in a session of its own.
func newTransaction(b *Broker, start *worker.Start, w *workers.Worker) *transaction {
	s := b.newSession(openedAs(start))
	t := s.newTransaction(start, w)
	s.join(t)
	return t
}

// vettingStage is a broker, its polkit, and a session of root's in it.
type vettingStage struct {
	*Broker
	address string
	polkit  *pretended
	idle    func() *workers.Worker
	t       *transaction
}

const answerAny = "org.pamprompt.answer-any vault anna"

func startVetting(t *testing.T) *vettingStage {
	t.Helper()
	b, address, idle := startOnBus(t)
	v := &vettingStage{Broker: b, address: address, polkit: pretendPolkit(t, address), idle: idle}
	return v.another(7)
}

// another is the same with one more session.
func (v *vettingStage) another(id uint64) *vettingStage {
	next := *v
	next.t = newTransaction(v.Broker, &worker.Start{
		Session: id, Service: "vault", User: "anna", Owner: &worker.Owner{Name: ":0.0"}, Options: &worker.Options{Attempts: 1},
	}, v.idle())
	v.do(func() { v.add(next.t.s, nil) })
	return &next
}

// ask has the session's module ask.
func (v *vettingStage) ask(number uint64) {
	v.do(func() { v.t.ask(&worker.Prompt{Style: worker.Style_STYLE_SECRET, Text: []byte("?")}, number) })
}

// end ends its prompt.
func (v *vettingStage) end() { v.do(func() { v.t.prompt.end(api.OutcomeCancelled) }) }

// text has it say something.
func (v *vettingStage) text(text string) {
	v.do(func() { v.t.tell(&worker.Message{Style: worker.Style_STYLE_INFO, Text: []byte(text)}) })
}

// oldWorker is an idle worker of a version.
func oldWorker(t *testing.T, version uint32) *workers.Worker {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w", "broker.sock")
	pool, err := workers.Listen(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- pool.Serve(func(*workers.Worker, *worker.Session) {}) }()
	conn, err := worker.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pool.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	})
	if err := conn.Send(&worker.ToBroker{Message: &worker.ToBroker_Hello{Hello: &worker.Hello{Version: version}}}); err != nil {
		t.Fatal(err)
	}
	w, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return w
}
