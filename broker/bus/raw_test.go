// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

// encodeCall encodes a call by hand: serial and flags are to be filled in.
func encodeCall(dest, member string, fds int, body ...any) []byte {
	path := dbus.ObjectPath("/")
	if dest == driver {
		path = "/org/freedesktop/DBus"
	}
	m := &dbus.Message{Type: dbus.TypeMethodCall, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:        dbus.MakeVariant(path),
		dbus.FieldDestination: dbus.MakeVariant(dest),
		dbus.FieldInterface:   dbus.MakeVariant(dest),
		dbus.FieldMember:      dbus.MakeVariant(member),
	}}
	if fds > 0 {
		m.Headers[dbus.FieldUnixFDs] = dbus.MakeVariant(uint32(fds))
	}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var out bytes.Buffer
	if err := m.EncodeTo(&out, binary.LittleEndian); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func TestMessagesThatAreTooLargeGetAnErrorAndNothingElseHappens(t *testing.T) {
	address := startBus(t)
	serveOn(t, address, Options{Handler: nothing})
	client := connect(t, address)
	object := client.Object(testName, "/")
	for _, size := range []int{maxMessage, 8 << 20, 32 << 20} {
		err := object.Call(testName+".Plain", 0, strings.Repeat("x", size)).Err
		named, ok := err.(dbus.Error)
		if !ok || named.Name != "org.freedesktop.DBus.Error.LimitsExceeded" || !strings.Contains(named.Error(), "bytes long") {
			t.Errorf("a message of %d bytes: %v, want LimitsExceeded", size, err)
		}
		if err := object.Call(testName+".Plain", 0, "short").Err; err != nil {
			t.Fatalf("after a message of %d bytes a short one fails: %v", size, err)
		}
	}
}

// A message that the bus lets through and godbus cannot decode ends godbus's
// connection: a dictionary whose keys are booleans, for one, which every user
// can send with busctl. Here such a message must end nothing but itself, also
// when it brings descriptors, and so must one with flags of a later
// specification.
func TestAMessageThatCannotBeDecodedHurtsNobodyElse(t *testing.T) {
	address := startBus(t)
	server := serveOn(t, address, Options{Handler: nothing})
	before := openDescriptors(t)
	message := booleanKeys()
	if _, err := dbus.DecodeMessage(bytes.NewReader(message)); err == nil {
		t.Error("godbus has learnt to decode it: the test shows nothing any more")
	}
	if passed, err := sendRaw(t, address, message); err != nil || !passed {
		t.Fatalf("the bus did not let it through: %v", err)
	}
	laterFlags := encodeCall(testName, "Plain", 2)
	laterFlags[2] = 0x80 | byte(dbus.FlagNoReplyExpected)
	if _, err := sendRaw(t, address, laterFlags); err != nil {
		t.Fatal(err)
	}
	select {
	case <-server.Done():
		t.Fatal("the service lost its connection")
	default:
	}
	if err := connect(t, address).Object(testName, "/").Call(testName+".Plain", 0).Err; err != nil {
		t.Errorf("a plain call afterwards: %v", err)
	}
	waitNoCalls(t, server)
	if after := openDescriptors(t); after > before+1 { // the connection of the plain call
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// booleanKeys is a call, with two descriptors, that takes a{bs}.
func booleanKeys() []byte {
	// godbus does not encode it either; one byte and its padding are a
	// boolean of four.
	message := encodeCall(testName, "Plain", 2, map[byte]string{1: "x"})
	return bytes.Replace(message, []byte("a{ys}"), []byte("a{bs}"), 1)
}

// sendRaw sends a message with two descriptors from a connection of its own, and
// waits until the bus and the service have dealt with it. It returns false when
// the bus itself did not take it.
func sendRaw(t *testing.T, address string, message []byte) (bool, error) {
	raw, err := newRawClient(address)
	if err != nil {
		return false, err
	}
	defer func() { _ = raw.Close() }()
	null, err := os.Open("/dev/null")
	if err != nil {
		return false, err
	}
	defer func() { _ = null.Close() }()
	raw.serial++
	message[8] = byte(raw.serial)
	fd := int(null.Fd())
	if _, _, err := raw.c.WriteMsgUnix(message, unix.UnixRights(fd, fd), nil); err != nil {
		return false, err
	}
	// The bus ends a connection that it does not like; else this comes after.
	return raw.call(testName, "Plain", 0, nil) == nil, nil
}

func TestErrorsThatCrossTheBus(t *testing.T) {
	address := startBus(t)
	serveOn(t, address, Options{Handler: func(_ context.Context, c *Call) ([]any, error) {
		switch c.Member {
		case "Own":
			return nil, &api.Error{Code: api.TimedOut, Text: "nobody answered"}
		case "Standard":
			return nil, dbus.NewError("org.freedesktop.DBus.Error.UnknownMethod", []any{"no such"})
		case "Unknown":
			return nil, errString("open /etc/shadow: refused")
		}
		panic("in /etc/shadow")
	}})
	client := connect(t, address)
	for _, c := range []struct{ member, name, text string }{
		{"Own", "org.pamprompt.Broker1.Error.TimedOut", "nobody answered"},
		{"Standard", "org.freedesktop.DBus.Error.UnknownMethod", "no such"},
		{"Unknown", "org.freedesktop.DBus.Error.Failed", "internal error"},
		{"Panic", "org.freedesktop.DBus.Error.Failed", "internal error"},
	} {
		err := client.Object(testName, "/").Call(testName+"."+c.member, 0).Err
		named, ok := err.(dbus.Error)
		if !ok || named.Name != c.name || !strings.Contains(named.Error(), c.text) || strings.Contains(named.Error(), "shadow") {
			t.Errorf("%s: %v, want %s with %q", c.member, err, c.name, c.text)
		}
	}
}
