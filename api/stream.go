// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// stream is the connection to the bus below godbus, in place of its own. On a
// system bus anybody may send us a signal, and with the transport of godbus
// (5.2.4) anybody could end our process: a body with an array of descriptors
// makes it panic, one that it cannot decode makes it give up the connection
// and with it every session of ours, and descriptors that a body does not
// mention stay open for ever. So stream closes every descriptor that arrives,
// decodes each message once on trial, and drops what is too long or broken.
//
// godbus believes that it cannot pass descriptors. The one that goes out with
// an answer is attached here.
type stream struct {
	c     *net.UnixConn
	begun bool         // the authentication is over; set before the reader starts
	rest  bytes.Reader // what is left of the message being read
	oob   []byte       // scratch of fill

	mu       sync.Mutex
	attached map[*dbus.Message]*os.File
	riding   map[uint32]*os.File // by the serial of the message
}

// maxIncoming bounds a message. The longest that we ask for is a list of
// thousands of prompts.
const maxIncoming = 16 << 20

var errFrame = errors.New("the bus sent what is no D-Bus message")

// dialStream connects to the first address of a D-Bus address list that
// answers.
func dialStream(ctx context.Context, address string) (*stream, error) {
	var failed []error
	for one := range strings.SplitSeq(address, ";") {
		name, err := socketName(one)
		if err == nil {
			var c net.Conn
			if c, err = new(net.Dialer).DialContext(ctx, "unix", name); err == nil {
				return newStream(c.(*net.UnixConn)), nil
			}
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

func newStream(c *net.UnixConn) *stream {
	return &stream{
		c: c, oob: make([]byte, unix.CmsgSpace(253*4)), // SCM_MAX_FD
		attached: map[*dbus.Message]*os.File{}, riding: map[uint32]*os.File{},
	}
}

// socketName turns one D-Bus address into the name of a unix socket.
func socketName(address string) (string, error) {
	list, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return "", fmt.Errorf("the bus address %q is not one of a unix socket", address)
	}
	for pair := range strings.SplitSeq(list, ",") {
		key, value, _ := strings.Cut(pair, "=")
		prefix, ok := map[string]string{"path": "", "abstract": "@"}[key]
		if !ok {
			continue
		}
		name, err := dbus.UnescapeBusAddressValue(value)
		return prefix + name, err
	}
	return "", fmt.Errorf("the bus address %q has neither path= nor abstract=", address)
}

// attach has f travel with a message that will be sent; detach forgets it.
func (s *stream) attach(m *dbus.Message, f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attached[m] = f
}

func (s *stream) detach(m *dbus.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.attached, m)
	delete(s.riding, m.Serial())
}

// outgoing is called by godbus with each message that has got its serial.
func (s *stream) outgoing(m *dbus.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.attached[m]; f != nil {
		s.riding[m.Serial()] = f
	}
}

// Write passes on what godbus writes: lines of the authentication, then one
// message at a time.
func (s *stream) Write(p []byte) (int, error) {
	if !s.begun {
		if string(p) == "BEGIN\r\n" {
			if err := s.negotiate(); err != nil {
				return 0, err
			}
			s.begun = true
		}
		return s.c.Write(p)
	}
	f := s.rider(p)
	if f == nil {
		return s.c.Write(p)
	}
	n, _, err := s.c.WriteMsgUnix(p, unix.UnixRights(int(f.Fd())), nil)
	if err == nil && n < len(p) {
		var more int
		more, err = s.c.Write(p[n:])
		n += more
	}
	return n, err
}

// rider is the descriptor that goes with a message.
func (s *stream) rider(message []byte) *os.File {
	h, err := parseFrame(message)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.riding[h.serial]
}

// negotiate asks for the passing of descriptors, at the only moment when one
// may: before BEGIN.
func (s *stream) negotiate() error {
	if _, err := s.c.Write([]byte("NEGOTIATE_UNIX_FD\r\n")); err != nil {
		return err
	}
	var line []byte
	for one := make([]byte, 1); len(line) < 256 && !bytes.HasSuffix(line, []byte("\n")); line = append(line, one[0]) {
		if _, err := io.ReadFull(s.c, one); err != nil {
			return err
		}
	}
	if answer := string(bytes.TrimSpace(line)); answer != "AGREE_UNIX_FD" {
		return fmt.Errorf("the bus does not pass descriptors: %q", answer)
	}
	return nil
}

// Read gives godbus one message after the other.
func (s *stream) Read(p []byte) (int, error) {
	if !s.begun {
		return s.c.Read(p)
	}
	for s.rest.Len() == 0 {
		message, err := s.next()
		if err != nil {
			return 0, err
		}
		if decodable(message) {
			s.rest.Reset(message)
		}
	}
	return s.rest.Read(p)
}

// next reads one message; nil if it is too long.
func (s *stream) next() ([]byte, error) {
	var fixed [frameSize]byte
	if err := s.fill(fixed[:]); err != nil {
		return nil, err
	}
	h, err := parseFrame(fixed[:])
	if err != nil {
		return nil, err // nobody knows where the next message begins
	}
	if h.size > maxIncoming {
		return nil, s.discard(h.size - frameSize)
	}
	message := make([]byte, h.size)
	copy(message, fixed[:])
	return message, s.fill(message[frameSize:])
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

// fill reads len(p) bytes and closes the descriptors that come with them.
func (s *stream) fill(p []byte) error {
	for len(p) > 0 {
		n, oobn, _, _, err := s.c.ReadMsgUnix(p, s.oob)
		closeRights(s.oob[:oobn])
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

func closeRights(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
}

// Close closes the socket.
func (s *stream) Close() error { return s.c.Close() }

// decodable tries whether godbus can decode a message.
func decodable(message []byte) (ok bool) {
	if len(message) == 0 {
		return false
	}
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	_, err := dbus.DecodeMessage(bytes.NewReader(message))
	return err == nil
}

// frame is what the first 16 bytes of a message say: order, type, flags,
// version, length of the body, serial, length of the fields.
type frame struct {
	serial uint32
	size   int // of the whole message
}

const frameSize = 16

func parseFrame(b []byte) (frame, error) {
	if len(b) < frameSize {
		return frame{}, errFrame
	}
	var order binary.ByteOrder
	switch b[0] {
	case 'l':
		order = binary.LittleEndian
	case 'B':
		order = binary.BigEndian
	default:
		return frame{}, errFrame
	}
	body, fields := order.Uint32(b[4:]), order.Uint32(b[12:])
	if body > 1<<27 || fields > 1<<26 { // the limits of the specification
		return frame{}, errFrame
	}
	// The body starts at a multiple of eight.
	return frame{serial: order.Uint32(b[8:]), size: frameSize + int(fields+7)&^7 + int(body)}, nil
}
