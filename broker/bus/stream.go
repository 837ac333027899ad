// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// stream is the io.ReadWriteCloser that godbus talks through in place of its
// own transport, because that one (5.2.4) keeps every descriptor that a
// message's body does not mention open for ever, with nobody knowing its
// number; allocates up to 128 MiB for whoever sends it; and gives up the
// connection when one message cannot be decoded, which may come from anybody.
//
// godbus believes that the transport cannot pass descriptors, so it leaves
// `h` values as indices and does not negotiate; stream negotiates for it when
// it is about to write BEGIN, collects what arrives, and hands it out with
// claim.
type stream struct {
	c       *net.UnixConn
	begun   bool         // authentication is over; only touched before the reader starts
	rest    bytes.Reader // what is left of the message being read
	refused func(h header, sender, why string)

	oob []byte // scratch of fill; only touched by the reader

	mu  sync.Mutex
	fds []int // that came with the current message
}

var (
	begin     = []byte("BEGIN\r\n")
	negotiate = []byte("NEGOTIATE_UNIX_FD\r\n")
)

// dialStream connects to the first address of a D-Bus address list that
// answers. Only unix sockets make sense for a service that asks the kernel
// who is on the other side.
func dialStream(address string) (*stream, error) {
	var failed []error
	for one := range strings.SplitSeq(address, ";") {
		name, err := socketName(one)
		if err == nil {
			var c *net.UnixConn
			if c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"}); err == nil {
				return &stream{c: c, oob: make([]byte, unix.CmsgSpace(253*4))}, nil // SCM_MAX_FD
			}
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// socketName turns one D-Bus address into the name of a unix socket.
func socketName(address string) (string, error) {
	list, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return "", fmt.Errorf("bus address %q is neither unix:path= nor unix:abstract=", address)
	}
	for pair := range strings.SplitSeq(list, ",") {
		key, value, _ := strings.Cut(pair, "=")
		prefix, ok := map[string]string{"path": "", "abstract": "@"}[key]
		if !ok {
			continue
		}
		name, err := dbus.UnescapeBusAddressValue(value)
		if err != nil {
			return "", fmt.Errorf("bus address %q: %w", address, err)
		}
		return prefix + name, nil
	}
	return "", fmt.Errorf("bus address %q has neither path= nor abstract=", address)
}

// Write passes on what godbus writes, and slips the negotiation of
// descriptors in before the end of the authentication.
func (s *stream) Write(p []byte) (int, error) {
	if !s.begun && bytes.Equal(p, begin) {
		if err := s.negotiate(); err != nil {
			return 0, err
		}
		s.begun = true
	}
	return s.c.Write(p)
}

func (s *stream) negotiate() error {
	if _, err := s.c.Write(negotiate); err != nil {
		return err
	}
	var line []byte
	for one := make([]byte, 1); len(line) < 256; line = append(line, one[0]) {
		if _, err := io.ReadFull(s.c, one); err != nil {
			return err
		}
		if one[0] == '\n' {
			break
		}
	}
	if answer := strings.TrimSpace(string(line)); answer != "AGREE_UNIX_FD" {
		return fmt.Errorf("the bus does not pass descriptors: %q", answer)
	}
	return nil
}

// Read gives godbus the bytes of one message after the other.
func (s *stream) Read(p []byte) (int, error) {
	if !s.begun {
		return s.c.Read(p)
	}
	for s.rest.Len() == 0 {
		message, err := s.next()
		if err != nil {
			return 0, err
		}
		s.rest.Reset(message)
	}
	return s.rest.Read(p)
}

// next reads one message whole. It returns none, for the caller to try again,
// when it had to refuse it.
func (s *stream) next() ([]byte, error) {
	closeAll(s.claim())
	var fixed [fixedHeader]byte
	if err := s.fill(fixed[:]); err != nil {
		return nil, err
	}
	h, err := parseFixed(fixed[:])
	if err != nil {
		return nil, err // not from a bus: there is no way to find the next message
	}
	if h.fields > maxFields {
		return nil, s.discard(h.padded() + int(h.body))
	}
	room := h.total()
	if room > maxMessage {
		room = fixedHeader + h.padded()
	}
	message := make([]byte, room)
	copy(message, fixed[:])
	if err := s.fill(message[fixedHeader:]); err != nil {
		return nil, err
	}
	from := sender(h, message[fixedHeader:fixedHeader+int(h.fields)])
	if rest := h.total() - room; rest > 0 {
		s.refused(h, from, fmt.Sprintf("the message is %d bytes long, more than %d", h.total(), maxMessage))
		return nil, s.discard(rest)
	}
	if err := decodable(message); err != nil {
		s.refused(h, from, "the message cannot be decoded")
		return nil, nil
	}
	return message, nil
}

// decodable tries whether godbus can decode a message, since an error (or a
// panic) while it reads the real one would end the connection for everybody.
func decodable(message []byte) (err error) {
	defer func() {
		if recover() != nil {
			err = errHeader
		}
	}()
	_, err = dbus.DecodeMessage(bytes.NewReader(message))
	return err
}

// fill reads len(p) bytes and keeps the descriptors that come with them. The
// kernel never merges the bytes of two sends that carry descriptors, and the
// bus sends a message's descriptors with its first byte, so those that are
// here at the end of a message are that message's.
func (s *stream) fill(p []byte) error {
	for len(p) > 0 {
		n, oobn, _, _, err := s.c.ReadMsgUnix(p, s.oob)
		if oobn > 0 {
			s.keep(s.oob[:oobn])
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		p = p[n:]
	}
	return nil
}

func (s *stream) keep(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, message := range messages {
		if fds, err := unix.ParseUnixRights(&message); err == nil {
			s.fds = append(s.fds, fds...)
		}
	}
}

func (s *stream) discard(n int) error {
	scratch := make([]byte, 32<<10)
	for n > 0 {
		part := scratch[:min(n, len(scratch))]
		if err := s.fill(part); err != nil {
			return err
		}
		n -= len(part)
	}
	return nil
}

// claim hands over the descriptors of the message that was read last. Who
// does not claim them does not keep them: the next message closes them.
func (s *stream) claim() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	fds := s.fds
	s.fds = nil
	return fds
}

// Close closes the socket and whatever nobody claimed.
func (s *stream) Close() error {
	closeAll(s.claim())
	return s.c.Close()
}

// closeAll closes descriptors that were never made an *os.File: that would
// put somebody else's pipe into blocking mode, or into the poller.
func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
