// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// fakeBus answers as a bus does what a service asks at its start, and who its
// callers are as a test wants it: real ones that give process descriptors are
// younger than some machines, and none lies.
type fakeBus struct {
	credentials func() (map[string]dbus.Variant, []int) // the descriptors stay the test's
	asked       chan struct{}                           // gets one for each such question
	late        chan struct{}                           // unless nil, that answer waits until it is closed
	answered    chan struct{}                           // gets one for each such answer
	conn        chan *net.UnixConn                      // gets the service's connection
}

// start returns the address.
func (f *fakeBus) start(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	f.asked, f.answered, f.conn = make(chan struct{}, 100), make(chan struct{}, 100), make(chan *net.UnixConn, 1)
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		f.conn <- c
		f.serve(c)
	}()
	return "unix:path=" + dbus.EscapeBusAddressValue(path)
}

func (f *fakeBus) serve(c *net.UnixConn) {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch line = strings.Trim(line, "\x00\r\n"); {
		case line == "AUTH":
			_, err = c.Write([]byte("REJECTED EXTERNAL\r\n"))
		case strings.HasPrefix(line, "AUTH "):
			_, err = c.Write([]byte("OK 0123456789abcdef0123456789abcdef\r\n"))
		case line == "NEGOTIATE_UNIX_FD":
			_, err = c.Write([]byte("AGREE_UNIX_FD\r\n"))
		}
		if err != nil {
			return
		}
		if line == "BEGIN" {
			break
		}
	}
	for {
		m, err := dbus.DecodeMessage(r)
		if err != nil {
			return
		}
		if f.answer(c, m) != nil {
			return
		}
	}
}

func (f *fakeBus) answer(c *net.UnixConn, m *dbus.Message) error {
	switch member, _ := m.Headers[dbus.FieldMember].Value().(string); member {
	case "Hello":
		return reply(c, m, nil, ":1.1")
	case "GetId":
		return reply(c, m, nil, "0123456789abcdef0123456789abcdef")
	case "RequestName":
		return reply(c, m, nil, uint32(dbus.RequestNameReplyPrimaryOwner))
	case getCredentials:
		credentials, fds := f.credentials()
		f.asked <- struct{}{}
		if f.late != nil {
			<-f.late
		}
		defer func() { f.answered <- struct{}{} }()
		return reply(c, m, fds, credentials)
	default:
		return reply(c, m, nil)
	}
}

func reply(c *net.UnixConn, to *dbus.Message, fds []int, body ...any) error {
	return send(c, &dbus.Message{Type: dbus.TypeMethodReply, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(":1.1"),
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()),
	}}, fds)
}

func send(c *net.UnixConn, m *dbus.Message, fds []int) error {
	m.Headers[dbus.FieldSender] = dbus.MakeVariant(driver)
	if len(m.Body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(m.Body...))
	}
	if len(fds) > 0 {
		m.Headers[dbus.FieldUnixFDs] = dbus.MakeVariant(uint32(len(fds)))
	}
	var out bytes.Buffer
	if err := m.EncodeTo(&out, binary.LittleEndian); err != nil {
		return err
	}
	raw := out.Bytes()
	raw[8] = 1 // the serial, which godbus leaves out; nobody answers it
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err := c.WriteMsgUnix(raw, rights, nil)
	return err
}

// leave says that a connection has left.
func (f *fakeBus) leave(t testing.TB, name string) {
	t.Helper()
	if err := send(<-f.conn, &dbus.Message{Type: dbus.TypeSignal, Body: []any{name, name, ""}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")),
		dbus.FieldInterface: dbus.MakeVariant(driver),
		dbus.FieldMember:    dbus.MakeVariant("NameOwnerChanged"),
	}}, nil); err != nil {
		t.Fatal(err)
	}
}
