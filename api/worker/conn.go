// SPDX-License-Identifier: Apache-2.0

// Package worker is the wire between the broker and its workers: worker.proto
// says what the packets are, conn.go carries them over SOCK_SEQPACKET with
// their descriptors, check.go bounds every field before anybody looks at it.
// It keeps no state and knows neither D-Bus nor PAM. Packets are never
// formatted into logs or errors.
package worker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

const (
	// Version is the Hello.version of this protocol.
	Version = 2
	// AlternativesVersion is the first that knows Alternative.
	AlternativesVersion = 2
	// MaxPacket bounds a packet, in bytes.
	MaxPacket = 384 << 10
	// maxFDs is one more than any packet may carry, so that too many are
	// seen, and closed, instead of cut off by the kernel.
	maxFDs = 4
	// MaxFDs bounds the descriptors of one packet.
	MaxFDs = maxFDs - 1
)

// ErrMalformed is wrapped by the errors of packets that break the protocol:
// too large, not protobuf, or with a field out of its bounds.
var ErrMalformed = errors.New("malformed packet")

// ErrNoDescriptor says that a packet has come without all of its descriptors, since this
// process may have no more (RLIMIT_NOFILE), or the machine has none. What they were for is
// lost, the connection is not.
var ErrNoDescriptor = errors.New("no room for the descriptors of a packet")

// ErrBusy says that the other side does not read its packets.
var ErrBusy = errors.New("the other side does not take packets")

// Conn carries packets. Send may be called from several goroutines, Receive
// from one.
type Conn struct {
	c    *net.UnixConn
	raw  syscall.RawConn
	cred unix.Ucred
	mu   sync.Mutex // one packet at a time, in the order of the calls
}

// buffers are only held while a packet is being copied out of the kernel, so
// a thousand waiting connections need none of them.
var buffers = sync.Pool{New: func() any { b := make([]byte, MaxPacket+1); return &b }}

// Dial connects to the socket at path. The caller closes the Conn.
func Dial(path string) (*Conn, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	return NewConn(c)
}

// NewConn takes over an established SOCK_SEQPACKET connection; it closes c
// when it fails.
func NewConn(c *net.UnixConn) (*Conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	conn := &Conn{c: c, raw: raw}
	var credErr error
	err = raw.Control(func(fd uintptr) {
		// A packet must fit whole. Without CAP_NET_ADMIN the limit of the
		// system stands, which is over MaxPacket/2 everywhere; a packet that
		// does not fit is an error of Send, not lost.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*MaxPacket) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 2*MaxPacket)
		}
		var cred *unix.Ucred
		if cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); credErr == nil {
			conn.cred = *cred
		}
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("who is on the other side of a worker's socket: %w", err)
	}
	return conn, nil
}

// Peer is who connected (for a listener's side) or who called listen (for the
// side that dialled), as the kernel noted it then.
func (c *Conn) Peer() (pid int, uid uint32) { return int(c.cred.Pid), c.cred.Uid }

// Close closes the connection; it may be called more than once.
func (c *Conn) Close() error { return c.c.Close() }

// CloseRead has Receive return what has come already, and then io.EOF: for a peer that
// has ended while something else holds its end of the connection.
func (c *Conn) CloseRead() error { return c.c.CloseRead() }

// Taken reports whether the other side has received all that was sent, or is gone. What is
// not accepted yet has received nothing.
func (c *Conn) Taken() bool {
	var left int
	var err error
	controlErr := c.raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }) // unix(7)
	return controlErr != nil || err != nil || left == 0
}

// Send sends one packet with these descriptors, which stay the caller's. It
// never waits: when the other side does not take packets it fails with ErrBusy.
func (c *Conn) Send(m proto.Message, fds ...int) error { return c.send(m, false, fds) }

// SendWait is Send, but waits for the other side.
func (c *Conn) SendWait(m proto.Message, fds ...int) error { return c.send(m, true, fds) }

func (c *Conn) send(m proto.Message, wait bool, fds []int) error {
	packet, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a packet: %w", err)
	}
	if len(packet) > MaxPacket || len(fds) > MaxFDs {
		return fmt.Errorf("%w: %d bytes and %d descriptors are over the limit", ErrMalformed, len(packet), len(fds))
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var sendErr error
	err = c.raw.Write(func(fd uintptr) bool {
		for {
			sendErr = unix.Sendmsg(int(fd), packet, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if sendErr != unix.EINTR {
				return !wait || sendErr != unix.EAGAIN
			}
		}
	})
	if err == nil {
		err = sendErr
	}
	if errors.Is(err, unix.EAGAIN) {
		return ErrBusy
	}
	return err
}

// Receive waits for a packet and decodes it into m, which is checked by Check.
// The descriptors are the caller's to close, also when there is an error. The
// error is io.EOF when the other side is gone, and wraps ErrMalformed when
// the packet breaks the protocol; the connection is of no use then. With ErrNoDescriptor m
// is decoded, and has been checked.
func (c *Conn) Receive(m proto.Message) ([]*os.File, error) {
	// It is taken when there is something to put into it: a broker waits for the
	// packets of thousands of workers at a time.
	var buf *[]byte
	release := func() {
		if buf != nil {
			buffers.Put(buf)
			buf = nil
		}
	}
	defer release()
	var (
		oob     = make([]byte, unix.CmsgSpace(maxFDs*4))
		n, oobn int
		flags   int
		recvErr error
	)
	reset := false
	err := c.raw.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*[]byte)
		for {
			n, oobn, flags, _, recvErr = unix.Recvmsg(int(fd), *buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			// The other side closed without reading all that we sent. The kernel
			// says so once, and first: what it sent before, the last packet of a
			// session for instance, comes after.
			if recvErr == unix.ECONNRESET && !reset {
				reset = true
				continue
			}
			if recvErr == unix.EAGAIN {
				release()
				return false
			}
			if recvErr != unix.EINTR {
				return true
			}
		}
	})
	if err == nil {
		err = recvErr
	}
	if err != nil {
		if errors.Is(err, unix.ECONNRESET) || errors.Is(err, net.ErrClosed) {
			err = io.EOF
		}
		return nil, err
	}
	files, err := rights(oob[:oobn])
	if err != nil {
		return files, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if n == 0 {
		return files, io.EOF
	}
	if flags&unix.MSG_TRUNC != 0 || n > MaxPacket || len(files) > MaxFDs {
		return files, fmt.Errorf("%w: over %d bytes or %d descriptors", ErrMalformed, MaxPacket, MaxFDs)
	}
	err = Decode((*buf)[:n], m)
	if err == nil && flags&unix.MSG_CTRUNC != 0 { // the kernel has dropped some
		err = ErrNoDescriptor
	}
	return files, err
}

// Decode decodes one packet into m and checks it.
func Decode(packet []byte, m proto.Message) error {
	if len(packet) > MaxPacket {
		return fmt.Errorf("%w: over %d bytes", ErrMalformed, MaxPacket)
	}
	if err := proto.Unmarshal(packet, m); err != nil {
		// protobuf's error may quote what it read.
		return fmt.Errorf("%w: not protobuf", ErrMalformed)
	}
	return Check(m)
}

func rights(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// CloseAll closes received descriptors.
func CloseAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
