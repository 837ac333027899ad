// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"fmt"
	"io"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// inputSize is how many bytes are read at once, if there are so many. Whoever floods
// us makes small messages: to ask the kernel for each of them costs more than to throw
// it away, and what the bus relays faster than we read stands in everybody's way.
const inputSize = 64 << 10

// input is what was read and is not yet dealt with: buf[from:to]. The first size of
// these bytes are the message that godbus reads.
type input struct {
	buf            []byte
	from, to, size int
	read           int64 // bytes of the connection, up to buf[to]
	oob            []byte
}

// batch are descriptors that came with one read, and how many bytes of the connection
// had been read with it.
type batch struct {
	fds []int
	end int64
}

// next reads one message whole. It returns none, for the caller to try again,
// when it had to refuse it. The message is there until the next call.
func (s *Stream) next() ([]byte, error) {
	CloseAll(s.Claim())
	s.in.skip(s.in.size)
	s.in.size = 0
	fixed, err := s.peek(fixedHeader)
	if err != nil {
		return nil, err
	}
	h, err := parseFixed(fixed)
	if err != nil {
		return nil, err // not from a bus: there is no way to find the next message
	}
	if h.fields > maxFields {
		s.refuse(h, Origin{}, "its header is too long")
		return nil, s.discard(h.total())
	}
	size := h.total()
	if size > s.o.MaxMessage { // its fields say who has sent it, the rest need not be here
		size = fixedHeader + h.padded()
	}
	message, err := s.peek(size)
	if err != nil {
		return nil, err
	}
	from := origin(h, message[fixedHeader:fixedHeader+int(h.fields)])
	if h.total() > s.o.MaxMessage {
		s.refuse(h, from, fmt.Sprintf("the message is %d bytes long, more than %d", h.total(), s.o.MaxMessage))
		return nil, s.discard(h.total())
	}
	if s.o.Admit != nil {
		if why, ok := s.o.Admit(h, from); !ok {
			if why != "" {
				s.refuse(h, from, why)
			}
			return nil, s.discard(h.total())
		}
	}
	if !decodable(message) {
		s.refuse(h, from, "the message cannot be decoded")
		return nil, s.discard(h.total())
	}
	s.in.size = len(message)
	s.due(s.in.at(len(message)))
	return message, nil
}

func (s *Stream) refuse(h Header, from Origin, why string) {
	if s.o.Refused != nil {
		s.o.Refused(h, string(from.Sender), why)
	}
}

// decodable tries whether godbus can decode a message, since an error (or a
// panic) while it reads the real one would end the connection for everybody.
func decodable(message []byte) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	_, err := dbus.DecodeMessage(bytes.NewReader(message))
	return err == nil
}

// peek has the next n bytes in the buffer, and returns them there.
func (s *Stream) peek(n int) ([]byte, error) {
	for s.in.to-s.in.from < n {
		s.in.room(n)
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
	return s.in.buf[s.in.from : s.in.from+n], nil
}

// discard throws the next n bytes away, with the descriptors of the message that ends
// there.
func (s *Stream) discard(n int) error {
	for n > 0 {
		if s.in.from == s.in.to {
			s.in.room(1)
			if err := s.fill(); err != nil {
				return err
			}
		}
		part := min(n, s.in.to-s.in.from)
		s.in.skip(part)
		n -= part
	}
	s.due(s.in.at(0))
	return nil
}

// fill reads what has arrived, as much as there is room for, and the descriptors that
// come with it.
func (s *Stream) fill() error {
	n, oobn, _, _, err := s.c.ReadMsgUnix(s.in.buf[s.in.to:], s.in.oob)
	s.in.to += n
	s.in.read += int64(n)
	if oobn > 0 {
		s.keep(s.in.oob[:oobn], s.in.read)
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	return err
}

// keep takes descriptors out of what the kernel says beside the bytes of a read that
// ended after so many bytes of the connection.
func (s *Stream) keep(oob []byte, end int64) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err != nil {
			continue
		}
		if !s.o.Descriptors || s.closed {
			CloseAll(fds)
			continue
		}
		s.early = append(s.early, batch{fds, end})
	}
}

// due makes the descriptors of the message that ends after so many bytes of the
// connection those of the current one. Descriptors are a barrier (unix(7)): the kernel
// ends a read with the bytes that they came with, and a bus sends them with the first
// bytes of their message. So they are of the message that the last byte of their read
// belongs to. How many there are is not trusted: where some are lost, for want of room
// in the table of open files, those of the next message must not take their place.
func (s *Stream) due(end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.early) > 0 && s.early[0].end <= end {
		s.fds = append(s.fds, s.early[0].fds...)
		s.early = s.early[1:]
	}
	if len(s.early) == 0 {
		s.early = nil
	}
}

// at is how many bytes of the connection there are up to the next n in the buffer.
func (in *input) at(n int) int64 { return in.read - int64(in.to-in.from) + int64(n) }

// skip passes n bytes, and wipes them: they may be an answer.
func (in *input) skip(n int) {
	clear(in.buf[in.from : in.from+n])
	in.from += n
	if in.from < in.to {
		return
	}
	in.from, in.to = 0, 0
	if len(in.buf) > inputSize {
		in.buf = make([]byte, inputSize)
	}
}

// room makes room for n bytes, of which some may be there already.
func (in *input) room(n int) {
	if in.from+n <= len(in.buf) {
		return
	}
	old, length := in.buf[in.from:in.to], in.to-in.from
	if n > len(in.buf) {
		in.buf = make([]byte, n)
		copy(in.buf, old)
		clear(old)
	} else {
		copy(in.buf, old)
		clear(in.buf[length:in.to])
	}
	in.from, in.to = 0, length
}
