// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"io"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// pipeHandler replies with the reading end of a pipe that holds the name of the member;
// a writing end is never left, so that the pipe ends.
func pipeHandler(_ context.Context, c *Call) ([]any, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Close() }()
	if _, err := w.WriteString(c.Member); err != nil {
		return nil, err
	}
	return []any{"with", r}, nil
}

func TestADescriptorInAReply(t *testing.T) {
	address := startBus(t)
	server := serveOn(t, address, Options{Handler: pipeHandler})
	object := connect(t, address).Object(testName, "/")
	before := openDescriptors(t)
	for _, member := range []string{"First", "Second"} {
		var text string
		var fd dbus.UnixFD
		if err := object.Call(testName+"."+member, 0).Store(&text, &fd); err != nil {
			t.Fatal(err)
		}
		r := os.NewFile(uintptr(fd), "reply")
		got, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil || string(got) != member || text != "with" {
			t.Errorf("the reply to %s is %q and a descriptor of %q, %v", member, text, got, err)
		}
	}
	waitNoCalls(t, server)
	wantDescriptors(t, before)
}

// Each of these has nobody who takes the descriptor.
func TestDescriptorsOfRepliesThatNobodyGetsAreClosed(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which closes files too
	address := startBus(t)
	server := serveOn(t, address, Options{Handler: pipeHandler})
	object := connect(t, address).Object(testName, "/")
	var text string
	var fd dbus.UnixFD
	if err := object.Call(testName+".Warm", 0).Store(&text, &fd); err != nil {
		t.Fatal(err)
	}
	_ = os.NewFile(uintptr(fd), "reply").Close()
	before := openDescriptors(t)
	for range 100 {
		object.Call(testName+".Nobody", dbus.FlagNoReplyExpected)
	}
	if err := object.Call(testName+".Last", 0).Store(&text, &fd); err != nil {
		t.Fatal(err)
	}
	_ = os.NewFile(uintptr(fd), "reply").Close()
	waitNoCalls(t, server)
	wantDescriptors(t, before)

	// Clients that are gone when the reply comes.
	for range 10 {
		raw, err := newRawClient(address)
		if err != nil {
			t.Fatal(err)
		}
		raw.serial++
		message := encodeCall(testName, "Gone", 0)
		message[8] = byte(raw.serial)
		if _, err := raw.c.Write(message); err != nil {
			t.Fatal(err)
		}
		_ = raw.Close()
	}
	if err := object.Call(testName+".Last", 0).Store(&text, &fd); err != nil {
		t.Fatal(err)
	}
	_ = os.NewFile(uintptr(fd), "reply").Close()
	waitNoCalls(t, server)
	wantDescriptors(t, before)
}

// A handler that returns after the connection was closed.
func TestADescriptorThatComesTooLateIsClosed(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which closes files too
	address := startBus(t)
	called, goOn := make(chan struct{}), make(chan struct{})
	server := serveOn(t, address, Options{Handler: func(ctx context.Context, c *Call) ([]any, error) {
		close(called)
		<-goOn
		return pipeHandler(ctx, c)
	}})
	connect(t, address).Object(testName, "/").Go(testName+".Late", 0, nil)
	<-called
	_ = server.Close()
	<-server.Done()
	before := openDescriptors(t)
	close(goOn)
	waitNoCalls(t, server)
	wantDescriptors(t, before)
}

// wantDescriptors waits until there are at most as many descriptors: a reply is on the
// bus a moment after its handler has returned.
func wantDescriptors(t *testing.T, most int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); openDescriptors(t) > most; {
		if time.Now().After(deadline) {
			t.Errorf("%d descriptors before, %d after", most, openDescriptors(t))
			return
		}
	}
}
