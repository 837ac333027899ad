// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"cmp"
	"slices"
	"sync"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

// Posting is a question of ours that is to stand in the directory for as long
// as it is not closed, whatever happens to the directory.
type Posting struct {
	adapter *Adapter
	number  uint64
	request protocol.Request
	replied func(protocol.Reply)

	mu     sync.Mutex       // held while files are made or removed
	posted *protocol.Posted // nil while there are none
	closed bool
}

// Post has a question written into the directory, after those that were posted
// before. It does not wait for that: Run's goroutine does it, when it can, and
// says nothing if it cannot yet. Replies of agents go to replied, from any
// goroutine, one after the other.
func (a *Adapter) Post(r protocol.Request, replied func(protocol.Reply)) *Posting {
	p := &Posting{adapter: a, request: r, replied: replied}
	a.mu.Lock()
	a.number++
	p.number = a.number
	if !a.stopped {
		a.wanted = append(a.wanted, p)
	}
	a.mu.Unlock()
	a.wake()
	return p
}

// Close takes the question back: when it returns, file and socket are gone, and
// are not made any more. It waits at most for the writing of these two. A reply
// that came before can still be on its way to replied.
func (p *Posting) Close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.closed = true
	p.posted.Close()
	p.posted = nil
	p.mu.Unlock()
	// Only now: what is wanted keeps the directory open.
	p.adapter.forget(p)
}

// forget drops a posting that was closed. That may have made room for another.
func (a *Adapter) forget(p *Posting) {
	a.mu.Lock()
	if i, found := a.find(p.number); found {
		a.wanted = slices.Delete(a.wanted, i, i+1)
	}
	waiting := a.next() != nil
	a.mu.Unlock()
	if waiting {
		a.wake()
	}
}

// find looks for a number in wanted, with the lock held.
func (a *Adapter) find(number uint64) (int, bool) {
	return slices.BinarySearchFunc(a.wanted, number, func(p *Posting, n uint64) int { return cmp.Compare(p.number, n) })
}

// next is the first posting that has not been written, with the lock held.
func (a *Adapter) next() *Posting {
	if i, _ := a.find(a.written + 1); i < len(a.wanted) {
		return a.wanted[i]
	}
	return nil
}

// post writes what has not been written yet, up to the first that fails: what
// keeps one from being written keeps all.
func (a *Adapter) post() {
	for a.place != nil {
		a.mu.Lock()
		p := a.next()
		a.mu.Unlock()
		if p == nil {
			return
		}
		if err := p.write(a.place); err != nil {
			a.fail(err)
			return
		}
		a.mu.Lock()
		a.written = p.number
		a.mu.Unlock()
	}
}

func (p *Posting) write(place *protocol.Place) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.posted, err = place.Post(p.request, p.deliver)
	return err
}

// deliver hands on a reply, unless the question has been closed meanwhile.
func (p *Posting) deliver(r protocol.Reply) {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if !closed {
		p.replied(r)
	} else if r.Answer != nil {
		r.Answer.Wipe()
	}
}

// unpost removes what was written. The posting stays wanted.
func (p *Posting) unpost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.posted.Close()
	p.posted = nil
}

// unpostAll removes everything of ours from the directory that is place. Until
// it returns the directory must be open.
func (a *Adapter) unpostAll() {
	a.mu.Lock()
	wanted := slices.Clone(a.wanted)
	a.written = 0
	a.mu.Unlock()
	for _, p := range wanted {
		p.unpost()
	}
}

// stopPostings is unpostAll for good.
func (a *Adapter) stopPostings() {
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	a.unpostAll()
	a.mu.Lock()
	a.wanted = nil
	a.mu.Unlock()
}
