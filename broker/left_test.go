// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/workers"
	"github.com/pamprompt/pamprompt/policy"
	"github.com/pamprompt/pamprompt/tests/dbusdaemon"
)

// startOnBus is a broker without a name on a bus, the address of that, and how
// to have one more idle worker.
func startOnBus(t *testing.T) (*Broker, string, func() *workers.Worker) {
	t.Helper()
	dir, err := os.MkdirTemp("", "broker") // short: it becomes the name of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	address := dbusdaemon.Start(t, dir, `<busconfig><type>session</type><listen>unix:path=`+filepath.Join(dir, "bus")+`</listen>
		<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`)
	pool, idle := idleWorkers(t)
	b, err := New(t.Context(), Config{Address: address, Pool: pool, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	close(b.rebuilt)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		b.own(stop)
	}()
	t.Cleanup(func() {
		b.stopAside()
		_ = b.bus.Close()
		close(stop)
		<-stopped
		b.aside.Wait()
	})
	return b, address, idle
}

// peerOn is somebody on the bus, as the broker knows them, and their connection.
func peerOn(t *testing.T, b *Broker, address string) (*bus.Peer, *dbus.Conn) {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	peer, err := b.bus.Peer(t.Context(), conn.Names()[0])
	if err != nil {
		t.Fatal(err)
	}
	return peer, conn
}

// patient asks a question and takes whatever answer.
type patient struct {
	service             string
	answered, cancelled int
}

func (p *patient) object() policy.Object { return policy.Object{Exists: true, Service: p.service} }
func (p *patient) path() dbus.ObjectPath { return "/" }
func (p *patient) hearers() []*client    { return nil }
func (p *patient) waiting() []*prompt    { return nil }
func (p *patient) about() []slog.Attr    { return nil }
func (p *patient) mirror(*prompt)        {}
func (p *patient) cancel(*prompt)        { p.cancelled++ }
func (p *patient) ended(*prompt)         {}
func (p *patient) answer(*prompt, *claim, *os.File) error {
	p.answered++
	return nil
}

// Whoever has left the bus has no name any more, and nothing is done in it,
// however late that is seen: policy may have said yes a moment before
// (CVE-2021-3560).
func TestNothingIsDoneForACallerWhoHasLeft(t *testing.T) {
	const number, id = 5, 7
	for _, c := range []struct {
		name string
		do   func(b *Broker, p *bus.Peer) error
	}{
		{"an answer", func(b *Broker, p *bus.Peer) error {
			return b.look(func() error { return b.claim(p, number, newClaim(callerOrigin(p)), nil) })
		}},
		{"a cancellation", func(b *Broker, p *bus.Peer) error {
			return b.cancel(context.Background(), &bus.Call{Caller: p}, number)
		}},
		{"the end of a session", func(b *Broker, p *bus.Peer) error {
			_, err := closeSession(b, context.Background(), target{call: &bus.Call{Caller: p}, session: id})
			return err
		}},
		{"an agent", func(b *Broker, p *bus.Peer) error {
			return b.look(func() error { return b.enlist(p, b.basic(p)) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, address, idle := startOnBus(t)
			asker := new(patient)
			q := &prompt{number: number, asker: asker}
			s := newTransaction(b, &worker.Start{Session: id, Owner: &worker.Owner{}, Options: &worker.Options{}}, idle()).s
			b.do(func() {
				b.newPrompt(q)
				b.sessions[id] = s
			})
			peer, conn := peerOn(t, b, address)
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			<-peer.Gone()
			if err := c.do(b, peer); !errors.Is(err, api.AccessDenied) {
				t.Errorf("the caller hears %v, want AccessDenied", err)
			}
			b.do(func() {
				if asker.answered+asker.cancelled > 0 || q.claim != nil {
					t.Errorf("the prompt was answered %d times, cancelled %d times", asker.answered, asker.cancelled)
				}
				if s.state != api.StateOpening {
					t.Errorf("the session is %s", s.state)
				}
				if len(b.agents) > 0 || len(b.clients) > 0 || len(b.usage) > 0 {
					t.Errorf("there are %d agents, %d clients, %d who are charged", len(b.agents), len(b.clients), len(b.usage))
				}
			})
		})
	}
}
