// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

// slow is how often something that failed is tried again when nobody tells that
// it may work now: a full file system frees, a read-only one is mounted
// writable, descriptors are closed.
const slow = 10 * time.Second

// Events hears of requests of others. Its methods are called from one
// goroutine, in order, and must not wait.
type Events interface {
	// Asked says that somebody asks for something.
	Asked(*Inquiry)
	// Withdrawn says that it is not asked any more: once for each Asked,
	// unless Run ended.
	Withdrawn(*Inquiry, Reason)
}

// Adapter is a directory of requests, for the broker.
type Adapter struct {
	dir    string
	log    *slog.Logger
	events Events
	again  time.Duration

	wakeup chan struct{} // a posting waits to be written, or was closed
	calls  chan func()   // for Run's goroutine, from the adapter's others
	done   chan struct{} // closed when Run ends
	wait   sync.WaitGroup

	mu      sync.Mutex
	wanted  []*Posting // in the order of their numbers
	number  uint64     // of the last one
	written uint64     // of the last one that was written, and all before it
	stopped bool

	// What follows belongs to Run's goroutine.
	place     *protocol.Place // nil while there is none
	swept     bool            // what a dead process left in place
	unread    bool            // place is to be looked through
	watcher   *watcher        // nil while there is none
	watch     int32           // of place; 0 is none
	ancestors map[change]struct{}
	mounts    *os.File

	inquiries  map[string]*asked        // by the name of the file
	dead       map[string]protocol.Mark // files that outlived their process
	complaints map[string]protocol.Mark // files that the log knows of
	tooMany    bool                     // files are wrong that the log does not know of
	crowded    bool                     // requests are ignored for want of room

	failing bool             // and the log knows
	stirred bool             // something has changed, so that it may work now
	tick    <-chan time.Time // when to try again; nil while nothing failed
}

// New makes an adapter for a directory, which need not be there. It does
// nothing before Run.
func New(dir string, log *slog.Logger, events Events) *Adapter {
	return &Adapter{
		dir:        filepath.Clean(dir),
		log:        log,
		events:     events,
		again:      slow,
		wakeup:     make(chan struct{}, 1),
		calls:      make(chan func()),
		done:       make(chan struct{}),
		inquiries:  make(map[string]*asked),
		dead:       make(map[string]protocol.Mark),
		complaints: make(map[string]protocol.Mark),
	}
}

// Run removes what a dead broker left, writes what is posted and watches the
// directory, until the context ends; then it removes what is ours. It runs once.
func (a *Adapter) Run(ctx context.Context) {
	defer a.end()
	a.watchMounts()
	a.settle()
	for {
		if a.tick == nil || a.stirred {
			a.stirred = false
			a.post()
		}
		a.fill()
		select {
		case <-ctx.Done():
			return
		case <-a.wakeup:
			a.stirred = true
		case f := <-a.calls:
			f()
		case <-a.tick:
			a.retry()
		}
	}
}

// end undoes Run.
func (a *Adapter) end() {
	close(a.done) // first: nobody who is waited for below waits for us
	a.stopPostings()
	for _, q := range a.inquiries {
		q.release()
	}
	if a.place != nil {
		a.place.Close()
	}
	if a.watcher != nil {
		a.watcher.close()
	}
	if a.mounts != nil {
		_ = a.mounts.Close()
	}
	a.wait.Wait()
}

// call has Run's goroutine run f, and waits until it does so or Run ends.
func (a *Adapter) call(f func()) {
	select {
	case a.calls <- f:
	case <-a.done:
	}
}

func (a *Adapter) wake() {
	select {
	case a.wakeup <- struct{}{}:
	default:
	}
}

// fail says once that something does not work, and sees to it that it is tried
// again. What failed must be found by retry.
func (a *Adapter) fail(err error) {
	if !a.failing {
		a.failing = true
		a.log.Warn("agents for passwords cannot be reached, or only in part; this is tried again", "directory", a.dir, "error", err)
	}
	if a.tick == nil {
		a.tick = time.After(a.again)
	}
}

// retry tries again what failed. That all is well is said here and no earlier,
// so that what works and fails by turns does not fill the log.
func (a *Adapter) retry() {
	a.tick = nil
	a.settle()
	a.post()
	a.fill()
	if a.tick == nil {
		a.failing = false
		_ = a.place.Sweep() // what was closed while nothing could be removed
		a.log.Info("agents for passwords can be reached again", "directory", a.dir)
	}
}
