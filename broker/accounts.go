// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"sync"
	"time"
)

const (
	// keepName is how long the name of an account is believed.
	keepName = 10 * time.Second
	// nameTimeout bounds the question for it; NSS may hang.
	nameTimeout = 5 * time.Second
	// maxNames bounds how many are remembered.
	maxNames = 1024
)

// accounts remembers names of accounts for a short while: who calls often must
// not hold the idle workers, which alone can look a name up. Its methods may be
// called from any goroutine.
type accounts struct {
	look func(ctx context.Context, uid uint32) (string, error)

	mu sync.Mutex
	by map[uint32]*account
}

type account struct {
	mu   sync.Mutex // held while it is looked up
	name string
	till time.Time
}

func newAccounts(look func(context.Context, uint32) (string, error)) *accounts {
	return &accounts{look: look, by: make(map[uint32]*account)}
}

// name is the name of the account with a uid, empty when there is none. An error
// is remembered by nobody.
func (a *accounts) name(ctx context.Context, uid uint32) (string, error) {
	entry := a.entry(uid)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	if time.Now().Before(entry.till) {
		return entry.name, nil
	}
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	name, err := a.look(ctx, uid)
	if err != nil {
		return "", err
	}
	entry.name, entry.till = name, time.Now().Add(keepName)
	return name, nil
}

func (a *accounts) entry(uid uint32) *account {
	a.mu.Lock()
	defer a.mu.Unlock()
	entry := a.by[uid]
	if entry == nil {
		if len(a.by) >= maxNames {
			clear(a.by)
		}
		entry = new(account)
		a.by[uid] = entry
	}
	return entry
}
