// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/pamprompt/pamprompt/api"
)

// limits are what one uid may have at once.
type limits struct{ sessions, prompts, agents int }

// The admin's limits are there to bound memory, not people.
var (
	userLimits  = limits{sessions: 32, prompts: 16, agents: 16}
	adminLimits = limits{sessions: 16384, prompts: 16384, agents: 1024}
)

// How many sessions a uid may open: so many at once, and then one a second.
const (
	openBurst = 20
	openEvery = time.Second
)

func (b *Broker) limits(uid uint32) limits {
	if b.isAdmin(uid) {
		return adminLimits
	}
	return userLimits
}

// usage is what is charged to a uid.
type usage struct{ sessions, prompts, agents int }

// charge finds what is charged to a uid, to be changed. Who takes something off
// it calls settle.
func (b *Broker) charge(uid uint32) *usage {
	u := b.usage[uid]
	if u == nil {
		u = new(usage)
		b.usage[uid] = u
	}
	return u
}

func (b *Broker) settle(uid uint32) {
	if u := b.usage[uid]; u != nil && *u == (usage{}) {
		delete(b.usage, uid)
	}
}

// How many questions and texts a uid may have in its conversations: so many at once,
// and then twenty a second. A number that a question used up is one less for all.
const (
	askBurst = 100
	askEvery = time.Second / 20
)

// rates counts who did something how often of late.
type rates map[uint32]*rate.Limiter

// take is whether a uid may n times more.
func (r rates) take(uid uint32, n int, now time.Time, burst int, every time.Duration) bool {
	l := r[uid]
	if l == nil {
		l = rate.NewLimiter(rate.Every(every), burst)
		r[uid] = l
	}
	if !l.AllowN(now, n) {
		return false
	}
	for other, l := range r { // forget a few of those who have not for a while
		if other != uid && l.TokensAt(now) >= float64(burst) {
			delete(r, other)
		}
	}
	return true
}

// openings counts who opened how many sessions of late.
type openings rates

// take is an error for a uid that opens too many; n is how many it opens now.
func (o openings) take(uid uint32, n int, now time.Time) error {
	if rates(o).take(uid, n, now, openBurst, openEvery) {
		return nil
	}
	return &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf(
		"uid %d opened %d sessions at once: wait %v before each further one", uid, openBurst, openEvery)}
}

// askings counts who asked how often of late.
type askings rates

// take is an error for a uid that asks too often.
func (a askings) take(uid uint32, now time.Time) error {
	if rates(a).take(uid, 1, now, askBurst, askEvery) {
		return nil
	}
	return &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf(
		"uid %d asked %d times at once: wait %v before each further time", uid, askBurst, askEvery)}
}
