// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/workers"
	"github.com/pamprompt/pamprompt/tests/dbusdaemon"
)

// A worker has dialled before there is a broker, as under systemd, which keeps the socket.
// Whoever calls when the name is there must find its session, and its opener must believe
// what it is told: neither before the name is the broker's, nor after the first call.
func TestASessionThatHasWaitedIsKnownToTheFirstCall(t *testing.T) {
	dir, err := os.MkdirTemp("", "broker") // short: it becomes the name of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	address := dbusdaemon.Start(t, dir, `<busconfig><type>session</type><listen>unix:path=`+filepath.Join(dir, "bus")+`</listen>
		<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`)
	opener, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opener.Close() })
	heard := make(chan *dbus.Signal, 256)
	opener.Signal(heard)
	if err := opener.AddMatchSignal(dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, api.BusName)); err != nil {
		t.Fatal(err)
	}
	var bus string
	if err := opener.BusObject().Call("org.freedesktop.DBus.GetId", 0).Store(&bus); err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(dir, "w", "broker.sock")
	pool, err := workers.Listen(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*worker.Conn
	for i := range conns {
		if conns[i], err = worker.Dial(path); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conns[i].Close() })
	}
	hello := func(i int) {
		t.Helper()
		session := bootTicks() - 10 + 2*uint64(i)
		err := conns[i].Send(&worker.ToBroker{Message: &worker.ToBroker_Hello{Hello: &worker.Hello{
			Version: worker.Version, Session: &worker.Session{
				Phase: worker.Phase_PHASE_AUTHENTICATE,
				Start: &worker.Start{
					Session: session, Service: "word", User: "anna",
					Owner:   &worker.Owner{Name: opener.Names()[0], Uid: uint32(os.Geteuid()), BusId: bus},
					Options: &worker.Options{Attempts: 1, Agent: true},
				},
				Prompt: &worker.Prompt{Number: session + 1, Style: worker.Style_STYLE_SECRET, Phase: worker.Phase_PHASE_AUTHENTICATE, Text: []byte("Password: ")},
			},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	hello(0) // and the other one says nothing yet

	b, err := New(t.Context(), Config{Address: address, Pool: pool, Log: slog.New(slog.DiscardHandler), Ready: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- b.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})

	next := func() *dbus.Signal {
		t.Helper()
		select {
		case s := <-heard:
			return s
		case <-time.After(patience):
			t.Fatal("nothing more is heard")
			return nil
		}
	}
	named := next()
	for named.Name == "org.freedesktop.DBus.NameAcquired" {
		named = next()
	}
	if named.Name != "org.freedesktop.DBus.NameOwnerChanged" {
		t.Fatalf("before the name has an owner %s is heard", named.Name)
	}
	list := opener.Object(api.BusName, api.RootPath).Go(api.ManagerInterface+".ListSessions", 0, make(chan *dbus.Call, 1))
	asked := next()
	if asked.Name != api.ManagerInterface+".Prompt" || asked.Sender != named.Body[2] {
		t.Fatalf("%s of %s is heard, not the prompt", asked.Name, asked.Sender)
	}
	for range 20 { // a call takes no longer than this
		if err := opener.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil {
			t.Fatal(err)
		}
	}
	hello(1)
	var sessions []struct {
		ID            uint64
		Service, User string
		UID           uint32
		State         string
		Path          dbus.ObjectPath
	}
	select {
	case <-list.Done:
	case <-time.After(patience):
		t.Fatal("the first call is not answered")
	}
	if err := list.Store(&sessions); err != nil {
		t.Fatal(err)
	}
	if len(sessions) != 2 {
		t.Errorf("the first call is told of %d sessions, not of both", len(sessions))
	}
}

func TestNobodyIsToldOfASessionBeforeTheNameIsOurs(t *testing.T) {
	b, address, idle := startOnBus(t)
	told := listen(t, b, address)
	var adopted sync.WaitGroup
	adopted.Go(func() {
		b.adoptInTime(idle(), &worker.Session{Phase: worker.Phase_PHASE_AUTHENTICATE, Start: &worker.Start{
			Session: 7, Service: "word", User: "anna", Owner: &worker.Owner{}, Options: &worker.Options{Attempts: 1, Linger: true},
		}})
	})
	for range 20 { // one that does not wait takes no longer than this
		if said := told(); len(said) > 0 {
			t.Fatalf("before the name is ours is told %q", said)
		}
	}
	close(b.named)
	adopted.Wait()
	if said := told(); len(said) == 0 {
		t.Error("nothing is told of the session")
	}
}
