// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// moment is how long whoever logs waits for a line to be taken: as a rule it is
	// at once, so that a program that ends has said all. Whoever was not served
	// within it waits no more until all that waits has been taken.
	moment = 250 * time.Millisecond
	// maxWaiting bounds what waits to be taken, in bytes. What is over it is lost,
	// and counted.
	maxWaiting = 1 << 20
)

// queue hands on what is logged, in its order, and lets nobody wait for whoever takes
// it: a pipe that nobody reads, a terminal that is halted, a journal that hangs.
type queue struct {
	lost func(lines int) // says that lines are missing, for as long as that takes

	mu      sync.Mutex
	waiting []*waiting
	size    int // of them, in bytes
	missing int // lines that had no room, of which nothing was said yet
	works   bool
	stuck   bool
}

type waiting struct {
	size  int
	hand  func()
	taken chan struct{} // closed when it is
}

// put has something of a size handed on, by a function that may take as long as it
// likes.
func (q *queue) put(size int, hand func()) {
	w := q.add(size, hand)
	if w == nil {
		return
	}
	late := time.NewTimer(moment)
	defer late.Stop()
	select {
	case <-w.taken:
	case <-late.C:
		q.mu.Lock()
		defer q.mu.Unlock()
		q.stuck = q.works
	}
}

// add returns nil if there is nothing to wait for.
func (q *queue) add(size int, hand func()) *waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.size+size > maxWaiting && q.size > 0 {
		q.missing++
		return nil
	}
	if lines := q.missing; lines > 0 {
		q.append(0, func() { q.lost(lines) })
		q.missing = 0
	}
	w := q.append(size, hand)
	if !q.works {
		q.works = true
		go q.work()
	}
	if q.stuck {
		return nil
	}
	return w
}

func (q *queue) append(size int, hand func()) *waiting {
	w := &waiting{size, hand, make(chan struct{})}
	q.waiting = append(q.waiting, w)
	q.size += size
	return w
}

// work hands on what waits, until nothing does.
func (q *queue) work() {
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.waiting, q.works, q.stuck = nil, false, false
			q.mu.Unlock()
			return
		}
		w := q.waiting[0]
		q.mu.Unlock()
		w.hand()
		q.mu.Lock()
		q.waiting = q.waiting[1:]
		q.size -= w.size
		q.mu.Unlock()
		close(w.taken)
	}
}

// writer hands on what is written, each Write by itself, through a queue. It always
// writes all.
type writer struct {
	*queue
	to io.Writer
}

// Write is a method of io.Writer.
func (w writer) Write(p []byte) (int, error) {
	line := bytes.Clone(p)
	w.put(len(line), func() { _, _ = w.to.Write(line) })
	return len(line), nil
}
