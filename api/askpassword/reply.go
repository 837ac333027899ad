// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
)

// MaxAnswer is the longest answer that is taken from an agent, in bytes: what
// a Secret holds, less the sign before it.
const MaxAnswer = secret.Max - 1

// Reply is what an agent said. Answer is nil when it cancelled the question, or
// its user interrupted it; otherwise whoever got the reply wipes it.
type Reply struct {
	Answer *secret.Secret
	UID    uint32 // of the agent, as the kernel says
	PID    int32  // of the agent; for display only
}

// interrupt is what systemd's Plymouth agent sends when somebody presses Ctrl-C
// on the splash: an answer of one character, which means that there is none.
var interrupt = []byte{0x03}

// receiving bounds how much memory is locked for replies at once: a receive
// does not wait, so its turn comes soon.
var receiving = make(chan struct{}, 8)

// read hands on replies until the socket is closed.
func (q *Posted) read(raw syscall.RawConn, replied func(Reply)) {
	for {
		var reply *Reply
		var refused error
		err := raw.Read(func(fd uintptr) bool {
			var size int
			if size, refused = waiting(int(fd)); refused != nil {
				return refused != unix.EAGAIN // no memory is locked while nobody answers
			}
			receiving <- struct{}{}
			defer func() { <-receiving }()
			reply, refused = q.receive(int(fd), size)
			return true
		})
		switch {
		case err != nil:
			return
		case errors.Is(refused, secret.ErrNoMemory):
			q.awaitMemory(refused)
		case refused != nil && !q.warned:
			q.warned = true
			q.place.log.Warn("what an agent sent is no answer and was ignored", "request", q.Name(), "why", refused)
		case reply != nil:
			replied(*reply)
		}
	}
}

// memoryPause is how long it waits until memory may be had again.
const memoryPause = time.Second

// awaitMemory lets an answer wait in the kernel, which does not swap it, and not be lost:
// its agent would not ask again.
func (q *Posted) awaitMemory(why error) {
	if !q.waits {
		q.waits = true
		q.place.log.Error("an agent's answer waits", "request", q.Name(), "why", why)
	}
	select {
	case <-q.closed:
	case <-time.After(memoryPause):
	}
}

// waiting is the size of the datagram that is next. Few pages are locked for a
// short one, so that a low RLIMIT_MEMLOCK lets it through.
func waiting(fd int) (int, error) {
	n, _, err := unix.Recvfrom(fd, nil, unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
	return n, err
}

// receive takes one datagram straight into locked memory. The error says why
// it counts for nothing.
func (q *Posted) receive(fd, size int) (*Reply, error) {
	s, err := secret.New(min(size, secret.Max))
	if err != nil {
		return nil, err
	}
	// No room for descriptors: the kernel drops those that come.
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, flags, _, err := unix.RecvmsgBuffers(fd, [][]byte{s.Bytes()}, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		s.Wipe()
		return nil, err
	}
	reply, err := q.judge(s, n, oob[:oobn], flags)
	if reply == nil || reply.Answer == nil {
		s.Wipe()
	}
	return reply, err
}

// judge looks at a datagram of n bytes in s, and leaves the answer there if it
// is one.
func (q *Posted) judge(s *secret.Secret, n int, oob []byte, flags int) (*Reply, error) {
	sender, err := credentials(oob)
	switch {
	case err != nil:
		return nil, err
	case sender.Uid != 0 && sender.Uid != q.place.uid:
		return nil, fmt.Errorf("it came from uid %d, not from root", sender.Uid)
	case flags&unix.MSG_TRUNC != 0:
		return nil, fmt.Errorf("it is longer than %d bytes", MaxAnswer)
	case n == 0:
		return nil, fmt.Errorf("it is empty")
	}
	reply := &Reply{UID: sender.Uid, PID: sender.Pid}
	b := s.Bytes()
	switch b[0] {
	case '-':
		return reply, nil
	case '+':
		copy(b, b[1:n])
		b[n-1] = 0 // what was there stands one place before
		// What follows a NUL are further candidates, from a cache.
		s.Truncate(bytes.IndexByte(b[:n], 0))
		if !bytes.Equal(s.Bytes(), interrupt) {
			reply.Answer = s
		}
		return reply, nil
	}
	return nil, fmt.Errorf("it begins with neither + nor -")
}

// credentials are the sender's, as the kernel vouches for them.
func credentials(oob []byte) (*unix.Ucred, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		if sender, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			return sender, nil
		}
	}
	return nil, fmt.Errorf("it came without credentials")
}
