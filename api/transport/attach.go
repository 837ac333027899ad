// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"errors"
	"os"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Attach has files travel with a message that will be sent; its body has their
// indexes, from 0 on, where the descriptors belong. They stay the caller's, who
// calls Detach when the message is sent.
func (s *Stream) Attach(m *dbus.Message, files ...*os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attached[m] = files
}

// Detach forgets what was attached to a message.
func (s *Stream) Detach(m *dbus.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.attached, m)
	delete(s.riding, m.Serial())
}

// Give is Attach for a message that has its serial, in a dbus.Interceptor for
// outgoing messages. The files are the stream's: it closes them when the message is
// written, or will not be.
func (s *Stream) Give(m *dbus.Message, files ...*os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		closeFiles(files)
		return
	}
	s.given[m.Serial()] = files
}

// drop closes what was given with a message, which is written or was tried to be.
func (s *Stream) drop(message []byte) {
	h, err := parseFixed(message)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	closeFiles(s.given[h.Serial])
	delete(s.given, h.Serial)
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// Outgoing is a dbus.Interceptor for outgoing messages, which Attach needs: it
// sees each message when it has got its serial.
func (s *Stream) Outgoing(m *dbus.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if files := s.attached[m]; len(files) > 0 {
		s.riding[m.Serial()] = files
	}
}

// writeWith writes with descriptors. They are not asked for by File.Fd, which
// would make whatever else has them open wait where it did not (O_NONBLOCK).
func (s *Stream) writeWith(p []byte, files []*os.File) (n int, err error) {
	var fds []int
	var write func(files []*os.File) error
	write = func(files []*os.File) error {
		if len(files) == 0 {
			n, _, err = s.c.WriteMsgUnix(p, unix.UnixRights(fds...), nil)
			return err
		}
		raw, err := files[0].SyscallConn()
		if err != nil {
			return err
		}
		var inner error
		err = raw.Control(func(fd uintptr) {
			fds = append(fds, int(fd))
			inner = write(files[1:])
		})
		return errors.Join(err, inner)
	}
	err = write(files)
	return n, err
}

// riders are the descriptors that go with a message.
func (s *Stream) riders(message []byte) []*os.File {
	h, err := parseFixed(message)
	if err != nil || !s.begun {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if given := s.given[h.Serial]; len(given) > 0 {
		return given
	}
	return s.riding[h.Serial]
}
