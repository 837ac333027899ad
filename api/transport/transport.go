// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"cmp"
	"context"
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

// Stream is the io.ReadWriteCloser that godbus talks through, made by Dial and
// given to dbus.NewConn.
type Stream struct {
	c     *net.UnixConn
	o     Options
	begun bool         // authentication is over; only touched before the reader starts
	in    input        // only touched by the reader
	rest  bytes.Reader // what is left of the message being read, in the input's buffer

	mu       sync.Mutex
	fds      []int   // that came with the current message
	early    []batch // that came with bytes behind it
	attached map[*dbus.Message][]*os.File
	riding   map[uint32][]*os.File // attached, by the serial of the message
	given    map[uint32][]*os.File // ours to close, by the serial of the message
	closed   bool
}

// Options of Dial.
type Options struct {
	// MaxMessage bounds a message that arrives, in bytes. A longer one is read
	// and thrown away.
	MaxMessage int
	// Descriptors says that Claim will be called. Without it descriptors that
	// arrive are closed at once.
	Descriptors bool
	// Admit, if not nil, is asked about each message that has arrived, before it is
	// decoded: who sends more than is dealt with is to cost little. False has it
	// thrown away; why is for Refused, which is not told where it is "". It runs in
	// godbus's reader and must not block.
	// What is said of the origin is only there until it returns.
	Admit func(h Header, from Origin) (why string, ok bool)
	// Refused, if not nil, is told of each message that is thrown away, and
	// who sent it ("" when that is not known). It runs in godbus's reader and
	// must not block.
	Refused func(h Header, sender, why string)
}

var (
	begin     = []byte("BEGIN\r\n")
	negotiate = []byte("NEGOTIATE_UNIX_FD\r\n")
)

// Dial connects to the first address of a D-Bus address list that answers. Only
// unix sockets are for those who ask the kernel who is on the other side.
func Dial(ctx context.Context, address string, o Options) (*Stream, error) {
	var failed []error
	for one := range strings.SplitSeq(address, ";") {
		name, err := SocketName(one)
		if err == nil {
			var c net.Conn
			if c, err = new(net.Dialer).DialContext(ctx, "unix", name); err == nil {
				return newStream(c.(*net.UnixConn), o), nil
			}
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// PeerUID is the user that made the socket listen: whose bus it is. The kernel says so.
func (s *Stream) PeerUID() (uint32, error) {
	cred, err := Credentials(s.c)
	if err != nil {
		return 0, fmt.Errorf("who is on the other side of a bus's socket: %w", err)
	}
	return cred.Uid, nil
}

// Credentials are those of whoever is on the other side of a socket, as the kernel has
// them (SO_PEERCRED of unix(7)): of who called connect(2), listen(2) or socketpair(2).
func Credentials(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, err
	}
	return cred, failed
}

func newStream(c *net.UnixConn, o Options) *Stream {
	return &Stream{
		c: c, o: o, in: input{buf: make([]byte, inputSize), oob: make([]byte, unix.CmsgSpace(253*4))}, // SCM_MAX_FD
		attached: make(map[*dbus.Message][]*os.File), riding: make(map[uint32][]*os.File), given: make(map[uint32][]*os.File),
	}
}

// DefaultSystemAddress is where the D-Bus Specification has the system bus.
const DefaultSystemAddress = "unix:path=/run/dbus/system_bus_socket"

// SystemAddress is the address list of the system bus: DBUS_SYSTEM_BUS_ADDRESS
// or the default.
func SystemAddress() string {
	return cmp.Or(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), DefaultSystemAddress)
}

// SocketName turns one D-Bus address into the name of a unix socket, an abstract
// one with @ before it.
func SocketName(address string) (string, error) {
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

// Write passes on what godbus writes, lines of the authentication and then one
// message at a time. It slips the negotiation of descriptors in before the end
// of the authentication, the only moment when one may ask.
func (s *Stream) Write(p []byte) (int, error) {
	if !s.begun && bytes.Equal(p, begin) {
		if err := s.negotiate(); err != nil {
			return 0, err
		}
		n, err := s.c.Write(p)
		s.begun = true
		return n, err
	}
	files := s.riders(p)
	if len(files) == 0 {
		return s.c.Write(p)
	}
	defer s.drop(p)
	n, err := s.writeWith(p, files)
	if err == nil && n < len(p) {
		var more int
		more, err = s.c.Write(p[n:])
		n += more
	}
	return n, err
}

func (s *Stream) negotiate() error {
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
func (s *Stream) Read(p []byte) (int, error) {
	if !s.begun {
		return s.c.Read(p)
	}
	for s.rest.Len() == 0 {
		message, err := s.next()
		if err != nil {
			clear(s.in.buf)
			return 0, err
		}
		s.rest.Reset(message)
	}
	return s.rest.Read(p)
}

// Claim hands over the descriptors of the message that was read last. Who
// does not claim them does not keep them: the next message closes them.
func (s *Stream) Claim() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	fds := s.fds
	s.fds = nil
	return fds
}

// Close closes the socket, whatever nobody claimed and what was given and is not
// written.
func (s *Stream) Close() error {
	CloseAll(s.Claim())
	err := s.c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, b := range s.early {
		CloseAll(b.fds)
	}
	s.early = nil
	for _, files := range s.given {
		closeFiles(files)
	}
	clear(s.given)
	return err
}

// CloseAll closes descriptors that were never made an *os.File: that would
// put somebody else's pipe into blocking mode, or into the poller.
func CloseAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
