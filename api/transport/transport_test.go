// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const maxIncoming = 1 << 20

// signalMessage is a whole message that godbus can decode.
func signalMessage(t testing.TB, member string, body ...any) []byte {
	t.Helper()
	m := &dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(dbus.ObjectPath("/")),
		dbus.FieldInterface: dbus.MakeVariant("a.b"),
		dbus.FieldMember:    dbus.MakeVariant(member),
	}}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var buf bytes.Buffer
	if err := m.EncodeTo(&buf, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// pair is a stream and the bus's end of it.
func pair(t testing.TB) (*Stream, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		ends[i] = c.(*net.UnixConn)
	}
	s := newStream(ends[0], Options{MaxMessage: maxIncoming})
	s.begun = true
	return s, ends[1]
}

func TestStreamDropsWhatCannotBeDecoded(t *testing.T) {
	good := signalMessage(t, "Good", "text")
	lying := signalMessage(t, "Lying", []string{"a", "b"})
	binary.LittleEndian.PutUint32(lying[len(lying)-16:], 1<<20) // the array is longer than the body
	long := signalMessage(t, "Long", strings.Repeat("x", maxIncoming))
	for _, test := range []struct {
		name    string
		message []byte
	}{
		{"a message whose array ends behind its body", lying},
		{"a message that is too long", long},
		{"a message without a member", bytes.ReplaceAll(signalMessage(t, "Nameless"), []byte("\x03\x01s"), []byte("\x0b\x01s"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, bus := pair(t)
			go func() {
				_, _ = bus.Write(test.message)
				_, _ = bus.Write(good)
			}()
			got := make([]byte, len(good))
			if _, err := io.ReadFull(s, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, good) {
				t.Errorf("godbus would read %q", got)
			}
		})
	}
}

func TestStreamEndsAtWhatIsNoMessage(t *testing.T) {
	for _, head := range []string{"HTTP/1.1 200 OK\r\n", "l\x04\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00"} {
		s, bus := pair(t)
		if _, err := bus.Write([]byte(head)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 16)); err == nil {
			t.Errorf("%q was read", head)
		}
	}
}

func TestStreamClosesDescriptors(t *testing.T) {
	s, bus := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	message := signalMessage(t, "Good")
	if _, _, err := bus.WriteMsgUnix(message, unix.UnixRights(int(w.Fd())), nil); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if _, err := io.ReadFull(s, make([]byte, len(message))); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF { // while a writer is left, this waits
		t.Errorf("got %v, want the end of the pipe", err)
	}
}

func TestSocketName(t *testing.T) {
	for _, test := range []struct{ address, name string }{
		{"unix:path=/run/dbus/system_bus_socket", "/run/dbus/system_bus_socket"},
		{"unix:path=/tmp/a%20b,guid=00", "/tmp/a b"},
		{"unix:guid=00,abstract=/tmp/x", "@/tmp/x"},
		{"unix:guid=00", ""},
		{"tcp:host=localhost,port=1", ""},
		{"", ""},
	} {
		name, err := SocketName(test.address)
		if name != test.name || (err == nil) != (test.name != "") {
			t.Errorf("%q: got %q, %v", test.address, name, err)
		}
	}
}

func TestDialTriesEveryAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s, err := Dial(context.Background(), "tcp:host=localhost;unix:path="+path+".not;unix:path="+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}
