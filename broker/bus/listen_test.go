// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"sync/atomic"
	"testing"

	"github.com/godbus/dbus/v5"
)

const listened = "org.example.Listened"

// A service that comes, or comes again, is a reason to look again; that it goes is
// none, nor is what happens to other names.
func TestAServiceThatComesIsHeard(t *testing.T) {
	address := startBus(t)
	server := serveOn(t, address, Options{Handler: nothing})
	client := connect(t, address)
	heard := make(chan struct{}, 64)
	if err := server.Listen(t.Context(), listened, "/", listened+".Changed", func() { heard <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	wantHeard := func(what string, want int) {
		t.Helper()
		// What the bus said before this call has come before it.
		if err := client.Object(testName, "/").Call(testName+".Plain", 0).Err; err != nil {
			t.Fatal(err)
		}
		if got := len(heard); got != want {
			t.Errorf("%s: heard %d times, not %d", what, got, want)
		}
		for range len(heard) {
			<-heard
		}
	}
	own := func(name string) {
		t.Helper()
		if _, err := client.RequestName(name, dbus.NameFlagDoNotQueue); err != nil {
			t.Fatal(err)
		}
	}
	release := func(name string) {
		t.Helper()
		if _, err := client.ReleaseName(name); err != nil {
			t.Fatal(err)
		}
	}
	own(listened)
	wantHeard("it has come", 1)
	release(listened)
	wantHeard("it has gone", 0)
	own(listened)
	wantHeard("it has come again", 1)
	own(listened + "2")
	release(listened + "2")
	wantHeard("another name", 0)
	if err := client.Emit("/", listened+".Changed"); err != nil {
		t.Fatal(err)
	}
	wantHeard("its signal", 1)
	release(listened)
	wantHeard("the end", 0)
}

// Only the bus says who owns a name.
func TestThatAServiceHasComeIsNotForged(t *testing.T) {
	address := startBus(t)
	server := serveOn(t, address, Options{Handler: nothing})
	client := connect(t, address)
	var heard atomic.Int32
	if err := server.Listen(t.Context(), listened, "/", listened+".Changed", func() { heard.Add(1) }); err != nil {
		t.Fatal(err)
	}
	forged := []any{listened, "", client.Names()[0]}
	client.Send(&dbus.Message{Type: dbus.TypeSignal, Body: forged, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(testName),
		dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")),
		dbus.FieldInterface:   dbus.MakeVariant(driver),
		dbus.FieldMember:      dbus.MakeVariant("NameOwnerChanged"),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(forged...)),
	}}, nil)
	if err := client.Object(testName, "/").Call(testName+".Plain", 0).Err; err != nil {
		t.Fatal(err)
	}
	// It does not come this far; if it did:
	signals{server}.DeliverSignal(driver, "NameOwnerChanged", &dbus.Signal{
		Sender: client.Names()[0], Path: "/org/freedesktop/DBus", Name: driver + ".NameOwnerChanged", Body: forged,
	})
	if n := heard.Load(); n != 0 {
		t.Errorf("what is forged is heard %d times", n)
	}
	if _, err := client.RequestName(listened, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	if err := client.Object(testName, "/").Call(testName+".Plain", 0).Err; err != nil {
		t.Fatal(err)
	}
	if n := heard.Load(); n != 1 {
		t.Errorf("what the bus says is heard %d times", n)
	}
}
