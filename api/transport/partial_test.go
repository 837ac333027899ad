// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// A message that is larger than what the socket takes at once goes out whole, and its
// descriptors go once. godbus's own transport stops after the first part, and the
// bus waits for the rest for ever.
func TestAMessageWithDescriptorsThatDoesNotFitTheSocket(t *testing.T) {
	for _, test := range []struct {
		name string
		send func(s *Stream, m *dbus.Message, files []*os.File) (ours bool)
	}{
		{"attached to a call", func(s *Stream, m *dbus.Message, files []*os.File) bool {
			s.Attach(m, files...)
			s.Outgoing(m)
			return false
		}},
		{"given with a reply", func(s *Stream, m *dbus.Message, files []*os.File) bool {
			s.Give(m, files...)
			return true
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, bus := pair(t)
			if err := s.c.SetWriteBuffer(4096); err != nil {
				t.Fatal(err)
			}
			m := &dbus.Message{Type: dbus.TypeSignal}
			files, readers := make([]*os.File, 3), make([]*os.File, 3)
			for i := range files {
				var err error
				if readers[i], files[i], err = os.Pipe(); err != nil {
					t.Fatal(err)
				}
				defer func() { _, _ = readers[i].Close(), files[i].Close() }()
			}
			given := test.send(s, m, files)
			message := signalMessage(t, "Long", strings.Repeat("x", 1<<19)) // its serial is 0, as m's
			next := signalMessage(t, "Next")
			written := make(chan error, 1)
			go func() {
				n, err := s.Write(message)
				if err == nil && n < len(message) {
					err = io.ErrShortWrite
				}
				s.Detach(m)
				if err == nil {
					_, err = s.Write(next)
				}
				written <- err
			}()
			got, fds := receive(t, bus, len(message)+len(next))
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, append(message, next...)) {
				t.Error("something else came than was written")
			}
			if len(fds) != len(files) {
				t.Errorf("%d descriptors came, of %d", len(fds), len(files))
			}
			CloseAll(fds)
			for i := range files { // whoever gave a file away does not close it
				if !given {
					_ = files[i].Close()
				}
				if _, err := readers[i].Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("file %d is still open: %v", i, err)
				}
			}
		})
	}
}

// receive reads so many bytes, and the descriptors that come with the first of them.
func receive(t *testing.T, bus *net.UnixConn, size int) (got []byte, fds []int) {
	t.Helper()
	if err := bus.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	part, oob := make([]byte, 1<<16), make([]byte, unix.CmsgSpace(253*4))
	for len(got) < size {
		n, oobn, _, _, err := bus.ReadMsgUnix(part, oob)
		if err != nil || n == 0 {
			t.Fatalf("%d bytes of %d came: %v", len(got), size, err)
		}
		if oobn > 0 && len(got) > 0 {
			t.Errorf("descriptors came after %d bytes", len(got))
		}
		list, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			t.Fatal(err)
		}
		for _, control := range list {
			more, err := unix.ParseUnixRights(&control)
			if err != nil {
				t.Fatal(err)
			}
			fds = append(fds, more...)
		}
		got = append(got, part[:n]...)
	}
	return got, fds
}
