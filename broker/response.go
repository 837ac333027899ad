// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

const (
	// spareSlots is how many slots the pipe of a question has, each for a page: enough
	// for the sign and what people type, without a reader. The kernel counts the slots
	// of all pipes of a user (pipe(7), pipe-user-pages-soft).
	spareSlots = 2
	// takenSign stands before an answer, refusedSign before the word that says why
	// there is none.
	takenSign, refusedSign = string(api.ResponseTaken), string(api.ResponseRefused)
)

// responses brings answers to the pipes of those who ask with Ask, and notices who
// does not wait any more. One goroutine does it for all of them: a pipe is written
// without waiting, and epoll(7) tells when there is room in one or its reader is gone.
//
// The kernel moves an answer from its memfd to the pipe (splice(2)), and our memory
// never holds it. One that fits goes at once, sign and all, so that nobody who reads to
// the end of a pipe takes a part of an answer for the whole. One that does not fit, in
// a system that is short of room for pipes, waits there for its reader, for as long as
// the conversation lasts.
type responses struct {
	epoll, wakeup int
	page          int

	mu      sync.Mutex
	queue   []func()
	stopped bool

	// What follows belongs to run's goroutine.
	open  map[int32]*response
	stage stage
}

// response is the writing end of a question's pipe. It is run's goroutine's.
type response struct {
	fd     int // -1 once it is closed
	gone   func()
	answer *os.File // that is not written whole yet
	size   int64    // of it and its sign
	sent   int64
	read   func() // called when it is, or will never be
}

func newResponses() (*responses, error) {
	p := &responses{page: os.Getpagesize(), open: make(map[int32]*response)}
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("watch pipes: %w", err)
	}
	if p.wakeup, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, p.wakeup, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.wakeup)})
	}
	if err != nil {
		return nil, fmt.Errorf("watch pipes: %w", err)
	}
	return p, nil
}

// pipe makes the pipe of a question. The reading end is the caller's, the writing one
// goes to watch, or back by drop.
func (p *responses) pipe() (*os.File, *response, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make the pipe of a question: %w", err)
	}
	reader := os.NewFile(uintptr(fds[0]), "response")
	// Only our end does not wait: programs read the other one as they like.
	err := unix.SetNonblock(fds[1], true)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, spareSlots*p.page)
	}
	if err != nil {
		_ = reader.Close()
		_ = unix.Close(fds[1])
		return nil, nil, fmt.Errorf("make the pipe of a question: %w", err)
	}
	return reader, &response{fd: fds[1]}, nil
}

// drop gives up a response that is not watched yet.
func (p *responses) drop(r *response) { p.do(func() { p.close(r) }) }

// watch calls gone, from a goroutine of its own, when the reader has closed its end
// before there was an answer.
func (p *responses) watch(r *response, gone func()) {
	p.do(func() {
		r.gone = gone
		p.open[int32(r.fd)] = r
		// EPOLLERR needs not be asked for: pipe(7), the last reader is gone.
		if err := p.control(unix.EPOLL_CTL_ADD, r, 0); err != nil {
			p.close(r) // the reader hears that nobody will answer
			gone()
		}
	})
}

// answer writes an answer, a sealed memfd that is closed afterwards. taken is told
// what became of it: nil when the pipe has it or, if rest is set, has a part of it, the
// rest of which its reader has to make room for. read is called when it has, or when
// the pipe is closed.
func (p *responses) answer(r *response, f *os.File, taken func(rest bool, err error), read func()) {
	p.do(func() {
		if r.fd < 0 || r.answer != nil {
			_ = f.Close()
			taken(false, unix.EPIPE)
			return
		}
		err := p.begin(r, f)
		switch {
		case errors.Is(err, unix.EAGAIN):
			r.read = read
			if err = p.control(unix.EPOLL_CTL_MOD, r, unix.EPOLLOUT); err != nil {
				r.read = nil
				p.close(r)
			}
			taken(err == nil, err)
		case err != nil && r.sent == 0 && !errors.Is(err, unix.EPIPE):
			r.answer = nil // the question waits on for a better one
			_ = f.Close()
			taken(false, err)
		default:
			p.close(r)
			taken(false, err)
		}
	})
}

// acknowledge answers what was no question.
func (p *responses) acknowledge(r *response) {
	p.do(func() {
		_, _ = unix.Write(r.fd, []byte(takenSign))
		p.close(r)
	})
}

// end says in a word why there is no answer, and closes the pipe.
func (p *responses) end(r *response, word string) {
	p.do(func() {
		if r.fd >= 0 && r.answer == nil {
			_, _ = unix.Write(r.fd, []byte(refusedSign+word)) // there is room in an empty pipe
		}
		p.close(r)
	})
}

// do has run's goroutine run f; after its end, it runs here and now.
func (p *responses) do(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		f()
		return
	}
	p.queue = append(p.queue, f)
	p.wake()
}

// wake is called with the lock held: afterwards the number may be that of another
// descriptor.
func (p *responses) wake() {
	_, _ = unix.Write(p.wakeup, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it fails only when it is set
}

// run does the work until the context ends. Then every pipe is closed: whoever waits
// finds the end of the file, and that the broker is gone.
func (p *responses) run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { p.do(func() {}) })()
	events := make([]unix.EpollEvent, 128)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(p.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic("epoll_wait: " + err.Error()) // only for what is no epoll
		}
		for _, event := range events[:max(0, n)] {
			if r := p.open[event.Fd]; r != nil {
				p.stirred(r)
			}
		}
		// Last: an event may be of a pipe that was closed since, whose number a new
		// one has, and that is open only now.
		p.drain()
	}
	p.stop()
}

func (p *responses) drain() {
	_, _ = unix.Read(p.wakeup, make([]byte, 8))
	for {
		p.mu.Lock()
		queue := p.queue
		p.queue = nil
		p.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for _, f := range queue {
			f()
		}
	}
}

func (p *responses) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.queue {
		f()
	}
	p.queue, p.stopped = nil, true
	for _, r := range p.open {
		p.close(r)
	}
	p.stage.close()
	_, _ = unix.Close(p.epoll), unix.Close(p.wakeup)
	p.epoll, p.wakeup = -1, -1
}

// stirred is called when the reader of a pipe has made room in it, or has closed it.
func (p *responses) stirred(r *response) {
	if r.answer == nil {
		p.close(r)
		r.gone()
		return
	}
	if err := p.more(r); !errors.Is(err, unix.EAGAIN) {
		p.close(r)
	}
}

func (p *responses) control(op int, r *response, events uint32) error {
	return unix.EpollCtl(p.epoll, op, r.fd, &unix.EpollEvent{Events: events, Fd: int32(r.fd)})
}

// close lets go of all that a response has; it may be closed before.
func (p *responses) close(r *response) {
	if r.fd < 0 {
		return
	}
	delete(p.open, int32(r.fd))
	_ = unix.Close(r.fd) // and epoll forgets it: there is no copy of it
	r.fd = -1
	if r.answer != nil {
		_ = r.answer.Close()
		r.answer = nil
	}
	if r.read != nil {
		r.read()
	}
}
