// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"strings"

	"github.com/pamprompt/pamprompt/policy"
)

// maxRecent is how many ended prompts are remembered, so that a late answer
// hears what happened; and how many sessions, so that none comes out of its end.
const maxRecent = 4096

// past is a prompt that has ended, or a session, of which the number is all.
type past struct {
	number  uint64
	object  policy.Object
	outcome string
}

// recent remembers what ended last. The zero value is empty.
type recent struct {
	ring []past
	next int
	at   map[uint64]int
}

func (r *recent) add(p past) {
	// godbus cuts the strings of a message from buffers of 4 KiB, and each string keeps
	// its whole buffer: thousands of them, for a few letters of each.
	p.object.Service, p.object.User = strings.Clone(p.object.Service), strings.Clone(p.object.User)
	if r.at == nil {
		r.at = make(map[uint64]int)
	}
	if len(r.ring) < maxRecent {
		r.at[p.number] = len(r.ring)
		r.ring = append(r.ring, p)
		return
	}
	delete(r.at, r.ring[r.next].number)
	r.ring[r.next] = p
	r.at[p.number] = r.next
	r.next = (r.next + 1) % maxRecent
}

func (r *recent) find(number uint64) (past, bool) {
	i, ok := r.at[number]
	if !ok {
		return past{}, false
	}
	return r.ring[i], true
}
