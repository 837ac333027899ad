// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/transport"
)

type errString string

func (e errString) Error() string { return string(e) }

func TestACallerIsWhoTheBusSays(t *testing.T) {
	address := startBus(t)
	callers := make(chan *Peer, 1)
	serveOn(t, address, Options{Handler: func(_ context.Context, c *Call) ([]any, error) {
		callers <- c.Caller
		return nil, nil
	}})
	client := connect(t, address)
	if err := client.Object(testName, "/").Call(testName+".Plain", 0).Err; err != nil {
		t.Fatal(err)
	}
	caller := <-callers
	if caller.Name != client.Names()[0] || caller.UID != uint32(os.Geteuid()) || caller.PID != uint32(os.Getpid()) {
		t.Errorf("caller is %+v", caller)
	}
}

// CVE-2021-3560 of polkit: whoever leaves between a call and the look-up of
// its credentials must not count as anybody.
func TestACallerThatVanishesIsRefused(t *testing.T) {
	address := startBus(t)
	server := serveOn(t, address, Options{Handler: nothing})
	client := connect(t, address)
	name := client.Names()[0]
	_ = client.Close()
	for range 3 { // and asking again does not help
		if p, err := server.Peer(t.Context(), name); err == nil {
			t.Fatalf("a connection that is gone is %+v", p)
		}
	}
	server.peers.mu.Lock()
	defer server.peers.mu.Unlock()
	if len(server.peers.by) != 0 {
		t.Errorf("%d peers are remembered that could not be looked up", len(server.peers.by))
	}
}

func TestLeavingIsToldOnceToWhoWasLookedUp(t *testing.T) {
	address := startBus(t)
	var mu sync.Mutex
	told := make(map[string]int)
	all := make(chan struct{}, 100)
	server := serveOn(t, address, Options{Handler: nothing, Gone: func(p *Peer) {
		mu.Lock()
		told[p.Name]++
		mu.Unlock()
		all <- struct{}{}
	}})
	var names []string
	for range 20 {
		client := connect(t, address)
		p, err := server.Peer(t.Context(), client.Names()[0])
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, p.Name)
		_ = client.Close()
		<-p.Gone()
	}
	for range names {
		<-all
	}
	mu.Lock()
	defer mu.Unlock()
	for _, name := range names {
		if told[name] != 1 {
			t.Errorf("the leaving of %s was told %d times", name, told[name])
		}
	}
}

func TestCallsOfOneConnectionAreBounded(t *testing.T) {
	address := startBus(t)
	release := make(chan struct{})
	serveOn(t, address, Options{Handler: func(ctx context.Context, c *Call) ([]any, error) {
		if c.Member == "Block" {
			<-release
		}
		return nil, nil
	}})
	greedy, other := connect(t, address), connect(t, address)
	replies := make(chan *dbus.Call, maxCalls+1)
	for range maxCalls + 1 {
		greedy.Object(testName, "/").Go(testName+".Block", 0, replies)
	}
	var first *dbus.Call
	select {
	case first = <-replies: // the others wait for release
	case <-time.After(10 * time.Second):
		close(release)
		t.Fatal("no call is refused")
	}
	if named, ok := first.Err.(dbus.Error); !ok || named.Name != api.ErrorPrefix+string(api.LimitExceeded) {
		t.Errorf("one call too many: %v, want LimitExceeded", first.Err)
	}
	if err := other.Object(testName, "/").Call(testName+".Plain", 0).Err; err != nil {
		t.Errorf("another connection's call: %v", err)
	}
	close(release)
	for range maxCalls {
		if r := <-replies; r.Err != nil {
			t.Errorf("a call within the bound: %v", r.Err)
		}
	}
}

func TestTheRealSystemBusIsKnownByItsSocket(t *testing.T) {
	dir := t.TempDir()
	real, other, link := dir+"/real", dir+"/other", dir+"/link"
	for _, f := range []string{real, other} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, address string
		want          bool
	}{
		{"the socket itself", "unix:path=" + real, true},
		{"a link to it", "unix:path=" + link, true},
		{"with a guid", "unix:path=" + real + ",guid=00", true},
		{"one of a list", "unix:path=" + other + ";unix:path=" + link, true},
		{"escaped", "unix:path=" + dbus.EscapeBusAddressValue(real), true},
		{"another socket", "unix:path=" + other, false},
		{"an abstract one", "unix:abstract=" + real, false},
	} {
		if got := leadsTo(c.address, real); got != c.want {
			t.Errorf("%s: leadsTo(%q) = %v, want %v", c.name, c.address, got, c.want)
		}
	}
	if !IsReal(transport.DefaultSystemAddress) {
		t.Error("the default address is not the real bus")
	}
}

// A reply never overtakes a signal that was sent before it.
func TestAReplyComesAfterTheSignalsBeforeIt(t *testing.T) {
	address := startBus(t)
	var server *Conn
	ready := make(chan struct{})
	server = serveOn(t, address, Options{Handler: func(_ context.Context, c *Call) ([]any, error) {
		<-ready
		for i := range uint32(20) {
			server.Send(Signal{Dest: c.Caller.Name, Path: "/", Name: testName + ".Counted", Values: []any{i}})
		}
		return nil, nil
	}})
	close(ready)
	raw, err := newRawClient(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	for range 50 {
		before, err := raw.signalsBeforeReply(testName, "Count")
		if err != nil {
			t.Fatal(err)
		}
		if before != 20 {
			t.Fatalf("%d of 20 signals came before the reply", before)
		}
	}
}
