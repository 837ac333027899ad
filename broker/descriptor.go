// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
)

const (
	// pipeTimeout is how long a pipe may take to end.
	pipeTimeout = 10 * time.Second
	// maxPipes bounds how many pipes of one uid are waited for at once: each wait
	// holds a thread.
	maxPipes = 16
)

// normalise makes what a caller's descriptor holds into a sealed memfd: the
// worker can read that without waiting and without surprise. The bytes never
// are in our memory: the kernel moves them from descriptor to descriptor. The
// caller's descriptor stays open and its flags as they are; the memfd is the
// result's owner's to close.
func (b *Broker) normalise(ctx context.Context, uid uint32, fd int) (*os.File, error) {
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		return nil, invalid("the descriptor of the response is of no use: %v", err)
	}
	if flags&unix.O_PATH != 0 || flags&unix.O_ACCMODE == unix.O_WRONLY {
		return nil, invalid("the descriptor of the response cannot be read: pass the reading end of a pipe, or a sealed memfd")
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		leave, err := b.pipes.enter(ctx, uid)
		if err != nil {
			return nil, err
		}
		defer leave()
		return drainPipe(fd, pipeTimeout)
	case unix.S_IFREG:
		return copyMemfd(fd, &st)
	}
	return nil, invalid("the descriptor of the response is %s: pass a sealed memfd or the reading end of a pipe", kindOf(st.Mode))
}

// pipes are who reads answers from pipes. Those of one uid wait for each other, and
// for nobody else's: a pipe may take all its time.
type pipes struct {
	mu sync.Mutex
	by map[uint32]*pipesOf
}

type pipesOf struct {
	slots chan struct{}
	users int // who has a slot, or waits for one
}

// enter waits for a slot of a uid, until the context ends; leave gives it back.
func (p *pipes) enter(ctx context.Context, uid uint32) (leave func(), err error) {
	p.mu.Lock()
	own := p.by[uid]
	if own == nil {
		own = &pipesOf{slots: make(chan struct{}, maxPipes)}
		if p.by == nil {
			p.by = make(map[uint32]*pipesOf)
		}
		p.by[uid] = own
	}
	own.users++
	p.mu.Unlock()
	forget := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if own.users--; own.users == 0 {
			delete(p.by, uid)
		}
	}
	select {
	case own.slots <- struct{}{}:
		return func() { <-own.slots; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}

// isPipe is for answers that have no other end than that of their writer: one that is killed
// ends them too.
func isPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

func kindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFREG:
		return "a file of a file system"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return "of an unknown kind"
}

var errEndless = &api.Error{Code: api.TimedOut, Text: fmt.Sprintf(
	"the pipe with the response did not end within %v: close its writing end", pipeTimeout)}

var errTooLong = &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf("the response is longer than %d bytes", api.MaxResponse)}

// copyMemfd takes a memfd. One that is sealed is passed on as it is; any other
// could change between here and the worker, and is copied.
func copyMemfd(fd int, st *unix.Stat_t) (*os.File, error) {
	sealed, err := secret.Sealed(fd)
	if err != nil || st.Nlink != 0 { // a file of a tmpfs has seals too
		// A file system may take for ever to answer a read.
		return nil, invalid("the descriptor of the response is %s: pass a sealed memfd or the reading end of a pipe", kindOf(unix.S_IFREG))
	}
	if st.Size > api.MaxResponse {
		return nil, errTooLong
	}
	if sealed {
		again, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("pass on a memfd: %w", err)
		}
		return os.NewFile(uintptr(again), "response"), nil
	}
	return fill(func(to int) (int64, error) {
		var from, total int64
		for total <= api.MaxResponse {
			n, err := unix.Sendfile(to, fd, &from, api.MaxResponse+1-int(total))
			if n <= 0 || err != nil {
				return total, err
			}
			total += int64(n)
		}
		return total, nil
	})
}

// drainPipe takes what comes out of a pipe until its end, which must come
// within the time.
func drainPipe(fd int, within time.Duration) (*os.File, error) {
	deadline := time.Now().Add(within)
	return fill(func(to int) (int64, error) {
		var total int64
		for total <= api.MaxResponse {
			n, err := unix.Splice(fd, nil, to, &total, api.MaxResponse+1-int(total), unix.SPLICE_F_NONBLOCK)
			switch {
			case err == unix.EAGAIN:
				if err := waitReadable(fd, deadline); err != nil {
					return total, err
				}
				if time.Now().After(deadline) { // something comes, but never the end
					return total, errEndless
				}
			case err == unix.EINTR:
			case err != nil || n == 0:
				return total, err
			}
		}
		return total, nil
	})
}

func waitReadable(fd int, deadline time.Time) error {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return errEndless
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// fill makes a sealed memfd of what move moves into it.
func fill(move func(to int) (int64, error)) (*os.File, error) {
	f, err := secret.NewMemfd()
	if err != nil {
		return nil, err
	}
	total, err := move(int(f.Fd()))
	switch {
	case err != nil:
	case total > api.MaxResponse:
		err = errTooLong
	default:
		err = secret.Seal(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
