// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/broker/askpassword"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/plymouth"
	"github.com/pamprompt/pamprompt/broker/polkit"
	"github.com/pamprompt/pamprompt/broker/workers"
	"github.com/pamprompt/pamprompt/policy"
)

// Config is what New needs.
type Config struct {
	Address      string        // D-Bus address list of the bus to serve on
	Pool         *workers.Pool // listening; Run serves and closes it
	Log          *slog.Logger
	Version      string
	CloseTimeout time.Duration // how long PAM may take to unwind; at least a second
	Ready        func()        // called once when the name is taken and calls are served
	// AskPassword is the directory where systemd's password agents look for
	// questions; empty for none. With it, the boot splash is told too.
	AskPassword string
	UserFiles   UserFiles
	// Rules are what policy follows at first; nil for none. See SetRules.
	Rules *policy.Rules
	// Alone says that the bus is the broker's own: nobody could come back to a
	// session after Run, so it closes them all.
	Alone bool
}

// UserFiles says whether prompts about a user also go to the user's own
// ask-password directory, for agents of that user.
type UserFiles string

// The values of UserFiles.
const (
	UserFilesAuto UserFiles = "auto" // when a systemd runs that has such agents
	UserFilesYes  UserFiles = "yes"
	UserFilesNo   UserFiles = "no"
)

// ErrBusLost says that the connection to the bus ended.
var ErrBusLost = errors.New("the connection to the bus was lost")

// Broker is the owner of all state. Its exported methods may be called from
// any goroutine.
type Broker struct {
	config Config
	log    *slog.Logger
	bus    *bus.Conn
	admin  uint32               // besides root: the uid that we run as
	files  *askpassword.Adapter // nil without a directory for them
	splash *plymouth.Screen     // nil without files

	rules     atomic.Pointer[policy.Rules]
	polkit    *polkit.Authority
	reviewing atomic.Bool // a review follows polkit's hint
	accounts  *accounts
	refusals  refusals

	aside     sync.WaitGroup  // what runs beside the owner,
	running   context.Context // until this ends,
	stopAside func()          // by this

	named   chan struct{} // closed when the name is ours: what is sent before is believed by nobody
	rebuilt chan struct{} // closed when the sessions of workers that had waited for us are known

	numbers   *numbers
	responses *responses
	pipes     pipes

	// The queue of the owner. post never blocks.
	mu      sync.Mutex
	queue   []func()
	stopped bool
	wakeup  chan struct{}

	// What follows belongs to the owner's goroutine.
	sessions  map[uint64]*session
	prompts   map[uint64]*prompt
	answered  recent
	clients   map[string]*client // by unique name
	usage     map[uint32]*usage  // by uid
	live      int                // sessions that have not ended
	ended     []*session         // in the order of their ends
	removed   recent             // sessions that were forgotten
	agents    map[*client]struct{}
	shown     counts // as last said in PropertiesChanged
	inquiries map[*askpassword.Inquiry]*prompt
	openings  openings
	askings   askings
	gates     map[gateKey]*gate
	screens   uint64 // transactions that there have been: each has texts of its own on the splash
	userFiles bool   // prompts go to users' own directories too
}

// New connects to the bus, and serves calls from then on. The name is taken by
// Run.
func New(ctx context.Context, config Config) (*Broker, error) {
	b := &Broker{
		config:    config,
		log:       config.Log,
		admin:     uint32(os.Geteuid()),
		named:     make(chan struct{}),
		rebuilt:   make(chan struct{}),
		numbers:   newNumbers(),
		wakeup:    make(chan struct{}, 1),
		sessions:  make(map[uint64]*session),
		prompts:   make(map[uint64]*prompt),
		clients:   make(map[string]*client),
		usage:     make(map[uint32]*usage),
		agents:    make(map[*client]struct{}),
		inquiries: make(map[*askpassword.Inquiry]*prompt),
		openings:  make(openings),
		askings:   make(askings),
		gates:     make(map[gateKey]*gate),
		accounts:  newAccounts(config.Pool.AccountName),
	}
	b.rules.Store(config.Rules)
	var err error
	if b.responses, err = newResponses(); err != nil {
		return nil, err
	}
	var stop context.CancelFunc
	b.running, stop = context.WithCancel(context.WithoutCancel(ctx))
	b.stopAside = stop
	if config.AskPassword != "" {
		b.files = askpassword.New(config.AskPassword, config.Log, inbox{b})
		b.splash = plymouth.New(config.Log)
		b.userFiles = config.UserFiles == UserFilesYes
	}
	// Calls need b.bus; none comes before the name is taken, save from
	// somebody who guesses our unique name, and they wait in the handler.
	connected := make(chan struct{})
	conn, err := bus.Dial(ctx, config.Address, bus.Options{
		Log: config.Log,
		Handler: func(ctx context.Context, call *bus.Call) ([]any, error) {
			<-connected
			select {
			case <-b.rebuilt:
				return b.dispatch(ctx, call)
			case <-b.running.Done():
				return nil, errNotServing
			}
		},
		Gone: func(p *bus.Peer) { b.post(func() { b.left(p) }) },
	})
	b.bus = conn
	if err == nil {
		b.polkit = polkit.New(conn, config.Log)
	}
	close(connected)
	if err != nil {
		stop()
		b.responses.stop()
		return nil, err
	}
	b.aside.Go(func() { b.responses.run(b.running) })
	return b, nil
}

// Run serves workers and calls until the context ends (nil) or the bus is lost
// (ErrBusLost). Sessions live on in their workers, unless the broker is alone.
func (b *Broker) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := b.config.Pool.Serve(b.adoptInTime); err != nil {
			b.log.Error("the worker socket failed", "error", err)
		}
	})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		b.own(stop)
	}()
	err := b.serve(ctx, b.startAside)
	if b.config.Alone {
		b.closeSessions()
	}
	b.stopAside()
	_ = b.bus.Close()
	close(stop)
	<-stopped
	b.config.Pool.Close() // last, so that no session is taken for lost
	wait.Wait()
	b.aside.Wait()
	return err
}

// startAside starts what listens to polkit, and what talks to agents that know no
// D-Bus.
func (b *Broker) startAside() {
	if err := b.polkit.Watch(b.running, b.polkitChanged); err != nil {
		b.log.Warn("polkit's changes are not noticed", "error", err)
	}
	if b.files == nil {
		return
	}
	b.aside.Go(func() { b.files.Run(b.running) })
	b.aside.Go(func() { b.splash.Run(b.running) })
	if b.config.UserFiles == UserFilesAuto {
		b.aside.Go(func() { b.askSystemd(b.running) })
	}
}

// serve takes the name when the owner runs, so that whoever sees the name finds
// somebody at home. A broker that does not get the name touches nothing.
func (b *Broker) serve(ctx context.Context, named func()) error {
	if err := b.bus.Own(ctx, api.BusName); err != nil {
		return fmt.Errorf("take the name %s: %w", api.BusName, err)
	}
	close(b.named)
	named()
	b.log.Info("serving", "name", api.BusName, "version", b.config.Version)
	b.awaitReturns(ctx)
	b.config.Ready()
	select {
	case <-ctx.Done():
		return nil
	case <-b.bus.Done():
		return ErrBusLost
	}
}

// closeSessions closes every session and waits until all have ended, which
// takes at most until the last worker is killed.
func (b *Broker) closeSessions() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*b.config.CloseTimeout+killAfter+time.Second)
	defer cancel()
	for {
		var open *session
		var changed chan struct{}
		b.do(func() {
			for _, s := range b.sessions {
				if !s.over() {
					s.close("the broker stopped")
					open, changed = s, s.changed
				}
			}
		})
		if open == nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// own runs what is queued, one after the other.
func (b *Broker) own(stop <-chan struct{}) {
	for {
		select {
		case <-b.wakeup:
			b.drain()
		case <-stop:
			b.mu.Lock()
			b.stopped = true
			b.mu.Unlock()
			b.drain()
			b.stopTimers()
			b.closeGates()
			return
		}
	}
}

func (b *Broker) drain() {
	for {
		b.mu.Lock()
		queue := b.queue
		b.queue = nil
		b.mu.Unlock()
		if len(queue) == 0 {
			b.showCounts()
			return
		}
		for _, f := range queue {
			f()
		}
	}
}

// post queues f for the owner and does not wait. A panic in f ends the
// process: the state is rebuilt from the workers.
func (b *Broker) post(f func()) bool {
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		return false
	}
	b.queue = append(b.queue, f)
	b.mu.Unlock()
	select {
	case b.wakeup <- struct{}{}:
	default:
	}
	return true
}

// do has the owner run f and waits until it has; false when the broker has
// stopped and f does not run. A panic in f is the caller's.
func (b *Broker) do(f func()) bool {
	done := make(chan any, 1)
	if !b.post(func() {
		defer func() { done <- recover() }()
		f()
	}) {
		return false
	}
	if p := <-done; p != nil {
		panic(p)
	}
	return true
}

// Alive reports whether the owner still does what it is given, and waits until it
// has or the context ends.
func (b *Broker) Alive(ctx context.Context) bool {
	done := make(chan struct{})
	if !b.post(func() { close(done) }) {
		return false
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *Broker) stopTimers() {
	for _, s := range b.sessions {
		s.stopTimers()
	}
	for c := range b.agents {
		c.vetting.stop()
	}
}
