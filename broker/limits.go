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

// openings counts who opened how many sessions of late.
type openings map[uint32]*rate.Limiter

// take is an error for a uid that opens too many.
func (o openings) take(uid uint32, now time.Time) error {
	l := o[uid]
	if l == nil {
		l = rate.NewLimiter(rate.Every(openEvery), openBurst)
		o[uid] = l
	}
	if !l.AllowN(now, 1) {
		return &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf(
			"uid %d opened %d sessions at once: wait %v before each further one", uid, openBurst, openEvery)}
	}
	for other, l := range o { // forget a few of those who have not for a while
		if other != uid && l.TokensAt(now) >= openBurst {
			delete(o, other)
		}
	}
	return nil
}
